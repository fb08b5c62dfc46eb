"""The interface of a quality filter. In: notes, the filter's settings, a context to compare with. Out: the reason for each dropped note.

A filter reads and writes no table of the workflow and knows nothing about other filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.entries import Entry

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept

WORD = re.compile(r"\w+")
"""Pattern of a word."""


class FilterSettings(Entry):
    """Base of the settings of every filter.

    Attributes:
        reads_encoder: It compares with an encoder: that of the generator.
        reads_pairs: It compares with the fine-tuning pairs.
    """

    reads_encoder: ClassVar[bool] = False
    reads_pairs: ClassVar[bool] = False

    @property
    def test_corpora(self) -> tuple[str, ...]:
        """Corpora whose test documents it compares with."""
        return ()


@dataclass(frozen=True)
class Note:
    """A located note.

    Attributes:
        note_id: Id of the note.
        cui: Concept that it was written about.
        prompt: Prompt that it was written for.
        raw: Text with the model's tags.
        text: Text without tags; offsets of mentions refer to it.
        mentions: Its rows of `synthetic_mentions`.
        words: Words of `text`, case-folded, without punctuation.
    """

    note_id: str
    cui: str
    prompt: str
    raw: str
    text: str
    mentions: tuple[Mapping[str, Any], ...]
    words: tuple[str, ...]


@dataclass
class FilterContext:
    """What filters compare notes with. All but `known` are filled only if a filter of the chain needs them.

    Attributes:
        known: Concepts of the knowledge base by CUI.
        test_texts: Texts of the test documents.
        completions: Completions of the fine-tuning pairs.
        encoder: Stamp of the encoder's weights, and its settings.
        disagreeing: Output of the filter `agreement`: mentions (note id, start) that it drops from notes it keeps.
    """

    known: Mapping[str, Concept]
    test_texts: Sequence[str] = ()
    completions: Sequence[str] = ()
    encoder: tuple[Path, NoteEncoder] | None = None
    disagreeing: set[tuple[str, int]] = field(default_factory=set)


Reasons = dict[str, str]
"""Reasons for dropped notes, by note id. They never quote a knowledge base or corpus."""

Filter = Callable[[Sequence[Note], Any, FilterContext], Reasons]
"""A filter function: from notes, settings and context to the reasons of the dropped notes."""


def word_list(text: str) -> tuple[str, ...]:
    """Words of a text, case-folded, without punctuation."""
    return tuple(WORD.findall(text.casefold()))


def grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All word n-grams, in order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
