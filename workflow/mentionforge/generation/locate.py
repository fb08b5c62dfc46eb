"""Locates the mentions of its concept in each note of a generator, whatever its kind.

In: prompts, notes, knowledge base, and an encoder if `tag_similarity` is set. Out: notes without tags, mention spans, rejected notes, funnel.json.
Offsets are 0-based characters of the text without tags, end exclusive. Knows nothing about how notes are written or filtered.
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
from mentionforge.generation.kinds.contract import PlacedNote
from mentionforge.generation.matching import LocatedMention, Matcher
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions
from mentionforge.specs import read_spec
from mentionforge.text import Span, normalize_surface, sentences

VERSION = 3
"""Version of the part generation.locate: raise it if earlier results would be wrong (mentionforge.versions)."""

# What counts as a mention
#
# Tags of the model come first; other matches do not overlap them. Of the other matches, longer ones win. All mentions of a note are kept.
#
# 1. `tag`: a tagged span that is a name of the concept, a near variant or an initialism of a name, or, if `tag_similarity` is set, close to a name in
#    the encoder's space. Any other tag is removed, and steps 2 to 4 decide. Example: `<1CUI> HD </1CUI>` for Huntington disease.
# 2. `exact`: the preferred name. 3. `synonym`: any other name. Both match whole words in any case; blanks and hyphens are interchangeable, and an
#    article may follow "of". Abbreviations and names that are ordinary words match in their own case only.
# 4. `fuzzy`: as many words as the name, each in another form (number, also Latin; numerals; possessive; ae/e; accents; a hyphen) or misspelt. The order is
#    the name's or another of English: "deficiency of X", "X deficiency", "deficiency, X". Slips count against the name's length; a spelling that
#    sounds alike is one slip. The first letter must be right: "repression" is no misspelt "depression". A form that is a word in its own right is
#    no misspelling: a word of the knowledge base, one that differs in a meaningful part (`confusion.confusable`), or any word in use if the name is a
#    single word.
#
# An abbreviation does not match where it means something else ("CVA tenderness", `confusion.has_other_sense`). Nothing matches after "non-" unless the
# name has it: non-Hodgkin lymphoma is no Hodgkin lymphoma. Names are searched for in the note's `text.view`; spans refer to the text itself.

__all__ = ["LocatedMention", "Matcher", "locate_notes"]


def locate_notes(spec: Path, kb: Path, prompts: Path, notes: Path, out: Path, encoder: Path | None = None) -> dict[str, Any]:
    """Locate the mentions in all notes of a generator; write located.parquet, mentions.parquet, rejected.parquet and funnel.json.

    Args:
        spec: Spec file of the generator, step `locate`.
        kb: Folder of the knowledge base's tables.
        prompts: Table `prompts`.
        notes: Table `notes`.
        out: Folder to write to.
        encoder: Stamp of the encoder's weights; needed if locate.tag_similarity is set.

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

    accepted_tags = _tags_near_names(rows, known, vocabulary, generator, encoder) if generator.compares_tags else {}
    located: list[dict[str, Any]] = []
    mentions: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    matcher, current = None, None
    with track("notes searched", len(rows)) as tick:
        for row in rows:  # sorted by note id, hence by concept
            key = {"note_id": row["note_id"], "cui": row["cui"]}
            if placed := generator.placed(row["prompt"], row["text"]):
                located.append(key | {"text": placed.text, "sentences": [{"start": 0, "end": len(placed.text)}]})
                mentions += _placed_rows(key, placed, known[row["cui"]])
                tick()
                continue
            if matcher is None or row["cui"] != current:
                current = row["cui"]
                matcher = Matcher(known[current], generator.locate, vocabulary)
            text, tagged = markers.strip(row["text"])
            counts["with_tags"] += markers.has_mark(row["text"])
            counts["finished_by_length"] += row["finish_reason"] == "length"
            located_mentions = matcher.find(text, tagged, accepted_tags.get(current, {}))
            if located_mentions:
                located.append(key | {"text": text})
            else:
                rejected.append(key | {"reason": "no_mention" if text else "empty"})
            for m in located_mentions:
                surface = text[m.start : m.end]
                assert surface and surface == surface.strip(), key
                mentions.append(key | {"start": m.start, "end": m.end, "surface": surface, "match": m.match, "score": m.score})
                counts["unlisted"] += normalize_surface(surface) not in matcher.known
            tick()
    whole = [row for row in located if "sentences" not in row]
    sentence_spans: Iterator[list[Span]] = sentences(row["text"] for row in whole)
    for row, spans in zip(whole, sentence_spans, strict=True):
        row["sentences"] = [{"start": a, "end": b} for a, b in spans]

    made = stamp("generation locate", {"spec": spec, "prompts": prompts, "notes": notes, **concepts.tables_of(kb)}, versions=versions("biosenter", "rapidfuzz"))
    tables.write(tables.LOCATED, out / "located.parquet", located, made)
    tables.write(tables.SYNTHETIC_MENTIONS, out / "mentions.parquet", mentions, made)
    tables.write(tables.REJECTED, out / "rejected.parquet", rejected, made)
    note_counts = funnels.NoteCounts(prompted, len(rows), counts["finished_by_length"], counts["with_tags"], counts["unlisted"])
    funnel = funnels.funnel(note_counts, [m for m in mentions if m["match"] != tables.GOLD], rejected)
    funnels.write_json(out / "funnel.json", funnel)
    say(
        f"{len(located):,} of {len(rows):,} notes have {funnel['mentions']:,} mentions, by best match: "
        + ", ".join(f"{m} {n:,}" for m, n in funnel["located_by_match"].items())
    )
    return funnel


def _placed_rows(key: Mapping[str, str], note: PlacedNote, concept: Concept) -> Iterator[dict[str, Any]]:
    """Rows of `synthetic_mentions` of a note whose mentions have known places: its own, then the gold mentions that were there before."""
    text, own = note.text, note.own
    surface = text[own.start : own.end]
    assert surface.casefold() == own.name.casefold() and own.name in concept.names, key
    match = "exact" if own.name == concept.preferred else "synonym"
    yield {**key, "start": own.start, "end": own.end, "surface": surface, "match": match, "score": 100.0}
    for m in note.kept:
        yield {**key, "cui": m.cui, "start": m.start, "end": m.end, "surface": text[m.start : m.end], "match": tables.GOLD, "score": 100.0}


def _tags_near_names(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, Concept], vocabulary: Collection[str], generator: Any, encoder: Path | None
) -> dict[str, dict[str, float]]:
    """By concept, the tagged surfaces that match no name but are close to one in the encoder's space, with 100 times the cosine."""
    min_cosine = generator.locate.tag_similarity
    assert encoder, "the rule gives the encoder where it is needed"
    unmatched: dict[str, set[str]] = {}
    for cui, notes in itertools.groupby(rows, key=lambda row: row["cui"]):
        matcher = Matcher(known[cui], generator.locate, vocabulary)
        tagged_surfaces = {surface for note in notes for surface in matcher.unmatched_tags(*markers.strip(note["text"]))}
        if tagged_surfaces:
            unmatched.setdefault(cui, set()).update(tagged_surfaces)
    pairs = [(cui, surface) for cui, surfaces in sorted(unmatched.items()) for surface in sorted(surfaces)]
    if not pairs:
        return {}
    from mentionforge.encoders import Encoder

    settings = generator.encoder
    model = Encoder(encoder, settings.pooling, settings.max_tokens, settings.batch_size, markers=settings.markers)
    names = [(cui, name) for cui in sorted(unmatched) for name in known[cui].names]
    vectors = model.encode(model.strings([text for _, text in (*pairs, *names)]), "tags compared").dense()
    rows_of: dict[str, list[int]] = {}
    for i, (cui, _) in enumerate(names):
        rows_of.setdefault(cui, []).append(len(pairs) + i)
    accepted: dict[str, dict[str, float]] = {}
    for i, (cui, surface) in enumerate(pairs):
        cosine = float((vectors[rows_of[cui]] @ vectors[i]).max())
        if cosine >= min_cosine:
            accepted.setdefault(cui, {})[surface] = round(100 * min(1.0, cosine), 1)
    say(f"{sum(map(len, accepted.values())):,} of {len(pairs):,} tagged surfaces that are no names are near one")
    return accepted
