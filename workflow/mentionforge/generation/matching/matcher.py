"""Finding one concept's mentions in a text.

A concept may have thirty names, a generator may write a thousand notes about it, and a note has two hundred words. So nothing is compared twice, and
names are looked for only where they can be. An example, with the names `Essential tremor` and `Familial tremor` and the note
`Tremors, essential, since 2001. No tremor in the family.`:

1. The words of the names have a bit each: `essential` 1, `familial` 2, `tremor` 4. A name's mask has the bits of its words: 5 and 6.
2. The note is cut at blanks into chunks: `tremors,` `essential,` `since` ... For each chunk, `Words` says once which words it may stand for (`tremors,`:
   4, and as another form of the word; `essential,`: 1; `since`: none), and `Chunks` remembers that for all notes to come.
3. All bits of the note together are 5. Only `Essential tremor` has no bit beside: `Familial tremor` is not in this note. Most notes end here.
4. Chunks with a bit that are near one another make a run. Here these are (4, 1) and (4): the first has all bits of 5, the second has not.
5. In the run, `tremor` stands before `essential`. The name as it is would need them the other way round, but its order `tremor, essential` fits. So that is
   the only thing to search for, and the search is remembered for every note with such a run.
6. The search goes through the characters: `tremors`, then `, `, then `essential`, with no more slips than the name's length allows.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rapidfuzz.distance import OSA

from mentionforge import tables
from mentionforge.generation import markers
from mentionforge.generation.concepts import Concept
from mentionforge.generation.confusion import UNLIKE, elsewhere
from mentionforge.generation.matching.forms import FORM, LITTLE, NEXT, Form, divided_words, fold_case, in_word, key_of, places_of
from mentionforge.generation.matching.names import ADJECTIVE, Name, Search, initialisms_of, pairs_of, stands_alone, variants_of
from mentionforge.generation.matching.view import NO_CHOICE, Choice, Chunks, Hit, Memory, View
from mentionforge.generation.matching.words import Words
from mentionforge.generation.settings import Locate
from mentionforge.text import normalize_surface, plain, view

_INFINITE = float("inf")
_NOTHING: Mapping[str, float] = MappingProxyType({})


class Mention(NamedTuple):
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

    def __init__(self, concept: Concept, settings: Locate, vocabulary: Collection[str]) -> None:
        self.concept, self.settings, self.vocabulary = concept, settings, vocabulary
        names = {plain(name): "synonym" if i else "exact" for i, name in reversed([*enumerate(concept.names)])}
        variants = dict.fromkeys((variant for name in names for variant in sorted(variants_of(name))), "fuzzy")
        for pair in pairs_of(names):
            variants |= dict.fromkeys((pair.sub(r"\1\2", name) for name in names if pair.search(name)), "fuzzy")
        self.names = [Name.of(name, match, settings.fuzzy_min_length) for name, match in {**variants, **names}.items()]
        words = sorted({word for name in self.names for word in name.words})
        self._own = {name.words for name in self.names}
        self._bits = {word: 1 << i for i, word in enumerate(words)}
        self._masks = [sum({self._bits[word] for word in name.words if word not in LITTLE}) for name in self.names]
        self._words = Words(words, {name.words[0] for name in self.names if len(name.words) == 1}, settings.fuzzy_score, vocabulary)
        self._near = self._words.near
        self._chunks = Chunks(self._words.kinds(), self._learn)
        self._reach = max([3, *(1 + name.apart for name in self.names)])
        self._named_by = Memory(self._those)
        self._runs = Memory(self._searches)
        self._choices = Memory(self._choose)
        self._similar: dict[str, float] = {}
        self._is_name = Memory(lambda surface: normalize_surface(surface) in self.known)
        self._keys: set[tuple[str, ...]] | None = None

    @functools.cached_property
    def known(self) -> set[str]:
        """The names, normalized."""
        return {normalize_surface(name) for name in self.concept.names}

    @functools.cached_property
    def initialisms(self) -> set[str]:
        """Initialisms of the names."""
        return {letters for name in self.concept.names for letters in initialisms_of(name)}

    def find(self, text: str, tagged: Sequence[markers.Tagged], alike: Mapping[str, float] = MappingProxyType({})) -> list[Mention]:
        """All mentions in a text without tags, in order, none overlapping.

        Args:
            text: Text without tags.
            tagged: Tagged stretches of it.
            alike: Tagged surfaces that are to be accepted although no name, and their score; see `doubtful`.
        """
        if not text.isascii() and (shown := view(text)).starts is not None:
            inner = [markers.Tagged(*shown.to_view(t.start, t.end), t.closed) for t in tagged]
            found = self.find(shown.text, [t for t in inner if t.start < t.end], {plain(surface): score for surface, score in alike.items()})
            return [Mention(*shown.to_original(m.start, m.end), m.match, m.score) for m in found]
        folded = fold_case(text)
        choice, hits = self._searched_in(folded)
        if choice is NO_CHOICE and not tagged:  # nearly every note without a mention
            return []
        seen = self._seen(folded, choice, hits)
        kept: list[Mention] = []
        if tagged:
            _keep(kept, self._apart(seen, self._tags(text, tagged, alike)))
        if seen.choice is not NO_CHOICE:
            _keep(kept, self._apart(seen, [*self._named(text, seen), *self._fuzzy(seen), *self._reordered(seen)]))
        if not text.isascii():  # no mention ends between a letter and its accent
            kept = [m for m in kept if not unicodedata.combining(text[m.end : m.end + 1] or " ")]
        return sorted(kept, key=lambda m: m.start)

    def _apart(self, seen: View, mentions: Iterable[Mention]) -> Iterable[Mention]:
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

    def _look(self, text: str) -> View:
        """What to look for in a text: names whose words all stand near one another, in their order and in some form.

        The words of `deficiency of the enzyme` are in the chunks (stretches between blanks) 0, 1 and 3. Chunks that hold something of the names, no more
        than `_reach` apart, make a run; a name is looked for only where one run has all its words. Most notes have no such run.
        """
        folded = fold_case(text)
        choice, hits = self._searched_in(folded)
        return self._seen(folded, choice, hits)

    def _searched_in(self, folded: str) -> tuple[Choice, list[Hit]]:
        """What to look for in a case-folded text, and its chunks that hold something of the names."""
        chunks = list(map(self._chunks.__getitem__, folded.split()))  # far cheaper than looking for words
        hits = list(filter(None, chunks))
        present = 0
        for hit in hits:
            present |= hit.present
        return (self._chosen(chunks) if self._named_by[present] else NO_CHOICE), hits

    def _seen(self, folded: str, choice: Choice, hits: list[Hit]) -> View:
        divided = list(divided_words(folded)) if (choice.fuzzy or choice.orders) and any(hit.divided for hit in hits) else []
        return View(folded, choice, hits, divided)

    def _chosen(self, chunks: Sequence[Hit | None]) -> Choice:
        """What to look for in the runs of a text's chunks."""
        runs = []
        run: list[tuple[int, int]] = []
        last, reach = 0, self._reach
        for i in itertools.compress(range(len(chunks)), chunks):
            if i - last > reach and run:
                runs.append(tuple(run))
                run = []
            run.append(chunks[i].both)  # type: ignore[union-attr]
            last = i
        runs.append(tuple(run))
        found = [run for run in runs if self._runs[run]]
        return self._choices[tuple(found)] if found else NO_CHOICE

    def _those(self, present: int) -> tuple[int, ...]:
        """Numbers of the names all of whose words are there in some form."""
        return tuple([i for i, mask in enumerate(self._masks) if mask & present == mask and mask])

    def _searches(self, run: tuple[tuple[int, int], ...]) -> Choice | None:
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
            orders += [order for order in name.orders if (order.mark or order.search.words not in self._own) and self._in_order(order.search.words, run)]
        return Choice(exact, fuzzy, orders) if exact or fuzzy or orders else None

    def _in_order(self, words: Iterable[str], run: Sequence[tuple[int, int]]) -> bool:
        """Whether the words that mean something may stand in a run in this order, several in one chunk perhaps."""
        at = 0
        for word in words:
            if word not in LITTLE:
                bit = self._bits[word]
                while not run[at][0] & bit:
                    at += 1
                    if at == len(run):
                        return False
        return True

    def _choose(self, runs: tuple[tuple[tuple[int, int], ...], ...]) -> Choice:
        """What to look for in a text with several runs; nothing twice."""
        choices = [self._runs[run] for run in runs]
        exact = {name.name: name for choice in choices for name in choice.exact}
        fuzzy = {(search.words, tuple(search.between)): search for choice in choices for search in choice.fuzzy}
        orders = {(order.search.words, tuple(order.search.between), order.mark): order for choice in choices for order in choice.orders}
        return Choice(list(exact.values()), list(fuzzy.values()), list(orders.values()))

    def _learn(self, forms: Iterable[Form]) -> Hit | None:
        """Which word forms of a stretch between blanks may stand for words of the names, if any."""
        present = other = 0
        divided = False
        close = []
        for form in forms:
            near = self._near.get(form.form) or self._words.compare(form)
            if near:
                close.append(form.form)
                divided |= form.divided
                for word in near:
                    present |= self._bits[word]
                    if word != form.form or form.divided:
                        other |= self._bits[word]
        return Hit(tuple(close), present, (present, other), divided) if close else None

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
                    if not self._is_name[core]:  # an abbreviation or variant of the note's own
                        yield from (Mention(at, at + len(core), "tag", score) for at in places_of(text, core) if not in_word(text[at + len(core) :][:1]))
                    break

    def _similarity(self, surface: str) -> float:
        """Similarity of a tagged stretch to the concept's names; 0 if it is none of them."""
        if surface not in self._similar:
            if self._is_name[surface] or surface.replace(".", "") in self.initialisms:
                self._similar[surface] = 100.0
            else:
                seen = self._look(surface)
                whole = (m.score for m in (*self._fuzzy(seen), *self._reordered(seen)) if (m.start, m.end) == (0, len(surface)))
                self._similar[surface] = max(whole, default=0.0) or 100.0 * self._has_the_words(seen)
        return self._similar[surface]

    def _has_the_words(self, seen: View) -> bool:
        """Whether a text consists of the words of a name, two or more, in any order and number."""
        if self._keys is None:
            self._keys = {key for name in self.names if name.any_case and len(key := key_of(name.words)) > 1}
        return key_of(FORM.findall(seen.folded)) in self._keys

    def _named(self, text: str, view: View) -> Iterator[Mention]:
        places: dict[str, list[int]] = {}
        for name in view.choice.exact:
            first = name.first
            if first not in places:
                places[first] = places_of(view.folded, first)
            if places[first]:
                for start, end in name.spans(view.folded if name.any_case else text, places[first]):
                    if (name.guard and not stands_alone(view.folded, start, end, name.guard)) or (not name.any_case and elsewhere(text, start, end)):
                        continue
                    yield Mention(start, end, name.match, 100.0)

    def _fuzzy(self, view: View) -> Iterator[Mention]:
        """Stretches of as many words as a name, each a form or slip of the name's."""
        for search in view.choice.fuzzy:
            yield from self._stretches(view, search)

    def _reordered(self, view: View) -> Iterator[Mention]:
        """Stretches with the words of a name in the other order of English; see `Name.orders`."""
        folded, heads = view.folded, {("", ""): True}
        for search, head, mark in view.choice.orders:
            if (head, mark) not in heads:
                behind = (" of", "\nof") if mark == "of" else (",", " (", " [")
                heads[head, mark] = any(form + lead in folded for form, _ in self._forms(view, head) for lead in behind)
            if heads[head, mark]:
                found = self._stretches(view, search)
                yield from (m for m in found if not ADJECTIVE.search(folded[m.end - 5 : m.end])) if mark == "of" else found

    def _forms(self, view: View, word: str) -> list[tuple[str, float]]:
        """The forms in a text that may stand for a word of the names, and their slips."""
        if word not in view.forms:
            view.forms[word] = [(form, slips) for form in view.close if (slips := self._near[form].get(word)) is not None]
        return view.forms[word]

    def _stretches(self, view: View, search: Search) -> Iterator[Mention]:
        """Stretches of forms of the words of a search."""
        words, length, between, same, guard = search
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
                    part = FORM.match(view.folded, start)
                    if part and words[0] in self._near.get(part[0], _NOTHING):  # which does for itself
                        continue
                found = self._stretch(view, form, end, words, budget - slips, between)
                if found and (same or found[1] or found[0] - start != length):
                    end = found[0]
                    if same and view.folded.count("(", start, end) > view.folded.count(")", start, end):
                        if view.folded[end : end + 1] != ")":
                            continue
                        end += 1
                    elif guard and "," in view.folded[start:end] and not stands_alone(view.folded, start, end, guard):
                        continue
                    yield Mention(start, end, "fuzzy", round(max(0.0, 100 * (1 - found[1] / length)), 1))

    def _stretch(
        self, view: View, form: str, end: int, words: Sequence[str], budget: float, between: Mapping[int, re.Pattern[str]]
    ) -> tuple[int, float] | None:
        """Where the words end whose first stands as `form` before `end`, with no more slips than the budget, and the distance to them."""
        folded, total = view.folded, 0.0
        for i, wanted in enumerate(words):
            if i:
                found = between.get(i, NEXT).match(folded, end)
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


_KINDS = {match: i for i, match in enumerate(tables.MATCHES)}


def _keep(kept: list[Mention], candidates: Iterable[Mention]) -> None:
    """Add the candidates that overlap nothing kept, the longest first, then by kind of match, then from left to right."""
    for m in sorted(candidates, key=lambda m: (m.start - m.end, _KINDS[m.match], -m.score, m.start)):
        if all(m.end <= other.start or other.end <= m.start for other in kept):
            kept.append(m)
