"""Filters that check whether a note is about its concept: `contradiction` (names of other concepts) and `agreement` (an encoder's ranking of concepts).

In: notes with mentions, and the names of all concepts of the knowledge base. Out: reasons for dropped notes. Knows nothing about other texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.generation import markers
from mentionforge.generation.filters.contract import WORD, FilterContext, FilterSettings, Note, Reasons
from mentionforge.text import normalize_surface

VERSIONS = {"contradiction": 1, "agreement": 2}
"""Versions of the parts filter.*: raise one if its earlier results would be wrong (mentionforge.versions)."""


class Contradiction(FilterSettings):
    """Drops notes in which the model tagged a name of another concept that is none of this one's."""

    untagged: bool = Field(False, description="Also drop notes whose first located mention overlaps a longer name of another concept.")


def contradiction(notes: Sequence[Note], settings: Contradiction, context: FilterContext) -> Reasons:
    """Drop notes with a tagged name of another concept or, with `untagged`, whose first mention is inside a longer name of another concept."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for concept in context.known.values():
        for name in concept.names:
            owners[normalize_surface(name)].add(concept.cui)
    longest = max((name.count(" ") + 1 for name in owners), default=0)
    reasons = {}
    for note in notes:
        text, tagged = markers.strip(note.raw)
        for tag in tagged:
            if any(m["start"] < tag.end and tag.start < m["end"] for m in note.mentions):
                continue  # a shorter name inside a mention of the concept itself
            others = owners.get(normalize_surface(text[tag.start : tag.end]), set())
            if tag.closed and others and note.cui not in others:
                reasons[note.note_id] = f"tagged at character {tag.start}: a name of {min(others)}"
                break
        if settings.untagged and note.note_id not in reasons and note.mentions:
            reason = _longer_name_around(note, owners, longest)
            if reason:
                reasons[note.note_id] = reason
    return reasons


def _longer_name_around(note: Note, owners: Mapping[str, set[str]], longest: int) -> str | None:
    """The reason to drop a note if its first mention is inside a longer name of another concept (in words, at most `longest`); else none."""
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


def agreement(notes: Sequence[Note], settings: Agreement, context: FilterContext) -> Reasons:
    """Drop mentions whose concept is not among the k concepts with the most similar names, and notes that keep no mention."""
    import faiss
    import numpy as np

    from mentionforge.encoders import Encoder
    from mentionforge.ties import EQUAL, level_ties

    assert context.encoder, "the rule gives the encoder where it is needed"
    weights, encoder_settings = context.encoder
    names = sorted((normalize_surface(name), concept.cui) for concept in context.known.values() for name in concept.names)
    mentions = [(i, mention) for i, note in enumerate(notes) for mention in note.mentions]
    if not mentions:
        return {}
    model = Encoder(weights, encoder_settings.pooling, encoder_settings.max_tokens, encoder_settings.batch_size, markers=encoder_settings.markers)
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
    # A concept's rank is 1 + the number of other concepts with a more similar name. Concepts that share its name do not outrank it.
    depth = min(len(distinct), 64 * settings.k)
    similarity, rows = index.search(queries.vectors, depth)
    ranks: list[dict[str, int]] = []
    # Similarities that differ by float noise only count as equal, so that ranks do not depend on the other queries of a search.
    levels = level_ties(np.repeat(np.arange(len(rows)), depth), similarity.ravel().astype(np.float64), np.full(len(rows), EQUAL)).reshape(similarity.shape)
    for scores, neighbours in zip(levels, rows, strict=True):
        best: dict[str, float] = {}
        for score, row in zip(scores.tolist(), neighbours.tolist(), strict=True):
            for cui in owners[distinct[row]]:
                best.setdefault(cui, score)
        ordered = sorted(best.values(), reverse=True)
        ranks.append({cui: 1 + ordered.index(score) for cui, score in best.items()})
    of_note: defaultdict[int, dict[int, int | None]] = defaultdict(dict)
    for (i, mention), row in zip(mentions, queries.rows.tolist(), strict=True):
        of_note[i][mention["start"]] = ranks[row].get(notes[i].cui)
    dropped = {}
    for i, note in enumerate(notes):
        disagreeing = {start: rank for start, rank in of_note[i].items() if rank is None or rank > settings.k}
        if len(disagreeing) == len(of_note[i]):
            best_rank = min((rank for rank in disagreeing.values() if rank), default=None)
            dropped[note.note_id] = f"rank {best_rank} by the {settings.by}" if best_rank else f"not among the nearest {depth} names by the {settings.by}"
        else:
            context.disagreeing.update((note.note_id, start) for start in disagreeing)
    return dropped
