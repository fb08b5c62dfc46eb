"""Locating: where a note mentions its concept. Notes become text without tags, mention spans, and a funnel of what was lost.

The model's own tags come first, and what they take is left alone; then the longest of all other hits win:

1. `tag`: a tagged stretch that is a known name of the concept, a near variant of one, an initialism of one, or, where
   `tag_similarity` is given, near one in an encoder's space. Any other tag is taken off, and the next steps decide.
2. `exact`: the preferred name. 3. `synonym`: any other name. Both at word boundaries, in any case, with blanks and hyphens
   interchangeable and an article after "of"; abbreviations and names of ordinary words in their own case only.
4. `fuzzy`: as many words as the name, each the same but for number, possessive, spelling (ae/e) or a hyphen, or a slip of the pen.
   Slips are counted against the name's length; none is in a word's first letter ("repression" is no misspelt "depression"),
   and none turns one word of the knowledge base into another ("hypothyroidism" is no misspelt "hyperthyroidism").

All hits in a note are kept, the longest first, none overlapping. Spans are 0-based characters into the text without tags,
end exclusive. The same function locates the controls' mentions.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rapidfuzz.distance import OSA
from spacy.lang.en.stop_words import STOP_WORDS

from mentionforge import config, tables
from mentionforge.config import read_spec
from mentionforge.errors import UserError
from mentionforge.generation import concepts, markers
from mentionforge.generation import funnel as funnels
from mentionforge.generation.concepts import Concept, fold, words_of
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions
from mentionforge.text import Span, normalize_surface, sentences

GAP = r"(?:[^\S\n]+|[^\S\n]*[-‐‑–—/'’\n][^\S\n]*)"
"""What may stand between two words of a mention: blanks, a hyphen, slash, apostrophe or line break; no other punctuation."""

UNIMPORTANT = frozenset(["a", "an", "and", "by", "due", "for", "from", "in", "of", "on", "or", "the", "to", "with"])
"""Words that an initialism may leave out."""


_INFINITE = float("inf")
_GAP = re.compile(rf"{GAP}(?=\w)")
_FORM = re.compile(r"\w+(?:['’]s\b)?")


@dataclass(frozen=True)
class Mention:
    """A located mention: span into the text without tags, how it was found, similarity to the name it matched (0 to 100)."""

    start: int
    end: int
    match: str
    score: float


class Matcher:
    """Finds one concept's mentions in texts.

    Each word form of a text is compared with the words of the names once, and remembered: a name is looked for only where
    every word of it, or a form or slip of it, occurs in the text at all.

    Args:
        concept: The concept with its names.
        settings: Least length and similarity of fuzzy matches, longest tag.
        vocabulary: Words of the knowledge base's names, folded: none of them is a misspelling of another.
    """

    def __init__(self, concept: Concept, settings: config.Locate, vocabulary: Collection[str]) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.known = {normalize_surface(name) for name in concept.names}
        self.initialisms = {letters for name in concept.names for letters in _initialisms(name)}
        self.names = [_Name.of(name, "synonym" if i else "exact", settings.fuzzy_min_length) for i, name in enumerate(concept.names)]
        self.words = sorted({word for name in self.names for word in name.words})
        self._by_initial: dict[str, list[str]] = {}
        for word in self.words:
            self._by_initial.setdefault(fold(word)[:1], []).append(word)
        self._bits = {word: 1 << i for i, word in enumerate(self.words)}
        self._masks = [sum({self._bits[word] for word in name.words if word != "s"}) for name in self.names]
        self._idle: set[str] = set()  # stretches between blanks without any such form
        self._forms: dict[str, list[str]] = {}
        self._far: set[str] = set()
        self._near: dict[str, dict[str, float]] = {}  # form of a text: word of a name, slips between them

    def find(self, text: str, tagged: Sequence[markers.Tagged], alike: Mapping[str, float] = MappingProxyType({})) -> list[Mention]:
        """All mentions in a text without tags, in order, none overlapping.

        Args:
            text: Text without tags.
            tagged: Tagged stretches of it.
            alike: Tagged surfaces that are to be accepted although no name, and their score; see `doubtful`.
        """
        view = self._look(text)
        kept: list[Mention] = []
        if tagged:
            _keep(kept, self._tags(text, tagged, alike))
        if view.named:
            _keep(kept, [*self._named(text, view), *self._fuzzy(view)])
        return sorted(kept, key=lambda m: m.start)

    def doubtful(self, text: str, tagged: Sequence[markers.Tagged]) -> list[str]:
        """Tagged surfaces, closed and not too long, that are no name, near variant or initialism of the concept."""
        found = []
        for stretch in tagged:
            core = text[stretch.start : stretch.end].rstrip(".,;:!?")
            if stretch.closed and len(core.split()) <= self.settings.max_tag_tokens and not self._similarity(core):
                found.append(core)
        return found

    def _look(self, text: str) -> _View:
        """What of the names may stand in the text at all."""
        folded = _fold_case(text)
        chunks = set(folded.split()).difference(self._idle)  # far cheaper than looking for words; most chunks have been seen before
        for chunk in chunks.difference(self._forms):
            self._divide(chunk)
        close = {form for chunk in chunks for form in self._forms.get(chunk, ())}
        if not close:
            return _View(folded, [], close, [], [])
        divided = list(_divided(folded))
        parted = {whole for *_, whole in divided}
        present = other = 0
        for form in close:
            for word in self._near[form]:
                present |= self._bits[word]
                if word != form or form in parted:
                    other |= self._bits[word]
        named = [i for i, mask in enumerate(self._masks) if mask and mask & present == mask]
        return _View(folded, divided, close, named, [i for i in named if self._masks[i] & other and self.names[i].spelled])

    def _divide(self, chunk: str) -> None:
        """Remember which word forms of a stretch between blanks may stand for words of the names."""
        forms = [form for form, initial in _forms_of(chunk) if initial in self._by_initial]
        unknown = [form for form in forms if form not in self._near and form not in self._far]
        if unknown:
            self._compare(unknown)
        near = [form for form in forms if form in self._near]
        if near:
            self._forms[chunk] = near
        else:
            self._idle.add(chunk)

    def _compare(self, forms: Collection[str]) -> None:
        """Remember which words of the names each form may stand for."""
        self._far.update(forms)
        for form in forms:
            folded = fold(form)
            near = {}
            for word in self._by_initial.get(folded[:1], ()):
                slips = 0.0 if form == word else self._slips(word, form)
                if slips < _INFINITE:
                    near[word] = slips
            if near:
                self._near[form] = near
                self._far.discard(form)

    def _tags(self, text: str, tagged: Sequence[markers.Tagged], alike: Mapping[str, float]) -> Iterator[Mention]:
        for stretch in tagged:
            ends = [stretch.start + m.end() for m in re.finditer(r"\S+", text[stretch.start : stretch.end])]
            if stretch.closed and len(ends) > self.settings.max_tag_tokens:
                continue
            # An unclosed tag ends nobody knows where: then it is the longest beginning that is a name.
            for end in ends[-1:] if stretch.closed else ends[: self.settings.max_tag_tokens][::-1]:
                core = text[stretch.start : end].rstrip(".,;:!?")
                score = self._similarity(core) or (alike.get(core, 0.0) if stretch.closed else 0.0)
                if score:
                    yield Mention(stretch.start, stretch.start + len(core), "tag", score)
                    if normalize_surface(core) not in self.known:  # an abbreviation or variant of the note's own
                        yield from (Mention(*m.span(), "tag", score) for m in re.finditer(rf"(?<!\w){re.escape(core)}(?!\w)", text))
                    break

    def _similarity(self, surface: str) -> float:
        """Similarity of a tagged stretch to the concept's names; 0 if it is none of them."""
        if normalize_surface(surface) in self.known or surface.replace(".", "") in self.initialisms:
            return 100.0
        return max((m.score for m in self._fuzzy(self._look(surface)) if (m.start, m.end) == (0, len(surface))), default=0.0)

    def _named(self, text: str, view: _View) -> Iterator[Mention]:
        for name in (self.names[i] for i in view.named):
            yield from (Mention(start, end, name.match, 100.0) for start, end in name.spans(text, view.folded))

    def _fuzzy(self, view: _View) -> Iterator[Mention]:
        """Stretches of as many words as a name, each a form or slip of the name's."""
        folded = view.folded
        starts: dict[str, list[int]] = {}
        for name in sorted({self.names[i].words for i in view.slipped}):
            if name[0] not in starts:
                starts[name[0]] = [start for form in sorted(view.close) if name[0] in self._near[form] for start in view.places(form)]
            length = sum(map(len, name)) + len(name) - 1
            budget = length * (1 - self.settings.fuzzy_score / 100)
            for start in starts[name[0]]:
                total = slips = 0.0
                end = start
                for i, wanted in enumerate(name):
                    gap = _GAP.match(folded, end) if i else None
                    if i and not gap:
                        break
                    form, end = self._form(view, gap.end() if gap else start, wanted)
                    slips += self._near.get(form, {}).get(wanted, _INFINITE)
                    if slips > budget:
                        break
                    if i == len(name) - 1 and form.endswith(("'s", "’s")) and wanted[-2:] != form[-2:]:  # not part of the mention
                        form, end = form[:-2], end - 2
                    total += OSA.distance(wanted, form)
                else:
                    if total or end - start != length:
                        yield Mention(start, end, "fuzzy", round(max(0.0, 100 * (1 - total / length)), 1))

    def _form(self, view: _View, start: int, wanted: str) -> tuple[str, int]:
        """The word form at `start` and its end; two parts at a hyphen are one form if together they stand for `wanted`."""
        form = _FORM.match(view.folded, start)
        assert form, "gaps end, and places are, where a word begins"
        if view.divided and wanted not in self._near.get(form[0], ()):
            return next(((whole, end) for begun, end, whole in view.divided if begun == start), (form[0], form.end()))
        return form[0], form.end()

    def _slips(self, wanted: str, form: str) -> float:
        """Slips of the pen between a word of a name and one of the text: 0 for another form of the word, infinite for another word."""
        a, b = fold(wanted), fold(form)
        if a == b:
            return 0.0
        most = max(1.0, len(a) * (1 - self.settings.fuzzy_score / 100))
        if len(a) < 4 or len(b) < 3 or a[0] != b[0] or abs(len(a) - len(b)) > most + 2 or b in self.vocabulary or not (a + b).isalpha():
            return _INFINITE
        slips = min(OSA.distance(a, b), OSA.distance(wanted, form))  # a slip may look like an ending or a spelling
        return slips if slips <= most else _INFINITE


@dataclass(frozen=True)
class _View:
    """A text as a matcher sees it.

    Attributes:
        folded: The text by `_fold_case`.
        divided: Words that a hyphen divides: start, end, and the word without it.
        close: Word forms of the text that may stand for words of the names.
        named: Numbers of the names all of whose words the text has in some form.
        slipped: Those of them that have a word in another form.
    """

    folded: str
    divided: list[tuple[int, int, str]]
    close: set[str]
    named: list[int]
    slipped: list[int]

    def places(self, form: str) -> Iterator[int]:
        """Where a word form begins, not inside words; also where a hyphen divides it."""
        start = -1
        while (start := self.folded.find(form, start + 1)) >= 0:
            whole = _FORM.match(self.folded, start)
            if whole and whole[0] == form and not (start and re.match(r"\w", self.folded[start - 1])):
                yield start
        yield from (begun for begun, _, whole in self.divided if whole == form)


@dataclass(frozen=True)
class _Name:
    """A name: its kind of match, its words, whether it may be misspelt, and, once it is needed, its pattern."""

    name: str
    match: str
    words: tuple[str, ...]
    spelled: bool

    @classmethod
    def of(cls, name: str, match: str, fuzzy_min_length: int) -> _Name:
        words = tuple(_FORM.findall(_fold_case(name)))
        return cls(name, match, words, bool(words) and len(name) >= fuzzy_min_length and _any_case(name))

    @functools.cached_property
    def pattern(self) -> re.Pattern[str] | None:
        return _pattern(self.name)

    @functools.cached_property
    def first(self) -> str:
        """The letters and digits that the name begins with, case-folded."""
        found = re.match(r"\w+", _fold_case(self.name))
        return found[0] if found else ""

    def spans(self, text: str, folded: str) -> Iterator[Span]:
        """Where the name stands in a text; `folded` is the text by `_fold_case`."""
        if self.pattern is None:
            return
        if not self.name[0].isalnum():
            yield from (m.span() for m in self.pattern.finditer(text))
            return
        start, end = -1, 0
        while self.first and (start := folded.find(self.first, max(start + 1, end))) >= 0:  # far faster than the pattern's own search
            found = self.pattern.match(text, start)
            if found:
                end = found.end()
                yield found.span()


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
    generator: config.Generator = read_spec(spec)
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
    model = Encoder(encoder, settings.pooling, settings.max_tokens, settings.batch_size)
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


def _fold_case(text: str) -> str:
    """The text case-folded, character by character, so that offsets stay."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(c.casefold() if len(c.casefold()) == 1 else c for c in text)


@functools.lru_cache(maxsize=1 << 16)
def _forms_of(chunk: str) -> tuple[tuple[str, str], ...]:
    """Word forms of a stretch between blanks, also of the words that a hyphen divides, each with the initial that its word in a name would have."""
    forms = dict.fromkeys(_FORM.findall(chunk))
    if "-" in chunk:
        forms.update(dict.fromkeys(whole for *_, whole in _divided(chunk)))
    return tuple((form, fold(form)[:1]) for form in forms)


def _divided(folded: str) -> Iterator[tuple[int, int, str]]:
    """Words that a hyphen divides: start, end, and the word without it."""
    position = 0
    while (at := folded.find("-", position)) >= 0:
        start, end = at, at + 1
        while start > 0 and folded[start - 1].isalnum():
            start -= 1
        while end < len(folded) and folded[end].isalnum():
            end += 1
        if start < at < end - 1:
            yield start, end, folded[start:at] + folded[at + 1 : end]
        position = at + 1


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


def _pattern(name: str) -> re.Pattern[str] | None:
    """A pattern for a name, in any case or in its own; none for a name without a letter or digit."""
    pieces = re.split(r"(\w+)", name)  # before, word, between, word, …, after
    if len(pieces) < 3:
        return None
    gaps = [GAP if re.fullmatch(GAP, gap) else re.escape(gap) for gap in pieces[2:-1:2]]
    gaps = [f"{gap}(?:the{GAP})?" if word.casefold() == "of" else gap for word, gap in zip(pieces[1::2], gaps, strict=False)]
    body = "".join(piece for pair in zip(map(re.escape, pieces[1::2]), [*gaps, ""], strict=True) for piece in pair)
    before, after = (f"(?:{re.escape(piece)})?" if piece.strip() else "" for piece in (pieces[0], pieces[-1]))
    return re.compile(rf"(?<!\w){before}{body}{after}(?!\w)", re.IGNORECASE if _any_case(name) else re.NOFLAG)


def _initialisms(name: str) -> Iterator[str]:
    """First letters of a name's words, with and without the unimportant ones, in capitals; of at least two."""
    found = [word for word, _ in words_of(name)]
    for chosen in (found, [w for w in found if w.casefold() not in UNIMPORTANT]):
        if len(chosen) > 1:
            yield "".join(w[0] for w in chosen).upper()
