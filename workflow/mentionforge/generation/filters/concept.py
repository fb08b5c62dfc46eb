"""Filters that ask whether a note is about its concept: names of other concepts, and an encoder's ranking. They compare with the knowledge base's names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.generation import markers
from mentionforge.generation.filters.contract import WORD, FilterSettings, Note, Reasons, Surroundings
from mentionforge.text import normalize_surface

VERSIONS = {"contradiction": 1, "agreement": 2}
"""Of the parts filter.*: raise that of one where its earlier results would be wrong (mentionforge.versions)."""


class Contradiction(FilterSettings):
    """Drops notes in which the model tagged a name of another concept that is none of this one's."""

    untagged: bool = Field(False, description="Also drop notes whose first located mention overlaps a longer name of another concept.")


def contradiction(notes: Sequence[Note], settings: Contradiction, around: Surroundings) -> Reasons:
    """A tagged name of another concept; or, if asked for, a mention inside a longer name of another concept."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for concept in around.known.values():
        for name in concept.names:
            owners[normalize_surface(name)].add(concept.cui)
    longest = max((name.count(" ") + 1 for name in owners), default=0)
    found = {}
    for note in notes:
        text, tagged = markers.strip(note.raw)
        for tag in tagged:
            if any(m["start"] < tag.end and tag.start < m["end"] for m in note.mentions):
                continue  # a shorter name inside a mention of the concept itself
            others = owners.get(normalize_surface(text[tag.start : tag.end]), set())
            if tag.closed and others and note.cui not in others:
                found[note.note_id] = f"tagged at character {tag.start}: a name of {min(others)}"
                break
        if settings.untagged and note.note_id not in found and note.mentions:
            larger = _inside(note, owners, longest)
            if larger:
                found[note.note_id] = larger
    return found


def _inside(note: Note, owners: Mapping[str, set[str]], longest: int) -> str | None:
    """Whether the first mention is part of a longer name that is none of the note's concept."""
    first = min(note.mentions, key=lambda m: m["start"])
    spans = [m.span() for m in WORD.finditer(note.text)]
    touched = [i for i, (a, b) in enumerate(spans) if a < first["end"] and first["start"] < b]
    for begin in range(max(0, touched[-1] - longest + 1), touched[0] + 1):
        for end in range(min(len(spans), begin + longest), touched[-1], -1):
            if end - begin > len(touched):
                others = owners.get(normalize_surface(note.text[spans[begin][0] : spans[end - 1][1]]), set())
                if others and note.cui not in others:
                    return f"mention at character {first['start']} is part of a name of {min(others)}"
    return None


class Agreement(FilterSettings):
    """Drops mentions, and notes left without any, for which the encoder does not rank the note's concept among the first."""

    reads_encoder: ClassVar[bool] = True

    k: int = Field(10, ge=1, description="Rank, among all concepts of the knowledge base, that the note's concept must reach.")
    by: Literal["mention", "context"] = Field("mention", description="What is compared with the names: the mention alone, or its tokens in the note around it.")


def agreement(notes: Sequence[Note], settings: Agreement, around: Surroundings) -> Reasons:
    """Mentions whose concept is not among the first k by the encoder's similarity to all names; notes left without any are dropped."""
    import faiss
    import numpy as np

    from mentionforge.encoders import Encoder
    from mentionforge.normalization.ties import EQUAL, levelled

    assert around.encoder, "the rule gives the encoder where it is needed"
    weights, chosen = around.encoder
    names = sorted((normalize_surface(name), concept.cui) for concept in around.known.values() for name in concept.names)
    mentions = [(i, mention) for i, note in enumerate(notes) for mention in note.mentions]
    if not mentions:
        return {}
    model = Encoder(weights, chosen.pooling, chosen.max_tokens, chosen.batch_size, markers=chosen.markers)
    distinct = sorted({name for name, _ in names})
    if settings.by == "context":
        windows = model.contexts([note.text for note in notes], [(i, [(m["start"], m["end"])]) for i, m in mentions])
    else:
        windows = model.strings([normalize_surface(m["surface"]) for _, m in mentions])
    # An encoder of marked mentions reads a name as a mention that is its own context, as a `context` linker does.
    marked = settings.by == "context" and model.markers is not None
    inputs = model.contexts(distinct, [(i, [(0, len(name))]) for i, name in enumerate(distinct)]) if marked else model.strings(distinct)
    vectors = model.encode(inputs, "names embedded").dense()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    queries = model.encode(windows, "mentions embedded")
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for name, cui in names:
        owners[name].append(cui)
    # A concept's rank is 1 + the number of other concepts with a more similar name. Concepts that share the name do not outrank it.
    depth = min(len(distinct), 64 * settings.k)
    similarity, rows = index.search(queries.vectors, depth)
    ranks: list[dict[str, int]] = []
    # Equal up to float noise is equal, whatever is asked in the same search.
    levels = levelled(np.repeat(np.arange(len(rows)), depth), similarity.ravel().astype(np.float64), np.full(len(rows), EQUAL)).reshape(similarity.shape)
    for scores, found in zip(levels, rows, strict=True):
        best: dict[str, float] = {}
        for score, row in zip(scores.tolist(), found.tolist(), strict=True):
            for cui in owners[distinct[row]]:
                best.setdefault(cui, score)
        ordered = sorted(best.values(), reverse=True)
        ranks.append({cui: 1 + ordered.index(score) for cui, score in best.items()})
    of_note: defaultdict[int, dict[int, int | None]] = defaultdict(dict)
    for (i, mention), row in zip(mentions, queries.rows.tolist(), strict=True):
        of_note[i][mention["start"]] = ranks[row].get(notes[i].cui)
    dropped = {}
    for i, note in enumerate(notes):
        bad = {start: rank for start, rank in of_note[i].items() if rank is None or rank > settings.k}
        if len(bad) == len(of_note[i]):
            worst = min((rank for rank in bad.values() if rank), default=None)
            dropped[note.note_id] = f"rank {worst} by the {settings.by}" if worst else f"not among the nearest {depth} names by the {settings.by}"
        else:
            around.disagreeing.update((note.note_id, start) for start in bad)
    return dropped
