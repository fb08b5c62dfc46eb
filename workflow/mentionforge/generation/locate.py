"""Locating: where a note mentions its concept. Notes become text without tags, mention spans, and a funnel of what was lost.

The model's own tags come first, and what they take is left alone; then the longest of all other hits win:

1. `tag`: a tagged stretch that is a known name of the concept, a near variant of one, an initialism of one, or, where
   `tag_similarity` is given, near one in an encoder's space. Any other tag is taken off, and the next steps decide.
2. `exact`: the preferred name. 3. `synonym`: any other name. Both at word boundaries, in any case, with blanks and hyphens
   interchangeable and an article after "of"; abbreviations and names of ordinary words in their own case only.
4. `fuzzy`: as many words as the name, each the same but for number (Latin, too), numerals, possessive, spelling (ae/e), accents or a hyphen, or a slip
   of the pen; in the name's order, or in another of English ("deficiency of X", "X deficiency", "deficiency, X"). Slips are counted against the name's
   length; a spelling that sounds alike is one. None replaces a word's first letter ("repression" is no misspelt "depression"), and none turns one word
   into another: one of the knowledge base, one that differs by a part that means something (see `confusion`), or, where a name is a single word, any
   word that is in use.

An abbreviation is no hit where it means something else ("CVA tenderness"); see `confusion.elsewhere`.
What "non-" stands before is no hit unless the name has it: non-Hodgkin lymphoma is no Hodgkin lymphoma. All hits in a note are kept, the longest
first, none overlapping. Names are looked for in the note's `text.view`; spans are 0-based characters into the text without tags as it is, end
exclusive. The same function locates the controls' mentions.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.generation import concepts, markers
from mentionforge.generation import funnel as funnels
from mentionforge.generation.concepts import Concept, fold, words_of
from mentionforge.generation.kinds import Generator
from mentionforge.generation.matching import Matcher, Mention
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions
from mentionforge.specs import read_spec
from mentionforge.text import Span, normalize_surface, sentences

VERSION = 3
"""Of the part generation.locate: raise it where earlier results would be wrong (mentionforge.versions)."""

__all__ = ["Matcher", "Mention", "locate_notes"]


def locate_notes(spec: Path, kb: Path, prompts: Path, notes: Path, out: Path, encoder: Path | None = None) -> dict[str, Any]:
    """Locate the mentions of all notes of a generator, and write located, mentions and rejected .parquet and funnel.json.

    Args:
        spec: Spec file of the generator, part `locate`.
        kb: Folder of the knowledge base's tables.
        prompts: Table `prompts`.
        notes: Table `notes`.
        out: Folder to write to.
        encoder: Stamp of the encoder's weights, where locate.tag_similarity is given.

    Returns:
        The funnel; see `mentionforge.generation.funnel`.

    Raises:
        UserError: A note's concept is not in the knowledge base.
    """
    generator: Generator = read_spec(spec, Generator)
    prompted = tables.read(tables.PROMPTS, prompts)["cui"].to_pylist()
    rows = tables.read(tables.NOTES, notes).to_pylist()
    known = concepts.load(kb)
    unknown = sorted({row["cui"] for row in rows} - set(known))
    if unknown:
        raise UserError("unknown concept", str(notes), f"{', '.join(unknown[:5])} not in {kb}", "delete the file and rerun the workflow")
    vocabulary = {fold(word.casefold()) for concept in known.values() for name in concept.names for word, _ in words_of(name)}

    alike = _alike(rows, known, vocabulary, generator, encoder)
    located, found, rejected = [], [], []
    counts: Counter[str] = Counter()
    matcher, current = None, None
    with track("notes searched", len(rows)) as tick:
        for row in rows:  # sorted by note id, hence by concept
            if matcher is None or row["cui"] != current:
                current = row["cui"]
                matcher = Matcher(known[current], generator.locate, vocabulary)
            text, tagged = markers.strip(row["text"])
            counts["with_tags"] += markers.has_mark(row["text"])
            counts["finished_by_length"] += row["finish_reason"] == "length"
            mentions = matcher.find(text, tagged, alike.get(current, {}))
            key = {"note_id": row["note_id"], "cui": row["cui"]}
            if mentions:
                located.append(key | {"text": text})
            else:
                rejected.append(key | {"reason": "no_mention" if text else "empty"})
            for m in mentions:
                surface = text[m.start : m.end]
                assert surface and surface == surface.strip(), key
                found.append(key | {"start": m.start, "end": m.end, "surface": surface, "match": m.match, "score": m.score})
                counts["unlisted"] += normalize_surface(surface) not in matcher.known
            tick()
    split: Iterator[list[Span]] = sentences(row["text"] for row in located)
    for row, spans in zip(located, split, strict=True):
        row["sentences"] = [{"start": a, "end": b} for a, b in spans]

    made = stamp("generation locate", {"spec": spec, "prompts": prompts, "notes": notes, **concepts.tables_of(kb)}, versions=versions("biosenter", "rapidfuzz"))
    tables.write(tables.LOCATED, out / "located.parquet", located, made)
    tables.write(tables.SYNTHETIC_MENTIONS, out / "mentions.parquet", found, made)
    tables.write(tables.REJECTED, out / "rejected.parquet", rejected, made)
    made_of = funnels.Counted(prompted, len(rows), counts["finished_by_length"], counts["with_tags"], counts["unlisted"])
    funnel = funnels.funnel(made_of, found, rejected)
    funnels.write_json(out / "funnel.json", funnel)
    say(
        f"{len(located):,} of {len(rows):,} notes have {len(found):,} mentions, by best match: "
        + ", ".join(f"{m} {n:,}" for m, n in funnel["located_by_match"].items())
    )
    return funnel


def _alike(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, Concept], vocabulary: Collection[str], generator: Any, encoder: Path | None
) -> dict[str, dict[str, float]]:
    """Tagged surfaces that are no name, but near one in the encoder's space: by concept, with 100 times the cosine."""
    least = generator.locate.tag_similarity
    if least is None:
        return {}
    assert encoder, "the rule gives the encoder where it is needed"
    doubtful: dict[str, set[str]] = {}
    for cui, notes in itertools.groupby(rows, key=lambda row: row["cui"]):
        matcher = Matcher(known[cui], generator.locate, vocabulary)
        found = {surface for note in notes for surface in matcher.doubtful(*markers.strip(note["text"]))}
        if found:
            doubtful.setdefault(cui, set()).update(found)
    pairs = [(cui, surface) for cui, surfaces in sorted(doubtful.items()) for surface in sorted(surfaces)]
    if not pairs:
        return {}
    from mentionforge.encoders import Encoder

    settings = generator.encoder
    model = Encoder(encoder, settings.pooling, settings.max_tokens, settings.batch_size, markers=settings.markers)
    names = [(cui, name) for cui in sorted(doubtful) for name in known[cui].names]
    vectors = model.encode(model.strings([text for _, text in (*pairs, *names)]), "tags compared").dense()
    rows_of: dict[str, list[int]] = {}
    for i, (cui, _) in enumerate(names):
        rows_of.setdefault(cui, []).append(len(pairs) + i)
    accepted: dict[str, dict[str, float]] = {}
    for i, (cui, surface) in enumerate(pairs):
        cosine = float((vectors[rows_of[cui]] @ vectors[i]).max())
        if cosine >= least:
            accepted.setdefault(cui, {})[surface] = round(100 * min(1.0, cosine), 1)
    say(f"{sum(map(len, accepted.values())):,} of {len(pairs):,} tagged surfaces that are no names are near one")
    return accepted
