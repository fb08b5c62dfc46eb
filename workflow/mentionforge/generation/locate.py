"""Locating: where a note mentions its concept. Notes become text without tags, mention spans, and a funnel of what was lost.

The model's own tags come first, and what they take is left alone; then the longest of all other hits win:

1. `tag`: a tagged stretch that is a known name of the concept, a near variant of one, an initialism of one, or, where
   `tag_similarity` is given, near one in an encoder's space. Any other tag is taken off, and the next steps decide.
2. `exact`: the preferred name. 3. `synonym`: any other name. Both at word boundaries, in any case, with blanks and hyphens
   interchangeable and an article after "of"; abbreviations and names of ordinary words in their own case only.
4. `fuzzy`: as many words as the name, each the same but for number (Latin, too), possessive, spelling (ae/e), accents or a hyphen, or a slip
   of the pen; in the name's order, or in that of English ("deficiency of X", "X deficiency"). Slips are counted against the name's length; none is
   in a word's first letter ("repression" is no misspelt "depression"), and none turns one word into another: one of the knowledge base, one that
   differs by a part that means something (see `confusion`), or, where a name is a single word, any word that is in use.

What "non-" stands before is no hit unless the name has it: non-Hodgkin lymphoma is no Hodgkin lymphoma. All hits in a note are kept, the longest
first, none overlapping. Names are looked for in the note's `text.view`; spans are 0-based characters into the text without tags as it is, end
exclusive. The same function locates the controls' mentions.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from mentionforge.generation.confusion import UNLIKE, confusable, in_use, of_medicine
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions
from mentionforge.text import Span, normalize_surface, plain, sentences, view

GAP = r"(?:[^\S\n]+|[^\S\n]*[-‐‑–—/'’\n][^\S\n]*)"
"""What may stand between two words of a mention: blanks, a hyphen, slash, apostrophe or line break; no other punctuation."""

UNIMPORTANT = frozenset(["a", "an", "and", "by", "due", "for", "from", "in", "of", "on", "or", "the", "to", "with"])
"""Words that an initialism may leave out."""


_INFINITE = float("inf")
_NOTHING: Mapping[str, float] = MappingProxyType({})
_GAP = re.compile(rf"{GAP}(?=\w)")
_FORM = re.compile(r"\w+(?:['’]s\b)?")
_NEXT = re.compile(rf"{GAP}({_FORM.pattern})")
_NEXT_LOOSE = re.compile(rf"(?:{GAP}|[^\S\n]*[,;:()\[\]]{{1,2}}[^\S\n]*)({_FORM.pattern})")
"""The next word where the name has punctuation before it, which a note may leave out."""
_NEXT_OF = re.compile(rf"{GAP}of{GAP}(?:(?:the|an?){GAP})?({_FORM.pattern})")
_NEXT_ARTICLE = re.compile(rf"{GAP}(?:(?:the|an?){GAP})?({_FORM.pattern})")
_VOWELS = frozenset("aeiouy")
_PUNCTUATION = re.compile(r"[^\w\s]")
_ADJECTIVE = re.compile(r"(?:al|ic|oid|ous|ary|ive|iac|ile|ed|ing)\Z")
"""Words that "of" is not the end of: leukemia of myeloid type."""
_LITTLE = frozenset(["of", "the", "a", "an", "s"])
_JOINED = re.compile(r"(?<=[^\W\d_])[-‐‑](?=[^\W\d_])")


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
        names = {plain(name): "synonym" if i else "exact" for i, name in reversed([*enumerate(concept.names)])}
        solid = {_JOINED.sub("", name): "fuzzy" for name in names if _JOINED.search(name)}  # a text may leave a name's hyphen out
        self.names = [_Name.of(name, match, settings.fuzzy_min_length) for name, match in {**solid, **names}.items()]
        words = sorted({word for name in self.names for word in name.words})
        self._own = {name.words for name in self.names}
        self._single = {name.words[0] for name in self.names if len(name.words) == 1}
        self._bits = {word: 1 << i for i, word in enumerate(words)}
        self._masks = [sum({self._bits[word] for word in name.words if word not in _LITTLE}) for name in self.names]
        self._stems: dict[str, list[str]] = {}  # stem: words of the names
        self._slippery: dict[str, list[_Word]] = {}  # what a slip leaves as it is: words of the names, see `_kept`
        for word in words:
            stem = _stem(word)
            self._stems.setdefault(stem, []).append(word)
            if len(stem) >= 4 and stem.isalpha():
                most = int(max(1.0, len(stem) * (1 - settings.fuzzy_score / 100)))
                entry = _Word(word, stem, most)
                for kept in {key for text in {stem, word} for key in _kept_by_slips(stem[0], text, most)}:
                    self._slippery.setdefault(kept, []).append(entry)
        self._near: dict[str, dict[str, float]] = {}  # form of a text: word of a name, slips between them
        self._chunks = _Chunks({*self._stems, *self._slippery}, self._learn)
        self._reach = max([3, *(1 + name.apart for name in self.names)])
        self._named_by = _Memory(self._those)
        self._runs = _Memory(self._searches)
        self._choices = _Memory(self._choose)
        self._similar: dict[str, float] = {}
        self._keys: set[tuple[str, ...]] | None = None

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
        if not text.isascii() and (shown := view(text)).starts is not None:
            inner = [markers.Tagged(*shown.inside(t.start, t.end), t.closed) for t in tagged]
            found = self.find(shown.text, [t for t in inner if t.start < t.end], {plain(surface): score for surface, score in alike.items()})
            return [Mention(*shown.outside(m.start, m.end), m.match, m.score) for m in found]
        seen = self._look(text)
        kept: list[Mention] = []
        if tagged:
            _keep(kept, self._apart(seen, self._tags(text, tagged, alike)))
        if seen.choice is not _NO_CHOICE:
            _keep(kept, self._apart(seen, [*self._named(text, seen), *self._fuzzy(seen), *self._reordered(seen)]))
        if not text.isascii():  # no mention ends between a letter and its accent
            kept = [m for m in kept if not unicodedata.combining(text[m.end : m.end + 1] or " ")]
        return sorted(kept, key=lambda m: m.start)

    def _apart(self, seen: _View, mentions: Iterable[Mention]) -> Iterable[Mention]:
        """The mentions before which no "non-" stands, or its like."""
        kept = []
        for m in mentions:
            before = seen.folded[max(0, m.start - 10) : m.start]
            if not (("non" in before or "pre" in before or "pseudo" in before or "quasi" in before) and UNLIKE.search(before)):
                kept.append(m)
        return kept

    def doubtful(self, text: str, tagged: Sequence[markers.Tagged]) -> list[str]:
        """Tagged surfaces, closed and not too long, that are no name, near variant or initialism of the concept."""
        found = []
        for stretch in tagged:
            core = text[stretch.start : stretch.end].rstrip(".,;:!?")
            if stretch.closed and len(core.split()) <= self.settings.max_tag_tokens and not self._similarity(plain(core)):
                found.append(core)
        return found

    def _look(self, text: str) -> _View:
        """What to look for in a text: names whose words all stand near one another, in their order and in some form.

        The words of `deficiency of the enzyme` are in the chunks (stretches between blanks) 0, 1 and 3. Chunks that hold something of the names, no more
        than `_reach` apart, make a run; a name is looked for only where one run has all its words. Most notes have no such run.
        """
        folded = _fold_case(text)
        chunks = list(map(self._chunks.__getitem__, folded.split()))  # far cheaper than looking for words
        hits = list(filter(None, chunks))
        present = 0
        for hit in hits:
            present |= hit.present
        choice = self._chosen(chunks) if self._named_by[present] else _NO_CHOICE
        divided = list(_divided(folded)) if (choice.fuzzy or choice.orders) and any(hit.divided for hit in hits) else []
        return _View(folded, choice, hits, divided)

    def _chosen(self, chunks: Sequence[_Hit | None]) -> _Choice:
        """What to look for in the runs of a text's chunks."""
        runs = []
        run: list[tuple[int, int]] = []
        last, reach = 0, self._reach
        for i in itertools.compress(range(len(chunks)), chunks):
            if i - last > reach and run:
                runs.append(tuple(run))
                run = []
            run.append(chunks[i][1:3])  # type: ignore[index]
            last = i
        runs.append(tuple(run))
        found = [run for run in runs if self._runs[run]]
        return self._choices[tuple(found)] if found else _NO_CHOICE

    def _those(self, present: int) -> tuple[int, ...]:
        """Numbers of the names all of whose words are there in some form."""
        return tuple(i for i, mask in enumerate(self._masks) if mask and mask & present == mask)

    def _searches(self, run: tuple[tuple[int, int], ...]) -> _Choice | None:
        """What to look for in a run, of which each chunk has the words of its first number in some form, those of the second in another than the names'.

        A name with a word in another form is no exact hit, so it is looked for fuzzily; so are names with punctuation.
        """
        present = other = 0
        for words, changed in run:
            present |= words
            other |= changed
        exact, fuzzy, orders = [], [], []
        for i in self._named_by[present]:
            name = self.names[i]
            if self._in_order(name.words, run):
                if name.match != "fuzzy":
                    exact.append(name)
                if name.spelled and (name.search.same or self._masks[i] & other):
                    fuzzy.append(name.search)
            orders += [order for order in name.orders if (order[1] or order[0].words not in self._own) and self._in_order(order[0].words, run)]
        return _Choice(exact, fuzzy, orders) if exact or fuzzy or orders else None

    def _in_order(self, words: Iterable[str], run: Sequence[tuple[int, int]]) -> bool:
        """Whether the words that mean something may stand in a run in this order, several in one chunk perhaps."""
        at = 0
        for word in words:
            if word not in _LITTLE:
                bit = self._bits[word]
                while not run[at][0] & bit:
                    at += 1
                    if at == len(run):
                        return False
        return True

    def _choose(self, runs: tuple[tuple[tuple[int, int], ...], ...]) -> _Choice:
        """What to look for in a text with several runs; nothing twice."""
        choices = [self._runs[run] for run in runs]
        exact = {name.name: name for choice in choices for name in choice.exact}
        fuzzy = {(search.words, tuple(search.between)): search for choice in choices for search in choice.fuzzy}
        orders = {(search.words, tuple(search.between)): (search, head) for choice in choices for search, head in choice.orders}
        return _Choice(list(exact.values()), list(fuzzy.values()), list(orders.values()))

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
        if form.kept and fold(form.form) not in self.vocabulary:
            for word, stem, most in {word for kept in form.kept for word in self._slippery.get(kept, ())}:
                if word not in near and stem[0] == form.stem[0] and abs(len(stem) - len(form.stem)) <= most + 2:
                    slips = min(OSA.distance(stem, form.stem), OSA.distance(word, form.form))  # a slip may look like an ending or a spelling
                    if slips <= most and not confusable(word, form.form) and not confusable(stem, form.stem) and not self._another(word, form.form):
                        near[word] = float(slips)
        if near:
            self._near[form.form] = near
        return near

    def _another(self, word: str, form: str) -> bool:
        """Whether a form is a word of its own, so that it is no slip in a word of the names: any where that word is a name, else one of medicine."""
        return (word in self._single or of_medicine(form)) and in_use(form)

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
                seen = self._look(surface)
                whole = (m.score for m in (*self._fuzzy(seen), *self._reordered(seen)) if (m.start, m.end) == (0, len(surface)))
                self._similar[surface] = max(whole, default=0.0) or 100.0 * self._has_the_words(seen)
        return self._similar[surface]

    def _has_the_words(self, seen: _View) -> bool:
        """Whether a text consists of the words of a name, two or more, in any order and number."""
        if self._keys is None:
            self._keys = {key for name in self.names if name.any_case and len(key := _key(name.words)) > 1}
        return _key(_FORM.findall(seen.folded)) in self._keys

    def _named(self, text: str, view: _View) -> Iterator[Mention]:
        places: dict[str, list[int]] = {}
        for name in view.choice.exact:
            first = name.first
            if first not in places:
                places[first] = _places(view.folded, first)
            if places[first]:
                yield from (Mention(start, end, name.match, 100.0) for start, end in name.spans(view.folded if name.any_case else text, places[first]))

    def _fuzzy(self, view: _View) -> Iterator[Mention]:
        """Stretches of as many words as a name, each a form or slip of the name's."""
        for search in view.choice.fuzzy:
            yield from self._stretches(view, search)

    def _reordered(self, view: _View) -> Iterator[Mention]:
        """Stretches with the words of a name in the other order of English; see `_Name.orders`."""
        folded, heads = view.folded, {"": True}
        for search, head in view.choice.orders:
            if head not in heads:
                heads[head] = any(f"{form} of" in folded or f"{form}\nof" in folded for form, _ in self._forms(view, head))
            if heads[head]:
                found = self._stretches(view, search)
                yield from (m for m in found if not _ADJECTIVE.search(folded[m.end - 5 : m.end])) if head else found

    def _forms(self, view: _View, word: str) -> list[tuple[str, float]]:
        """The forms in a text that may stand for a word of the names, and their slips."""
        if word not in view.forms:
            view.forms[word] = [(form, slips) for form in view.close if (slips := self._near[form].get(word)) is not None]
        return view.forms[word]

    def _stretches(self, view: _View, search: _Search) -> Iterator[Mention]:
        """Stretches of forms of the words of a search."""
        words, length, between, same = search
        forms = self._forms(view, words[0])
        if not forms:
            return
        budget = length * (1 - self.settings.fuzzy_score / 100)
        budget = budget if budget >= 1 else float(round(budget))  # a single slip is not a part of one
        for form, slips in forms:
            if slips > budget:
                continue
            for start, end in view.places(form):
                if end - start > len(form):  # divided by a hyphen
                    part = _FORM.match(view.folded, start)
                    if part and words[0] in self._near.get(part[0], _NOTHING):  # which does for itself
                        continue
                found = self._stretch(view, form, end, words, budget - slips, between)
                if found and (same or found[1] or found[0] - start != length):
                    end = found[0]
                    if same and view.folded.count("(", start, end) > view.folded.count(")", start, end):
                        if view.folded[end : end + 1] != ")":
                            continue
                        end += 1
                    yield Mention(start, end, "fuzzy", round(max(0.0, 100 * (1 - found[1] / length)), 1))

    def _stretch(
        self, view: _View, form: str, end: int, words: Sequence[str], budget: float, between: Mapping[int, re.Pattern[str]]
    ) -> tuple[int, float] | None:
        """Where the words end whose first stands as `form` before `end`, with no more slips than the budget, and the distance to them."""
        folded, total = view.folded, 0.0
        for i, wanted in enumerate(words):
            if i:
                found = between.get(i, _NEXT).match(folded, end)
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
            if form[-1] == "s" and i == len(words) - 1 and form.endswith(("'s", "’s")) and wanted[-2:] != form[-2:]:  # not part of the mention
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


class _Memory(dict[Any, Any]):
    """Values of a function, each computed when it is first asked for."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self.compute = compute

    def __missing__(self, key: Any) -> Any:
        found = self[key] = self.compute(key)
        return found


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


class _Search(NamedTuple):
    """Words to be found one after the other in any form.

    Attributes:
        words: The words.
        length: Characters of the name they are from.
        between: What leads to a word, by its number, where it is not just a gap.
        same: Whether to give those as well that are the words as they are.
    """

    words: tuple[str, ...]
    length: int
    between: Mapping[int, re.Pattern[str]]
    same: bool


class _Choice(NamedTuple):
    """What to look for in a text that has certain words.

    Attributes:
        exact: Names all of whose words the text has in some form.
        fuzzy: Forms of the words of those that have a word in another form, or punctuation.
        orders: Their words in other orders, each with the word before "of", if it has one.
    """

    exact: list[_Name]
    fuzzy: list[_Search]
    orders: list[tuple[_Search, str]]


_NO_CHOICE = _Choice([], [], [])


@dataclass
class _View:
    """A text as a matcher sees it.

    Attributes:
        folded: The text by `_fold_case`.
        choice: What to look for in it.
        hits: Its stretches between blanks that hold something of the names.
        divided: Where a hyphen divides one of these: words that a hyphen divides, with start, end, and the word without it.
        found: What `places` has found.
        forms: For words of the names, the forms that may stand for them, and their slips.
    """

    folded: str
    choice: _Choice
    hits: Sequence[_Hit] = ()
    divided: Sequence[tuple[int, int, str]] = ()
    found: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    forms: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    @functools.cached_property
    def close(self) -> list[str]:
        """Word forms of the text that may stand for words of the names."""
        return list(dict.fromkeys(form for hit in self.hits for form in hit.forms))

    def places(self, form: str) -> list[tuple[int, int]]:
        """Where a word form begins and ends, not inside words; also where a hyphen divides it."""
        if form not in self.found:
            found = [(start, whole.end()) for start in _places(self.folded, form) if (whole := _FORM.match(self.folded, start)) and whole[0] == form]
            self.found[form] = found + [(begun, end) for begun, end, whole in self.divided if whole == form]
        return self.found[form]


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
    def apart(self) -> int:
        """Stretches between blanks that stand between two words of the name and have no word: the most of them."""
        return max((len(piece.split()) for piece in re.split(r"\w+", self.name)[1:-1]), default=0)

    @functools.cached_property
    def loose(self) -> tuple[int, ...]:
        """Numbers of the words before which there is punctuation other than a gap's: of `Diabetes mellitus, type 2` that of `type`."""
        if not _PUNCTUATION.search(self.name):
            return ()
        found = list(_FORM.finditer(_fold_case(self.name)))
        return tuple(i for i, (a, b) in enumerate(itertools.pairwise(found), 1) if not re.fullmatch(GAP, self.name[a.end() : b.start()]))

    @functools.cached_property
    def search(self) -> _Search:
        """Its words in any form; a note may have an article after "of", and other punctuation than the name or none.

        A name with punctuation is looked for even where all its words stand as they are.
        """
        between = {
            i: _NEXT_ARTICLE for i, (word, after) in enumerate(itertools.pairwise(self.words), 1) if word == "of" and after not in ("the", "a", "an")
        } | dict.fromkeys(self.loose, _NEXT_LOOSE)
        return _Search(self.words, self.length, between, bool(self.loose) or self.match == "fuzzy")

    @functools.cached_property
    def orders(self) -> list[tuple[_Search, str]]:
        """Its words in the other orders of English, each with the word before "of", if it has one.

        `X deficiency` is `deficiency of X`, `deficiency of X` is `X deficiency`, `pain, abdominal` is `abdominal pain`.
        """
        words = self.words
        if not self.any_case or not 2 <= len(words) <= 7:
            return []
        found: dict[tuple[tuple[str, ...], int], None] = {}
        if "," in self.name:
            pieces = [tuple(_FORM.findall(piece)) for piece in _fold_case(self.name).split(",")]
            if all(pieces) and not re.search(r"[()\[\]]", self.name):
                words = tuple(word for piece in reversed(pieces) for word in piece)
                found[words, 0] = None
                if len(pieces) == 2 and len(words) == 2 and len(words[1]) > 3 and words[1].isalpha():  # Pain, Shoulder
                    found[(words[1], words[0]), 1] = None
        elif self.loose or UNIMPORTANT.intersection(words) - {"of", "the"}:
            pass
        elif words.count("of") == 1:
            at = words.index("of")
            head, rest = words[:at], tuple(word for word in words[at + 1 :] if word != "the")
            if head and rest:
                found[(*rest, *head), 0] = None
                found[(*head[:-1], *rest, head[-1]), 0] = None
        elif "of" not in words and "the" not in words:
            for i in range(1, len(words)):
                head = words[i:]
                if len(head[-1]) > 3 and head[-1].isalpha():
                    for order, of in (((*head, *words[:i]), len(head)), ((*words[: i - 1], words[-1], *words[i - 1 : -1]), i)):
                        found[order, of] = None
        return [(_Search(order, self.length, {of: _NEXT_OF} if of else {}, True), order[of - 1] if of else "") for order, of in found]

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
        stem = _stem(form)
        kept: tuple[str, ...] = ()
        if len(stem) >= 3 and stem.isalpha() and not _VOWELS.isdisjoint(stem):  # without a vowel it is an abbreviation
            kept = _kept(stem[0], stem, len(stem))
            if stem != form:
                kept += _kept(stem[0], form, len(form))
        kinds += [stem, *kept]
        found.append(_Form(form, stem, divided, kept))
    return tuple(kinds), tuple(found)


@functools.lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """A case-folded word without what may differ: accents, possessive, number (Latin and Greek, too), British or American spelling.

    It is for comparison only: `metastases` and `metastasis` agree, so do `diverticula` and `diverticulum`, `thrombi` and `thrombus`.
    """
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
    if len(word) < 5:
        return fold(word)
    if word.endswith(("'s", "’s")):
        word = word[:-2]
    if word.endswith(_PLURAL_ENDINGS):
        ending, other = next(pair for pair in _PLURALS if word.endswith(pair[0]))
        word = word[: len(word) - len(ending)] + other
    else:
        if word[-1] == "s" and word[-2] not in "sui":
            word = word[:-1]
        for ending, other in _SINGULARS.get(word[-1], ()):
            if word.endswith(ending):
                word = word[: len(word) - len(ending)] + other
                break
    return word.replace("ae", "e").replace("oe", "e").replace("our", "or")


_PLURALS = [
    *(("itides", "itis"), ("exes", "ix"), ("nges", "nx"), ("ices", "ix"), ("ies", "y"), ("tres", "ter"), ("bres", "ber"), ("xes", "x"), ("xis", "x")),
    *(("shes", "sh"), ("ches", "ch"), ("sses", "ss"), ("uses", "us"), ("ses", "s"), ("sis", "s")),
]
"""Endings with s, and what becomes of them; what becomes of the singular is the same."""

_PLURAL_ENDINGS = tuple(ending for ending, _ in _PLURALS)

_SINGULARS: dict[str, list[tuple[str, str]]] = {
    "e": [("nge", "nx"), ("ice", "ix"), ("ie", "y"), ("tre", "ter"), ("bre", "ber"), ("che", "ch"), ("se", "s"), ("ae", "a")],
    "x": [("ex", "ix")],
    "a": [("mata", "ma")],
    "m": [("um", "a")],
    "n": [("ion", "ia"), ("omenon", "omena"), ("amen", "amina"), ("umen", "umina")],
    "i": [("i", "us")],
}
"""Endings of other words, and what becomes of them."""


def _key(words: Iterable[str]) -> tuple[str, ...]:
    """Stems of words that mean something, in alphabetical order."""
    return tuple(sorted(_stem(word) for word in words if word not in _LITTLE))


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


_KINDS = {match: i for i, match in enumerate(tables.MATCHES)}


def _keep(kept: list[Mention], candidates: Iterable[Mention]) -> None:
    """Add the candidates that overlap nothing kept, the longest first, then by kind of match, then from left to right."""
    for m in sorted(candidates, key=lambda m: (m.start - m.end, _KINDS[m.match], -m.score, m.start)):
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
