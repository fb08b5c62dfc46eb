"""Data that a matcher keeps: what each chunk of a text holds, what to search for, and a text prepared for searching.

In: chunks, stretches of text between blanks. Out: what each holds, read once and cached for all texts.
Knows nothing about how mentions are searched for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mentionforge.generation.matching.forms import WORD, WordForm, keys_and_forms, word_starts
from mentionforge.generation.matching.names import Name, Reordering, WordSequence


class Cache(dict[Any, Any]):
    """Values of a function, each computed when it is first needed."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self.compute = compute

    def __missing__(self, key: Any) -> Any:
        """Compute the value and keep it."""
        value = self[key] = self.compute(key)
        return value


class ChunkCache(dict[str, "ChunkWords | None"]):
    """The name words that each chunk holds; a chunk is read when it is first needed.

    Args:
        keys: Keys of the name words. A chunk that shares none of them is skipped; see `keys_and_forms`.
        read_chunk: Returns the name words that the word forms of a chunk stand for, or none.
    """

    def __init__(self, keys: set[str], read_chunk: Callable[[Iterable[WordForm]], ChunkWords | None]) -> None:
        super().__init__()
        self.lacks_keys, self.read_chunk = keys.isdisjoint, read_chunk

    def __missing__(self, chunk: str) -> ChunkWords | None:
        """Read the chunk and keep the result."""
        keys, forms = keys_and_forms(chunk)
        words = self[chunk] = None if self.lacks_keys(keys) else self.read_chunk(forms)
        return words


class ChunkWords(NamedTuple):
    """The name words that a chunk holds.

    Attributes:
        forms: Word forms of the chunk that stand for name words.
        word_mask: Those name words, as bits.
        masks: `word_mask`, and the bits of the name words that the chunk has in another form than the name's.
        hyphenated: Whether one of the forms has a hyphen inside it.
    """

    forms: tuple[str, ...]
    word_mask: int
    masks: tuple[int, int]
    hyphenated: bool


class Queries(NamedTuple):
    """Queries: words and names to search for in a text, by the name words that it holds.

    Attributes:
        exact: Names whose words all occur in the text, in some form.
        fuzzy: Word sequences of the names that the text has with a word in another form, or that contain punctuation.
        reorderings: Word sequences of the names in another order.
    """

    exact: list[Name]
    fuzzy: list[WordSequence]
    reorderings: list[Reordering]


NO_QUERIES = Queries([], [], [])


@dataclass
class PreparedText:
    """A text prepared for one matcher.

    Attributes:
        folded: The text, case-folded by `fold_case`.
        queries: What to search for in it.
        chunks: The chunks that hold name words.
        hyphenated: Words with a hyphen inside: start, end, and the word without the hyphen. Filled only if one of `chunks` has such a word.
        positions: Cache of `positions_of`.
        forms_by_word: For name words, the forms in the text that stand for them, with the number of slips.
    """

    folded: str
    queries: Queries
    chunks: Sequence[ChunkWords] = ()
    hyphenated: Sequence[tuple[int, int, str]] = ()
    positions: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    forms_by_word: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    @functools.cached_property
    def forms(self) -> list[str]:
        """Word forms of the text that stand for name words."""
        return list(dict.fromkeys(form for chunk in self.chunks for form in chunk.forms))

    def positions_of(self, form: str) -> list[tuple[int, int]]:
        """Start and end of each occurrence of a word form as a whole word, with or without a hyphen inside."""
        if form not in self.positions:
            spans = [(start, word.end()) for start in word_starts(self.folded, form) if (word := WORD.match(self.folded, start)) and word[0] == form]
            self.positions[form] = spans + [(start, end) for start, end, whole in self.hyphenated if whole == form]
        return self.positions[form]
