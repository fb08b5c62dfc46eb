"""Finds the mentions of one concept in a text. In: a concept's names, settings and a text without tags. Out: mentions, none overlapping.

Offsets are 0-based characters, end exclusive. Knows nothing about tables, files or other concepts.
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
from mentionforge.generation.confusion import ALTERING_PREFIX, has_other_sense
from mentionforge.generation.matching.forms import (
    FUNCTION_WORDS,
    NEXT_WORD,
    WORD,
    WordForm,
    content_stems,
    fold_case,
    hyphenated_words,
    is_word_character,
    word_starts,
)
from mentionforge.generation.matching.names import ADJECTIVE, Name, WordSequence, hyphenated_pairs, initialisms_of, spelling_variants, stands_alone
from mentionforge.generation.matching.view import NO_QUERIES, Cache, ChunkCache, ChunkWords, PreparedText, Queries
from mentionforge.generation.matching.words import NameWords
from mentionforge.generation.settings import Locate
from mentionforge.text import normalize_surface, plain, view

# How a search is narrowed down
#
# A concept may have thirty names, a generator may write a thousand notes about it, and a note has two hundred words. So no word is compared twice, and
# a name is searched for only where all its words occur. An example with the names `Essential tremor` and `Familial tremor` and the note
# `Tremors, essential, since 2001. No tremor in the family.`:
#
# 1. Every word of the names gets a bit: `essential` 1, `familial` 2, `tremor` 4. A name's mask is the sum of its words' bits: 1 + 4 = 5 and 2 + 4 = 6.
# 2. The note is cut at blanks into chunks: `tremors,` `essential,` `since` ... `NameWords` decides once which name words a chunk stands for:
#    `tremors,` has mask 4 (in another form than the name's), `essential,` 1, `since` 0. `ChunkCache` keeps that for all later notes.
# 3. The masks of all chunks together make 5. A name can occur only if it has no other bit: `mask & 5 == mask` holds for 5 (`Essential tremor`), not
#    for 6 (`Familial tremor`). Most notes without a mention end here.
# 4. Chunks with a mask other than 0 that are close together make a run. Here the runs are (4, 1) and (4). Only the first has all bits of 5.
# 5. In this run, `tremor` comes before `essential`. The name needs the opposite order, but its reordering `tremor, essential` fits. So the
#    reordering is the only query, and it is cached for every note with such a run.
# 6. The query is matched character by character: `tremors`, then `, `, then `essential`, with no more slips than the name's length allows.

_INFINITE = float("inf")
_NOTHING: Mapping[str, float] = MappingProxyType({})

Run = tuple[tuple[int, int], ...]
"""For each chunk of a run with name words: the bits of these words, and of those among them that the chunk has in another form than the name's."""


class LocatedMention(NamedTuple):
    """A mention: its span in the text without tags, its kind of match (`tables.MATCHES`), and its similarity to the matched name (0 to 100)."""

    start: int
    end: int
    match: str
    score: float


class Matcher:
    """Finds one concept's mentions in texts.

    Args:
        concept: The concept with its names.
        settings: Least length and similarity of fuzzy matches, longest tag.
        vocabulary: Words of the knowledge base's names, folded. None of them is accepted as a misspelling of another word.
    """

    def __init__(self, concept: Concept, settings: Locate, vocabulary: Collection[str]) -> None:
        self.concept, self.settings, self.vocabulary = concept, settings, vocabulary
        names = {plain(name): "synonym" if i else "exact" for i, name in reversed([*enumerate(concept.names)])}
        variants = dict.fromkeys((variant for name in names for variant in sorted(spelling_variants(name))), "fuzzy")
        for pair in hyphenated_pairs(names):
            variants |= dict.fromkeys((pair.sub(r"\1\2", name) for name in names if pair.search(name)), "fuzzy")
        self.names = [Name.of(name, match, settings.fuzzy_min_length) for name, match in {**variants, **names}.items()]
        words = sorted({word for name in self.names for word in name.words})
        self._word_sequences = {name.words for name in self.names}
        self._bit_of_word = {word: 1 << i for i, word in enumerate(words)}
        self._name_masks = [sum({self._bit_of_word[word] for word in name.words if word not in FUNCTION_WORDS}) for name in self.names]
        self._name_words = NameWords(words, {name.words[0] for name in self.names if len(name.words) == 1}, settings.fuzzy_score, vocabulary)
        self._slips_by_word = self._name_words.slips_by_word
        self._chunks = ChunkCache(self._name_words.keys(), self._read_chunk)
        self._max_gap = max([3, *(1 + name.punctuation_run for name in self.names)])  # in chunks
        self._names_within = Cache(self._find_names_within)
        self._queries_by_run = Cache(self._queries_in_run)
        self._queries_by_runs = Cache(self._merge_queries)
        self._similarities: dict[str, float] = {}
        self._is_name = Cache(lambda surface: normalize_surface(surface) in self.known)
        self._content_stems: set[tuple[str, ...]] | None = None

    @functools.cached_property
    def known(self) -> set[str]:
        """The names, normalized."""
        return {normalize_surface(name) for name in self.concept.names}

    @functools.cached_property
    def initialisms(self) -> set[str]:
        """Initialisms of the names."""
        return {letters for name in self.concept.names for letters in initialisms_of(name)}

    def find(self, text: str, tagged: Sequence[markers.TaggedSpan], accepted_tags: Mapping[str, float] = MappingProxyType({})) -> list[LocatedMention]:
        """All mentions in a text, from left to right, none overlapping.

        Args:
            text: Text without tags.
            tagged: Its tagged spans.
            accepted_tags: Tagged surfaces to accept although they match no name, with their scores; see `unmatched_tags`.
        """
        if not text.isascii() and (shown := view(text)).starts is not None:
            inner = [markers.TaggedSpan(*shown.to_view(t.start, t.end), t.closed) for t in tagged]
            mentions = self.find(shown.text, [t for t in inner if t.start < t.end], {plain(surface): score for surface, score in accepted_tags.items()})
            return [LocatedMention(*shown.to_original(m.start, m.end), m.match, m.score) for m in mentions]
        folded = fold_case(text)
        queries, chunks = self._queries_and_chunks(folded)
        if queries is NO_QUERIES and not tagged:  # nearly every note without a mention
            return []
        prepared = self._prepared_text(folded, queries, chunks)
        kept: list[LocatedMention] = []
        if tagged:
            _add_longest_first(kept, self._without_altering_prefix(prepared, self._tag_mentions(text, tagged, accepted_tags)))
        if queries is not NO_QUERIES:
            candidates = [*self._exact_mentions(text, prepared), *self._fuzzy_mentions(prepared), *self._reordered_mentions(prepared)]
            _add_longest_first(kept, self._without_altering_prefix(prepared, candidates))
        if not text.isascii():  # no mention ends between a letter and its accent
            kept = [m for m in kept if not unicodedata.combining(text[m.end : m.end + 1] or " ")]
        return sorted(kept, key=lambda m: m.start)

    def _without_altering_prefix(self, prepared: PreparedText, mentions: Iterable[LocatedMention]) -> Iterable[LocatedMention]:
        """The mentions that do not follow "non-" or the like."""
        kept = []
        for m in mentions:
            before = prepared.folded[max(0, m.start - 10) : m.start]
            if not (("non" in before or "pre" in before or "pseudo" in before or "quasi" in before) and ALTERING_PREFIX.search(before)):
                kept.append(m)
        return kept

    def unmatched_tags(self, text: str, tagged: Sequence[markers.TaggedSpan]) -> list[str]:
        """Surfaces of closed tags, not too long, that are no name, near variant or initialism of the concept."""
        surfaces = []
        for tag in tagged:
            surface = text[tag.start : tag.end].rstrip(".,;:!?")
            if tag.closed and len(surface.split()) <= self.settings.max_tag_tokens and not self._similarity(plain(surface)):
                surfaces.append(surface)
        return surfaces

    def _prepare(self, text: str) -> PreparedText:
        """The text with its queries: names whose words all occur in one run, in some form and in an order that fits.

        In `deficiency of the enzyme`, the words `deficiency`, `of` and `enzyme` are in chunks 0, 1 and 3. Chunks that hold name words and are at most
        `_max_gap` apart make a run.
        """
        folded = fold_case(text)
        queries, chunks = self._queries_and_chunks(folded)
        return self._prepared_text(folded, queries, chunks)

    def _queries_and_chunks(self, folded: str) -> tuple[Queries, list[ChunkWords]]:
        """Queries of a case-folded text, and its chunks that hold name words."""
        all_chunks = list(map(self._chunks.__getitem__, folded.split()))  # far cheaper than a regular expression for words
        chunks = list(filter(None, all_chunks))
        word_mask = 0
        for chunk in chunks:
            word_mask |= chunk.word_mask
        return (self._queries_in_chunks(all_chunks) if self._names_within[word_mask] else NO_QUERIES), chunks

    def _prepared_text(self, folded: str, queries: Queries, chunks: list[ChunkWords]) -> PreparedText:
        hyphenated = list(hyphenated_words(folded)) if (queries.fuzzy or queries.reorderings) and any(chunk.hyphenated for chunk in chunks) else []
        return PreparedText(folded, queries, chunks, hyphenated)

    def _queries_in_chunks(self, chunks: Sequence[ChunkWords | None]) -> Queries:
        """Queries of a text, by its chunks."""
        runs = []
        run: list[tuple[int, int]] = []
        last, max_gap = 0, self._max_gap
        for i in itertools.compress(range(len(chunks)), chunks):
            if i - last > max_gap and run:
                runs.append(tuple(run))
                run = []
            run.append(chunks[i].masks)  # type: ignore[union-attr]
            last = i
        runs.append(tuple(run))
        with_queries = [run for run in runs if self._queries_by_run[run]]
        return self._queries_by_runs[tuple(with_queries)] if with_queries else NO_QUERIES

    def _find_names_within(self, word_mask: int) -> tuple[int, ...]:
        """Numbers of the names whose words all have their bit in the mask."""
        return tuple([i for i, mask in enumerate(self._name_masks) if mask & word_mask == mask and mask])

    def _queries_in_run(self, run: Run) -> Queries | None:
        """Queries of one run.

        A name with a word in another form cannot match exactly, so it is searched for fuzzily. So is a name with punctuation.
        """
        word_mask = changed_mask = 0
        for words, changed in run:
            word_mask |= words
            changed_mask |= changed
        exact, fuzzy, reorderings = [], [], []
        for i in self._names_within[word_mask]:
            name = self.names[i]
            if self._in_order(name.words, run):
                if name.match != "fuzzy":
                    exact.append(name)
                if name.allows_slips and (name.sequence.include_exact or self._name_masks[i] & changed_mask):
                    fuzzy.append(name.sequence)
            reorderings += [
                order
                for order in name.reorderings
                if (order.mark or order.sequence.words not in self._word_sequences) and self._in_order(order.sequence.words, run)
            ]
        return Queries(exact, fuzzy, reorderings) if exact or fuzzy or reorderings else None

    def _in_order(self, words: Iterable[str], run: Run) -> bool:
        """Whether the content words may occur in a run in this order; one chunk may hold several of them."""
        at = 0
        for word in words:
            if word not in FUNCTION_WORDS:
                bit = self._bit_of_word[word]
                while not run[at][0] & bit:
                    at += 1
                    if at == len(run):
                        return False
        return True

    def _merge_queries(self, runs: tuple[Run, ...]) -> Queries:
        """Queries of a text with several runs, without duplicates."""
        all_queries = [self._queries_by_run[run] for run in runs]
        exact = {name.name: name for queries in all_queries for name in queries.exact}
        fuzzy = {(sequence.words, tuple(sequence.gaps)): sequence for queries in all_queries for sequence in queries.fuzzy}
        reorderings = {(order.sequence.words, tuple(order.sequence.gaps), order.mark): order for queries in all_queries for order in queries.reorderings}
        return Queries(list(exact.values()), list(fuzzy.values()), list(reorderings.values()))

    def _read_chunk(self, forms: Iterable[WordForm]) -> ChunkWords | None:
        """The name words that the word forms of a chunk stand for, if any."""
        word_mask = changed_mask = 0
        hyphenated = False
        matching_forms = []
        for form in forms:
            words = self._slips_by_word.get(form.form) or self._name_words.compare(form)
            if words:
                matching_forms.append(form.form)
                hyphenated |= form.hyphenated
                for word in words:
                    word_mask |= self._bit_of_word[word]
                    if word != form.form or form.hyphenated:
                        changed_mask |= self._bit_of_word[word]
        return ChunkWords(tuple(matching_forms), word_mask, (word_mask, changed_mask), hyphenated) if matching_forms else None

    def _tag_mentions(self, text: str, tagged: Sequence[markers.TaggedSpan], accepted_tags: Mapping[str, float]) -> Iterator[LocatedMention]:
        for tag in tagged:
            ends = [tag.start + m.end() for m in re.finditer(r"\S+", text[tag.start : tag.end])]
            if tag.closed and len(ends) > self.settings.max_tag_tokens:
                continue
            # The end of an unclosed tag is unknown: its mention is the longest beginning that is a name.
            for end in ends[-1:] if tag.closed else ends[: self.settings.max_tag_tokens][::-1]:
                surface = text[tag.start : end].rstrip(".,;:!?")
                score = self._similarity(surface) or (accepted_tags.get(surface, 0.0) if tag.closed else 0.0)
                if score:
                    yield LocatedMention(tag.start, tag.start + len(surface), "tag", score)
                    if not self._is_name[surface]:  # an abbreviation or variant that only this note uses: find its other occurrences
                        for start in word_starts(text, surface):
                            if not is_word_character(text[start + len(surface) :][:1]):
                                yield LocatedMention(start, start + len(surface), "tag", score)
                    break

    def _similarity(self, surface: str) -> float:
        """Similarity of a tagged surface to the concept's names, 0 to 100; 0 if it matches none."""
        if surface not in self._similarities:
            if self._is_name[surface] or surface.replace(".", "") in self.initialisms:
                self._similarities[surface] = 100.0
            else:
                prepared = self._prepare(surface)
                mentions = (*self._fuzzy_mentions(prepared), *self._reordered_mentions(prepared))
                scores = (m.score for m in mentions if (m.start, m.end) == (0, len(surface)))
                self._similarities[surface] = max(scores, default=0.0) or 100.0 * self._has_words_of_a_name(prepared)
        return self._similarities[surface]

    def _has_words_of_a_name(self, prepared: PreparedText) -> bool:
        """Whether the text consists of the words of a name, two or more, in any order and number."""
        if self._content_stems is None:
            self._content_stems = {stems for name in self.names if name.case_insensitive and len(stems := content_stems(name.words)) > 1}
        return content_stems(WORD.findall(prepared.folded)) in self._content_stems

    def _exact_mentions(self, text: str, prepared: PreparedText) -> Iterator[LocatedMention]:
        """Occurrences of the names as they are, in their own case where it matters."""
        starts_by_word: dict[str, list[int]] = {}
        for name in prepared.queries.exact:
            first = name.first_word
            if first not in starts_by_word:
                starts_by_word[first] = word_starts(prepared.folded, first)
            if starts_by_word[first]:
                for start, end in name.spans(prepared.folded if name.case_insensitive else text, starts_by_word[first]):
                    if name.comma_check and not stands_alone(prepared.folded, start, end, name.comma_check):
                        continue
                    if not name.case_insensitive and has_other_sense(text, start, end):
                        continue
                    yield LocatedMention(start, end, name.match, 100.0)

    def _fuzzy_mentions(self, prepared: PreparedText) -> Iterator[LocatedMention]:
        """Spans with as many words as a name, each another form or a misspelling of the name's word."""
        for sequence in prepared.queries.fuzzy:
            yield from self._sequence_mentions(prepared, sequence)

    def _reordered_mentions(self, prepared: PreparedText) -> Iterator[LocatedMention]:
        """Spans with the words of a name in another order; see `Name.reorderings`."""
        folded, heads = prepared.folded, {("", ""): True}
        for sequence, head, mark in prepared.queries.reorderings:
            if (head, mark) not in heads:
                marks = (" of", "\nof") if mark == "of" else (",", " (", " [")
                heads[head, mark] = any(form + mark_text in folded for form, _ in self._forms_of_word(prepared, head) for mark_text in marks)
            if heads[head, mark]:
                mentions = self._sequence_mentions(prepared, sequence)
                yield from (m for m in mentions if not ADJECTIVE.search(folded[m.end - 5 : m.end])) if mark == "of" else mentions

    def _forms_of_word(self, prepared: PreparedText, word: str) -> list[tuple[str, float]]:
        """The forms in a text that stand for a name word, with the number of slips."""
        if word not in prepared.forms_by_word:
            prepared.forms_by_word[word] = [(form, slips) for form in prepared.forms if (slips := self._slips_by_word[form].get(word)) is not None]
        return prepared.forms_by_word[word]

    def _sequence_mentions(self, prepared: PreparedText, sequence: WordSequence) -> Iterator[LocatedMention]:
        """Spans that match a word sequence."""
        words, length, gaps, include_exact, comma_check = sequence
        forms = self._forms_of_word(prepared, words[0])
        if not forms:
            return
        folded = prepared.folded
        max_slips = length * (1 - self.settings.fuzzy_score / 100)
        max_slips = max_slips if max_slips >= 1 else float(round(max_slips))  # from half a slip up, one slip is allowed
        for form, slips in forms:
            if slips > max_slips:
                continue
            for start, end in prepared.positions_of(form):
                if end - start > len(form):  # a hyphen inside
                    part = WORD.match(folded, start)
                    if part and words[0] in self._slips_by_word.get(part[0], _NOTHING):  # the part before the hyphen stands for the word alone
                        continue
                matched = self._match_sequence(prepared, form, end, words, max_slips - slips, gaps)
                if matched and (include_exact or matched[1] or matched[0] - start != length):
                    end, distance = matched
                    if include_exact and folded.count("(", start, end) > folded.count(")", start, end):
                        if folded[end : end + 1] != ")":
                            continue
                        end += 1
                    elif comma_check and "," in folded[start:end] and not stands_alone(folded, start, end, comma_check):
                        continue
                    yield LocatedMention(start, end, "fuzzy", round(max(0.0, 100 * (1 - distance / length)), 1))

    def _match_sequence(
        self, prepared: PreparedText, form: str, end: int, words: Sequence[str], slips_left: float, gaps: Mapping[int, re.Pattern[str]]
    ) -> tuple[int, float] | None:
        """The end of a match and its edit distance to the words, or none.

        Args:
            prepared: The text.
            form: Form in the text that stands for the first word.
            end: End of that form.
            words: The words to match.
            slips_left: Number of slips allowed in the words after the first.
            gaps: Patterns of a gap and the word after it, by the number of the word; `NEXT_WORD` for the others.
        """
        folded, distance = prepared.folded, 0.0
        for i, word in enumerate(words):
            if i:
                match = gaps.get(i, NEXT_WORD).match(folded, end)
                if not match:
                    return None
                form, end = match[1], match.end()
                slips = self._slips_by_word.get(form, _NOTHING).get(word, _INFINITE)
                if slips == _INFINITE and prepared.hyphenated:  # try the two parts around a hyphen as one form
                    form, end = next(((whole, stop) for start, stop, whole in prepared.hyphenated if start == match.start(1)), (form, end))
                    slips = self._slips_by_word.get(form, _NOTHING).get(word, _INFINITE)
                slips_left -= slips
                if slips_left < 0:
                    return None
            if form[-1] == "s" and i == len(words) - 1 and form.endswith(("'s", "’s")) and word[-2:] != form[-2:]:  # not part of the mention
                form, end = form[:-2], end - 2
            if form != word:
                distance += OSA.distance(word, form)
        return end, distance


_MATCH_RANK = {match: i for i, match in enumerate(tables.MATCHES)}


def _add_longest_first(kept: list[LocatedMention], candidates: Iterable[LocatedMention]) -> None:
    """Add the candidates that overlap no kept mention: the longest first, then by kind of match, score and position."""
    for m in sorted(candidates, key=lambda m: (m.start - m.end, _MATCH_RANK[m.match], -m.score, m.start)):
        if all(m.end <= other.start or other.end <= m.start for other in kept):
            kept.append(m)
