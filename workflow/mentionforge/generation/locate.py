"""Locating: where a note mentions its concept. Notes become text without tags, mention spans, and a funnel of what was lost.

Four steps, the model's own tags first; what one step takes, the next leaves alone:

1. `tag`: a tagged stretch that is a known name of the concept, a near variant of one, or an initialism of one. Any other
   tag is taken off, and the next steps decide.
2. `exact`: the preferred name. 3. `synonym`: any other name. Both at word boundaries, in any case, with blanks and hyphens
   interchangeable; abbreviations and names of ordinary words in their own case only.
4. `fuzzy`: as many words as the name, each the same but for number, possessive or spelling (ae/e), or a slip of the pen.
   Slips are counted against the name's length, and no slip turns one word of the knowledge base into another
   ("hypothyroidism" is no misspelt "hyperthyroidism").

All hits in a note are kept, the longest first, none overlapping. Spans are 0-based characters into the text without tags,
end exclusive. The same function locates the controls' mentions.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import OSA
from spacy.lang.en.stop_words import STOP_WORDS

from mentionforge import config, tables
from mentionforge.config import ControlGenerator, LlmGenerator, read_spec
from mentionforge.errors import UserError
from mentionforge.generation import concepts, markers
from mentionforge.generation.concepts import Concept, fold, words_of
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions
from mentionforge.text import Span, normalize_surface, sentences

GAP = r"(?:[^\S\n]+|[^\S\n]*[-‐‑–—/'’\n][^\S\n]*)"
"""What may stand between two words of a mention: blanks, a hyphen, slash, apostrophe or line break; no other punctuation."""

UNIMPORTANT = frozenset(["a", "an", "and", "by", "due", "for", "from", "in", "of", "on", "or", "the", "to", "with"])
"""Words that an initialism may leave out."""


@dataclass(frozen=True)
class Mention:
    """A located mention: span into the text without tags, how it was found, similarity to the name it matched (0 to 100)."""

    start: int
    end: int
    match: str
    score: float


class Matcher:
    """Finds one concept's mentions in texts.

    Args:
        concept: The concept with its names.
        settings: Least length and similarity of fuzzy matches, longest tag.
        vocabulary: Words of the knowledge base's names, folded: none of them is a misspelling of another.
    """

    def __init__(self, concept: Concept, settings: config.Locate, vocabulary: Collection[str]) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.known = {normalize_surface(name) for name in concept.names}
        self.initialisms = {letters for name in concept.names for letters in _initialisms(name)}
        self.exact = [_pattern([concept.preferred])]
        self.synonym = [_pattern([n for n in concept.synonyms if _any_case(n)]), _pattern([n for n in concept.synonyms if not _any_case(n)])]
        spelled = {tuple(w.casefold() for w, _ in words_of(n)) for n in concept.names if len(n) >= settings.fuzzy_min_length and _any_case(n)}
        self.spelled = sorted(name for name in spelled if name)

    def find(self, text: str, tagged: Sequence[markers.Tagged]) -> list[Mention]:
        """All mentions in a text without tags, in order, none overlapping."""
        kept: list[Mention] = []
        _keep(kept, self._tags(text, tagged))
        _keep(kept, [*self._names(text, self.exact, "exact"), *self._names(text, self.synonym, "synonym")])
        _keep(kept, self._fuzzy(text))
        return sorted(kept, key=lambda m: m.start)

    def _tags(self, text: str, tagged: Sequence[markers.Tagged]) -> Iterator[Mention]:
        for stretch in tagged:
            ends = [stretch.start + m.end() for m in re.finditer(r"\S+", text[stretch.start : stretch.end])]
            if stretch.closed and len(ends) > self.settings.max_tag_tokens:
                continue
            # An unclosed tag ends nobody knows where: then it is the longest beginning that is a name.
            for end in ends[-1:] if stretch.closed else ends[: self.settings.max_tag_tokens][::-1]:
                core = text[stretch.start : end].rstrip(".,;:!?")
                score = self._similarity(core)
                if score:
                    yield Mention(stretch.start, stretch.start + len(core), "tag", score)
                    if normalize_surface(core) not in self.known:  # an abbreviation or variant of the note's own
                        yield from (Mention(*m.span(), "tag", score) for m in re.finditer(rf"(?<!\w){re.escape(core)}(?!\w)", text))
                    break

    def _similarity(self, surface: str) -> float:
        """Similarity of a tagged stretch to the concept's names; 0 if it is none of them."""
        if normalize_surface(surface) in self.known or surface.replace(".", "") in self.initialisms:
            return 100.0
        return max((m.score for m in self._fuzzy(surface) if (m.start, m.end) == (0, len(surface))), default=0.0)

    def _names(self, text: str, patterns: Iterable[re.Pattern[str] | None], match: str) -> Iterator[Mention]:
        for pattern in patterns:
            if pattern:
                yield from (Mention(*m.span(), match, 100.0) for m in pattern.finditer(text))

    def _fuzzy(self, text: str) -> Iterator[Mention]:
        if not self.spelled:
            return
        found = words_of(text)
        forms = [word.casefold() for word, _ in found]
        # Whether a mention may go on from word i to word i + 1.
        joined = [re.fullmatch(GAP, text[a[1] : b[0]]) is not None for (_, a), (_, b) in itertools.pairwise(found)]
        distances: dict[tuple[str, str], float] = {}
        for name in self.spelled:
            length = sum(map(len, name)) + len(name) - 1
            budget = length * (1 - self.settings.fuzzy_score / 100)
            for i in range(len(forms) - len(name) + 1):
                total = slips = 0.0
                for wanted, form in zip(name, forms[i : i + len(name)], strict=True):
                    if wanted != form:
                        key = (wanted, form)
                        if key not in distances:
                            distances[key] = self._slips(wanted, form)
                        slips += distances[key]
                        if slips > budget:
                            break
                        total += OSA.distance(wanted, form)
                else:
                    if total and all(joined[i : i + len(name) - 1]):
                        yield Mention(found[i][1][0], found[i + len(name) - 1][1][1], "fuzzy", round(max(0.0, 100 * (1 - total / length)), 1))

    def _slips(self, wanted: str, form: str) -> float:
        """Slips of the pen between a word of a name and one of the text: 0 for another form of the word, infinite for another word."""
        a, b = fold(wanted), fold(form)
        if a == b:
            return 0.0
        if len(a) < 4 or len(b) < 3 or b in self.vocabulary or any(c.isdigit() for c in a + b):
            return float("inf")
        slips = min(OSA.distance(a, b), OSA.distance(wanted, form))  # a slip may look like an ending or a spelling
        return slips if slips <= max(1.0, len(a) * (1 - self.settings.fuzzy_score / 100)) else float("inf")


def locate_notes(spec: Path, kb: Path, prompts: Path, notes: Path, out: Path) -> dict[str, Any]:
    """Locate the mentions of all notes of a generator, and write located, mentions and rejected .parquet and funnel.json.

    Args:
        spec: Spec file of the generator, part `locate`.
        kb: Folder of the knowledge base's tables.
        prompts: Table `prompts`.
        notes: Table `notes`.
        out: Folder to write to.

    Returns:
        The funnel: notes `prompted`, `generated`, `finished_by_length`, `with_tags`, `located` = sum of `located_by_match` (a
        note counts under its best match), `rejected` = sum of `rejected_by_reason`; `mentions` = sum of `mentions_by_match`
        = sum of n times `notes_by_mentions[n]`; `concepts_prompted`, `concepts_covered`; `unlisted_surface_share`, the share
        of mentions whose surface is no name of the concept in the knowledge base.

    Raises:
        UserError: A note's concept is not in the knowledge base.
    """
    generator: LlmGenerator | ControlGenerator = read_spec(spec)
    prompted = tables.read(tables.PROMPTS, prompts)["cui"].to_pylist()
    rows = tables.read(tables.NOTES, notes).to_pylist()
    known = concepts.load(kb)
    unknown = sorted({row["cui"] for row in rows} - set(known))
    if unknown:
        raise UserError("unknown concept", str(notes), f"{', '.join(unknown[:5])} not in {kb}", "delete the file and rerun the workflow")
    vocabulary = {fold(word.casefold()) for concept in known.values() for name in concept.names for word, _ in words_of(name)}

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
            mentions = matcher.find(text, tagged)
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
    funnel = _funnel(prompted, rows, found, rejected, counts)
    temporary = out / f".funnel.json.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(funnel, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, out / "funnel.json")
    say(
        f"{len(located):,} of {len(rows):,} notes have {len(found):,} mentions, by best match: "
        + ", ".join(f"{m} {n:,}" for m, n in funnel["located_by_match"].items())
    )
    return funnel


def _funnel(prompted: Sequence[str], rows: Sequence[Any], found: Sequence[Any], rejected: Sequence[Any], counts: Counter[str]) -> dict[str, Any]:
    best: dict[str, str] = {}
    for mention in sorted(found, key=lambda m: tables.MATCHES.index(m["match"])):
        best.setdefault(mention["note_id"], mention["match"])
    by_best, by_match, reasons = Counter(best.values()), Counter(m["match"] for m in found), Counter(r["reason"] for r in rejected)
    per_note = Counter(Counter(m["note_id"] for m in found).values())
    funnel: dict[str, Any] = {
        "prompted": len(prompted),
        "generated": len(rows),
        "finished_by_length": counts["finished_by_length"],
        "with_tags": counts["with_tags"],
        "located": len(best),
        "located_by_match": {match: by_best[match] for match in tables.MATCHES},
        "rejected": len(rejected),
        "rejected_by_reason": {reason: reasons[reason] for reason in ("empty", "no_mention")},
        "mentions": len(found),
        "mentions_by_match": {match: by_match[match] for match in tables.MATCHES},
        "notes_by_mentions": {str(n): notes for n, notes in sorted(per_note.items())},
        "concepts_prompted": len(set(prompted)),
        "concepts_covered": len({m["cui"] for m in found}),
        "unlisted_surface_share": round(counts["unlisted"] / len(found), 4) if found else 0.0,
    }
    assert funnel["generated"] == funnel["located"] + funnel["rejected"], funnel
    assert funnel["located"] == sum(by_best.values()) == sum(per_note.values()), funnel
    assert funnel["rejected"] == sum(funnel["rejected_by_reason"].values()), funnel
    assert funnel["mentions"] == sum(by_match.values()) == sum(n * notes for n, notes in per_note.items()), funnel
    return funnel


def _keep(kept: list[Mention], candidates: Iterable[Mention]) -> None:
    """Add the candidates that overlap nothing kept, the longest first, then by kind of match, then from left to right."""
    for m in sorted(candidates, key=lambda m: (m.start - m.end, tables.MATCHES.index(m.match), -m.score, m.start)):
        if all(m.end <= other.start or other.end <= m.start for other in kept):
            kept.append(m)


def _any_case(name: str) -> bool:
    """Whether a name may be found in any case: not so two letters, abbreviations ("ALL", "SADs"), and ordinary words ("all")."""
    capitals = sum(c.isupper() for c in name)
    abbreviation = len(name) <= 6 and " " not in name and capitals >= 2 and capitals >= sum(c.islower() for c in name)
    return len(name) > 2 and not abbreviation and name.casefold() not in STOP_WORDS


def _pattern(names: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern for names that are all to be found in any case, or all in their own; the longest wins."""
    parts = []
    for name in sorted(set(names), key=lambda n: (-len(n), n)):
        pieces = re.split(r"(\w+)", name)  # before, word, between, word, …, after
        if len(pieces) < 3:
            continue
        gaps = [GAP if re.fullmatch(GAP, gap) else re.escape(gap) for gap in pieces[2:-1:2]]
        body = "".join(piece for pair in zip(map(re.escape, pieces[1::2]), [*gaps, ""], strict=True) for piece in pair)
        before, after = (f"(?:{re.escape(piece)})?" if piece.strip() else "" for piece in (pieces[0], pieces[-1]))
        parts.append(before + body + after)
    flags = re.IGNORECASE if names and all(map(_any_case, names)) else re.NOFLAG
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)", flags) if parts else None


def _initialisms(name: str) -> Iterator[str]:
    """First letters of a name's words, with and without the unimportant ones, in capitals; of at least two."""
    found = [word for word, _ in words_of(name)]
    for chosen in (found, [w for w in found if w.casefold() not in UNIMPORTANT]):
        if len(chosen) > 1:
            yield "".join(w[0] for w in chosen).upper()
