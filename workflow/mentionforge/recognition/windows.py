"""Windows: sentences of any length cut into inputs that fit the model.

In: sentences of words. Out: word pieces per window, and the words for which each window predicts.
Knows nothing of tags. Each word is tokenized on its own, so a word piece never spans two words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SentenceWindow:
    """A part of a sentence that the model reads at once.

    Attributes:
        sentence: Position of the sentence in the input of `Windows.cut`.
        pieces: Word-piece ids with the special tokens.
        words: Words of the sentence that this window owns.
        positions: For each owned word, the position of its first piece in `pieces`.
    """

    sentence: int
    pieces: list[int]
    words: list[int]
    positions: list[int]


# A word's tag stands at its first word piece; its further pieces are ignored in training and prediction (Devlin et al. 2019, section 5.3).
#
# A sentence longer than a window is covered by overlapping windows, and each word is owned by exactly one of them: the window in which
# the word is farthest from a cut, because the model sees most context there. Example with windows of 6 words and a stride of 2:
#
#     words      0 1 2 3 4 5 6 7 8 9
#     window 0   0 1 2 3 4 5            owns 0 to 4
#     window 1           4 5 6 7 8 9    owns 5 to 9
#
# Word 4 has one more word before the right cut of window 0 and none after the left cut of window 1; word 5 the other way round.
# The ends of the sentence are no cuts. So every word is learned and predicted exactly once.


CACHED_WORDS = 100_000
"""Size of the cache of word pieces, in words; it bounds the memory for reading many documents."""


class SentenceWindows:
    """Cuts sentences into windows of at most `max_tokens` word pieces, not counting special tokens."""

    def __init__(self, tokenizer: Any, max_tokens: int, stride: int) -> None:
        self.tokenizer, self.max_tokens, self.stride = tokenizer, max_tokens, stride
        self._pieces: dict[str, list[int]] = {}

    def split(self, words: Iterable[str]) -> list[list[int]]:
        """Word-piece ids of each word, between one and `max_tokens`; a word that the vocabulary cannot encode is one unknown piece."""
        words = list(words)
        if len(self._pieces) > CACHED_WORDS:
            self._pieces.clear()
        # `set(words) - self._pieces.keys()` would pass over all remembered words, for each sentence.
        new_words = sorted({word for word in words if word not in self._pieces})
        if new_words:
            ids = self.tokenizer(new_words, add_special_tokens=False)["input_ids"]
            self._pieces.update((word, pieces[: self.max_tokens] or [self.tokenizer.unk_token_id]) for word, pieces in zip(new_words, ids, strict=True))
        return [self._pieces[word] for word in words]

    def vocabulary(self, words: Iterable[str]) -> set[int]:
        """All word-piece ids that can occur in windows of these words."""
        return {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id}.union(*self.split(words))

    def cut(self, sentences: Sequence[Sequence[str]]) -> list[SentenceWindow]:
        """Windows of all sentences, in order; sentences without words have none."""
        all_pieces = iter(self.split(word for sentence in sentences for word in sentence))
        windows = []
        for number, sentence in enumerate(sentences):
            pieces = list(itertools.islice(all_pieces, len(sentence)))
            whole = [piece for word_pieces in pieces for piece in word_pieces]
            if sentence and len(whole) <= self.max_tokens:  # most sentences are one window
                positions = list(itertools.accumulate((len(p) for p in pieces[:-1]), initial=1))
                ids = [self.tokenizer.cls_token_id, *whole, self.tokenizer.sep_token_id]
                windows.append(SentenceWindow(number, ids, list(range(len(sentence))), positions))
                continue
            ranges = overlapping_ranges([len(p) for p in pieces], self.max_tokens, self.stride)
            owner = owning_ranges(ranges, len(sentence))
            for k, (first, last) in enumerate(ranges):
                ids, words, positions = [self.tokenizer.cls_token_id], [], []
                for i in range(first, last):
                    if owner[i] == k:
                        words.append(i)
                        positions.append(len(ids))
                    ids += pieces[i]
                windows.append(SentenceWindow(number, [*ids, self.tokenizer.sep_token_id], words, positions))
        return windows


def overlapping_ranges(lengths: Sequence[int], size: int, stride: int) -> list[tuple[int, int]]:
    """Ranges of words that cover a sentence, each of at most `size` pieces, overlapping by at most `stride` pieces.

    Args:
        lengths: Number of pieces of each word, at most `size`.
        size: Length of the longest range, in pieces.
        stride: Largest overlap of two ranges, in pieces; less than `size`.
    """
    ranges: list[tuple[int, int]] = []
    first = last = 0
    while last < len(lengths):
        # Step back over the shared words, but leave room for the next word, so that each range adds at least one word.
        shared, room = 0, min(stride, size - lengths[last])
        while last > first and shared + lengths[last - 1] <= room:
            last -= 1
            shared += lengths[last]
        first, total = last, 0
        while last < len(lengths) and total + lengths[last] <= size:
            total += lengths[last]
            last += 1
        ranges.append((first, last))
    return ranges


def owning_ranges(ranges: Sequence[tuple[int, int]], words: int) -> list[int]:
    """For each word, the range in which it is farthest from a cut; of equally good ranges the first. The ends of the sentence are no cuts."""
    owner, best = [0] * words, [-1] * words
    for k, (first, last) in enumerate(ranges):
        for i in range(first, last):
            margin = min(i - first if first else words, last - 1 - i if last < words else words)
            if margin > best[i]:
                owner[i], best[i] = k, margin
    return owner
