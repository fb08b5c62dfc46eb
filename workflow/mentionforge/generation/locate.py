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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

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
_NOTHING: Mapping[str, float] = MappingProxyType({})
_GAP = re.compile(rf"{GAP}(?=\w)")
_FORM = re.compile(r"\w+(?:['’]s\b)?")
_NEXT = re.compile(rf"{GAP}({_FORM.pattern})")


class Mention(NamedTuple):
    """A located mention: span into the text without tags, how it was found, similarity to the name it matched (0 to 100)."""

    start: int
    end: int
    match: str
    score: float


class Matcher:
    """Finds one concept's mentions in texts.

    Each stretch between blanks is compared with the words of the names once, and remembered: a name is looked for only where
    every word of it, or a form or slip of it, occurs in the text at all.

    Args:
        concept: The concept with its names.
        settings: Least length and similarity of fuzzy matches, longest tag.
        vocabulary: Words of the knowledge base's names, folded: none of them is a misspelling of another.
    """

    def __init__(self, concept: Concept, settings: config.Locate, vocabulary: Collection[str]) -> None:
        self.concept, self.settings, self.vocabulary = concept, settings, vocabulary
        self.names = [_Name.of(name, "synonym" if i else "exact", settings.fuzzy_min_length) for i, name in enumerate(concept.names)]
        words = sorted({word for name in self.names for word in name.words})
        self._bits = {word: 1 << i for i, word in enumerate(words)}
        self._masks = [sum({self._bits[word] for word in name.words if word != "s"}) for name in self.names]
        self._stems: dict[str, list[str]] = {}  # stem: words of the names
        self._slippery: dict[str, list[_Word]] = {}  # what a slip leaves as it is: words of the names, see `_kept`
        for word in words:
            stem = fold(word)
            self._stems.setdefault(stem, []).append(word)
            if len(stem) >= 4 and stem.isalpha():
                most = int(max(1.0, len(stem) * (1 - settings.fuzzy_score / 100)))
                entry = _Word(word, stem, most)
                for kept in {key for text in {stem, word} for key in _kept_by_slips(stem[0], text, most)}:
                    self._slippery.setdefault(kept, []).append(entry)
        self._near: dict[str, dict[str, float]] = {}  # form of a text: word of a name, slips between them
        self._chunks = _Chunks({*self._stems, *self._slippery}, self._learn)
        self._chosen: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
        self._similar: dict[str, float] = {}

    @functools.cached_property
    def known(self) -> set[str]:
        """The names, normalized."""
        return {normalize_surface(name) for name in self.concept.names}

    @functools.cached_property
    def initialisms(self) -> set[str]:
        """Initialisms of the names."""
        return {letters for name in self.concept.names for letters in _initialisms(name)}

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
        hits = list(filter(None, map(self._chunks.__getitem__, folded.split())))  # far cheaper than looking for words
        present = other = 0
        for hit in hits:
            present |= hit.present
            other |= hit.other
        named, slipped = self._chosen.get((present, other)) or self._choose(present, other)
        if not slipped:
            return _View(folded, named)
        divided = list(_divided(folded)) if any(hit.divided for hit in hits) else []
        return _View(folded, named, slipped, {form for hit in hits for form in hit.forms}, divided)

    def _choose(self, present: int, other: int) -> tuple[list[int], list[int]]:
        """Names all of whose words are there in some form; those of them that have a word in another form, and may."""
        named = [i for i, mask in enumerate(self._masks) if mask and mask & present == mask]
        return self._chosen.setdefault((present, other), (named, [i for i in named if self._masks[i] & other and self.names[i].spelled]))

    def _learn(self, forms: Iterable[_Form]) -> _Hit | None:
        """Which word forms of a stretch between blanks may stand for words of the names, if any."""
        present = other = 0
        divided = False
        close = []
        for form in forms:
            near = self._near.get(form.form) or self._compare(form)
            if near:
                close.append(form.form)
                divided |= form.divided
                for word in near:
                    present |= self._bits[word]
                    if word != form.form or form.divided:
                        other |= self._bits[word]
        return _Hit(tuple(close), present, other, divided) if close else None

    def _compare(self, form: _Form) -> dict[str, float]:
        """Remember which words of the names a form may stand for: 0 for another form of the word, else the slips of the pen."""
        near = dict.fromkeys(self._stems.get(form.stem, ()), 0.0)
        if form.kept and form.stem not in self.vocabulary:
            for word, stem, most in {word for kept in form.kept for word in self._slippery.get(kept, ())}:
                if word not in near and stem[0] == form.stem[0] and abs(len(stem) - len(form.stem)) <= most + 2:
                    slips = min(OSA.distance(stem, form.stem), OSA.distance(word, form.form))  # a slip may look like an ending or a spelling
                    if slips <= most:
                        near[word] = float(slips)
        if near:
            self._near[form.form] = near
        return near

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
                        yield from (Mention(at, at + len(core), "tag", score) for at in _places(text, core) if not _in_word(text[at + len(core) :][:1]))
                    break

    def _similarity(self, surface: str) -> float:
        """Similarity of a tagged stretch to the concept's names; 0 if it is none of them."""
        if surface not in self._similar:
            if normalize_surface(surface) in self.known or surface.replace(".", "") in self.initialisms:
                self._similar[surface] = 100.0
            else:
                whole = (m.score for m in self._fuzzy(self._look(surface)) if (m.start, m.end) == (0, len(surface)))
                self._similar[surface] = max(whole, default=0.0)
        return self._similar[surface]

    def _named(self, text: str, view: _View) -> Iterator[Mention]:
        places: dict[str, list[int]] = {}
        for name in (self.names[i] for i in view.named):
            first = name.first
            if first not in places:
                places[first] = _places(view.folded, first)
            if places[first]:
                yield from (Mention(start, end, name.match, 100.0) for start, end in name.spans(view.folded if name.any_case else text, places[first]))

    def _fuzzy(self, view: _View) -> Iterator[Mention]:
        """Stretches of as many words as a name, each a form or slip of the name's."""
        places: dict[str, list[tuple[int, int]]] = {}
        share = 1 - self.settings.fuzzy_score / 100
        for words, length in dict.fromkeys((self.names[i].words, self.names[i].length) for i in view.slipped):
            budget = length * share
            for form in view.close:
                slips = self._near[form].get(words[0], _INFINITE)
                if slips > budget:
                    continue
                if form not in places:
                    places[form] = view.places(form)
                for start, end in places[form]:
                    if end - start > len(form):  # divided by a hyphen
                        part = _FORM.match(view.folded, start)
                        if part and words[0] in self._near.get(part[0], _NOTHING):  # which does for itself
                            continue
                    found = self._stretch(view, form, end, words, budget - slips)
                    if found and (found[1] or found[0] - start != length):
                        yield Mention(start, found[0], "fuzzy", round(max(0.0, 100 * (1 - found[1] / length)), 1))

    def _stretch(self, view: _View, form: str, end: int, words: Sequence[str], budget: float) -> tuple[int, float] | None:
        """Where the words end whose first stands as `form` before `end`, with no more slips than the budget, and the distance to them."""
        folded, total = view.folded, 0.0
        for i, wanted in enumerate(words):
            if i:
                found = _NEXT.match(folded, end)
                if not found:
                    return None
                form, end = found[1], found.end()
                slips = self._near.get(form, _NOTHING).get(wanted, _INFINITE)
                if slips == _INFINITE and view.divided:  # two parts at a hyphen are one form if together they stand for the word
                    form, end = next(((whole, end) for begun, end, whole in view.divided if begun == found.start(1)), (form, end))
                    slips = self._near.get(form, _NOTHING).get(wanted, _INFINITE)
                budget -= slips
                if budget < 0:
                    return None
            if i == len(words) - 1 and form.endswith(("'s", "’s")) and wanted[-2:] != form[-2:]:  # not part of the mention
                form, end = form[:-2], end - 2
            if form != wanted:
                total += OSA.distance(wanted, form)
        return end, total


class _Word(NamedTuple):
    """A word of the names, its stem, and how many slips of the pen it may have."""

    word: str
    stem: str
    most: int


class _Form(NamedTuple):
    """A word form of a text, its stem, whether a hyphen divides it, and, if it may be a slip of the pen, its `_kept`."""

    form: str
    stem: str
    divided: bool
    kept: tuple[str, ...]


class _Chunks(dict[str, "_Hit | None"]):
    """What stretches between blanks hold; each is learnt when it is first asked for.

    Args:
        kinds: A stretch is looked at only if it has one of these; see `_forms_of`.
        learn: What the word forms of a stretch hold.
    """

    def __init__(self, kinds: set[str], learn: Callable[[Iterable[_Form]], _Hit | None]) -> None:
        super().__init__()
        self.strange, self.learn = kinds.isdisjoint, learn

    def __missing__(self, chunk: str) -> _Hit | None:
        kinds, forms = _forms_of(chunk)
        found = self[chunk] = None if self.strange(kinds) else self.learn(forms)
        return found


class _Hit(NamedTuple):
    """What a stretch between blanks holds of the names.

    Attributes:
        forms: Word forms that may stand for words of the names.
        present: Those words, as bits.
        other: Those of them that do not stand as they are.
        divided: Whether a hyphen divides one of the forms.
    """

    forms: tuple[str, ...]
    present: int
    other: int
    divided: bool


class _View(NamedTuple):
    """A text as a matcher sees it.

    Attributes:
        folded: The text by `_fold_case`.
        named: Numbers of the names all of whose words the text has in some form.
        slipped: Those of them that have a word in another form, and may.
        close: Where there are such: word forms of the text that may stand for words of the names.
        divided: Where a hyphen divides one of these: words that a hyphen divides, with start, end, and the word without it.
    """

    folded: str
    named: Sequence[int]
    slipped: Sequence[int] = ()
    close: Collection[str] = ()
    divided: Sequence[tuple[int, int, str]] = ()

    def places(self, form: str) -> list[tuple[int, int]]:
        """Where a word form begins and ends, not inside words; also where a hyphen divides it."""
        found = [(start, whole.end()) for start in _places(self.folded, form) if (whole := _FORM.match(self.folded, start)) and whole[0] == form]
        return found + [(begun, end) for begun, end, whole in self.divided if whole == form]


@dataclass(frozen=True)
class _Name:
    """A name: its kind of match, its words, whether it may be misspelt, and, once they are needed, its parts."""

    name: str
    match: str
    words: tuple[str, ...]
    spelled: bool

    @classmethod
    def of(cls, name: str, match: str, fuzzy_min_length: int) -> _Name:
        words = tuple(_FORM.findall(_fold_case(name)))
        return cls(name, match, words, bool(words) and len(name) >= fuzzy_min_length and _any_case(name))

    @functools.cached_property
    def length(self) -> int:
        """Characters of the words, with a blank between them."""
        return sum(map(len, self.words)) + len(self.words) - 1

    @functools.cached_property
    def any_case(self) -> bool:
        """Whether it may stand in any case."""
        return _any_case(self.name)

    @functools.cached_property
    def first(self) -> str:
        """The first letters and digits, case-folded."""
        found = re.search(r"\w+", _fold_case(self.name))
        return found[0] if found else ""

    @functools.cached_property
    def parts(self) -> tuple[str, tuple[tuple[str, str | None, bool], ...], str]:
        """What stands before the first word; each word, what follows it (none: any gap), and whether an article may; what stands after the last."""
        pieces = re.split(r"(\w+)", _fold_case(self.name) if self.any_case else self.name)  # before, word, between, word, …, after
        gaps = [*(None if re.fullmatch(GAP, gap) else gap for gap in pieces[2:-1:2]), ""]
        before, after = (piece if piece.strip() else "" for piece in (pieces[0], pieces[-1]))
        return before, tuple((word, gap, word.casefold() == "of") for word, gap in zip(pieces[1::2], gaps, strict=False)), after

    def spans(self, text: str, places: Iterable[int]) -> Iterator[Span]:
        """Where the name stands in a text, case-folded if any case will do, at word boundaries.

        Args:
            text: The text.
            places: Where its first word may begin.
        """
        before, _, _ = self.parts
        end = 0
        for at in places:
            found = self._end(text, at) if at >= end else None
            if found is None:
                continue
            start = at - len(before)
            if not before or start < end or not text.startswith(before, start) or (start and _in_word(text[start - 1])):
                start = at
            end = found
            yield start, end

    def _end(self, text: str, at: int, first: int = 0) -> int | None:
        """Where the words from number `first` end that begin at `at`, if they stand there."""
        _, words, after = self.parts
        for i in range(first, len(words)):
            word, gap, article = words[i]
            if not text.startswith(word, at):
                return None
            at += len(word)
            if i == len(words) - 1:
                break
            beyond = _beyond(text, at, gap)
            if beyond is None:
                return None
            at = beyond
            if article and text.startswith("the", at):
                beyond = _beyond(text, at + 3, None)
                found = None if beyond is None else self._end(text, beyond, i + 1)
                if found is not None:
                    return found
        if after and text.startswith(after, at) and not _in_word(text[at + len(after) : at + len(after) + 1]):
            return at + len(after)
        return None if _in_word(text[at : at + 1]) else at


def _places(text: str, piece: str) -> list[int]:
    """Where the piece begins, not inside a word."""
    found, at = [], -1
    while piece and (at := text.find(piece, at + 1)) >= 0:
        if not (at and _in_word(text[at - 1])):
            found.append(at)
    return found


def _beyond(text: str, at: int, gap: str | None) -> int | None:
    """Where the next word begins after a gap, of any kind or just so, at `at`."""
    if gap is None:
        found = _GAP.match(text, at)
        return found.end() if found else None
    return at + len(gap) if text.startswith(gap, at) else None


def _in_word(character: str) -> bool:
    """Whether it is a letter, digit or underscore; nothing is none."""
    return character.isalnum() or character == "_"


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


def _fold_case(text: str) -> str:
    """The text case-folded, character by character, so that offsets stay."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(next((f for f in (c.casefold(), c.lower()) if len(f) == 1), c) for c in text)


@functools.lru_cache(maxsize=1 << 16)
def _forms_of(chunk: str) -> tuple[tuple[str, ...], tuple[_Form, ...]]:
    """Word forms of a stretch between blanks, also of the words that a hyphen divides; before them their stems and what slips leave of them."""
    if chunk.isalpha():
        forms = {chunk: False}
    else:
        forms = dict.fromkeys(_FORM.findall(chunk), False)
        forms.update(dict.fromkeys((whole for *_, whole in _divided(chunk)), True))
    found, kinds = [], []
    for form, divided in forms.items():
        stem = fold(form)
        kept: tuple[str, ...] = ()
        if len(stem) >= 3 and stem.isalpha():
            kept = _kept(stem[0], stem, len(stem))
            if stem != form:
                kept += _kept(stem[0], form, len(form))
        kinds += [stem, *kept]
        found.append(_Form(form, stem, divided, kept))
    return tuple(kinds), tuple(found)


def _kept(initial: str, text: str, length: int) -> tuple[str, str, str]:
    """What slips of the pen leave of a word, of which they spare the initial: its length, and with it its first or its last two letters.

    None of these looks like a stem. Slips that change the length leave those of another length; see `_kept_by_slips`.
    """
    return f"{initial} {length}", f"{text[:2]} {initial} {length}", f"{initial} {length} {text[-2:]}"


def _kept_by_slips(initial: str, text: str, most: int) -> Iterator[str]:
    """What so many slips may leave of a word: a single one changes either the first two letters or the last two, not both, if there are five."""
    for length in range(len(text) - most, len(text) + most + 1):
        any_letters, *some = _kept(initial, text, length)
        yield from some if most == 1 and len(text) >= 5 else (any_letters,)


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
    if len(name) <= 2 or name.casefold() in STOP_WORDS:
        return False
    if len(name) > 6 or " " in name:
        return True
    capitals = sum(c.isupper() for c in name)
    return capitals < 2 or capitals < sum(c.islower() for c in name)


def _initialisms(name: str) -> Iterator[str]:
    """First letters of a name's words, with and without the unimportant ones, in capitals; of at least two."""
    found = [word for word, _ in words_of(name)]
    for chosen in (found, [w for w in found if w.casefold() not in UNIMPORTANT]):
        if len(chosen) > 1:
            yield "".join(w[0] for w in chosen).upper()
