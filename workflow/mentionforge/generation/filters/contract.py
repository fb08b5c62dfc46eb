"""What a filter sees and says. In: notes, its settings, and what it may compare with. Out: why each dropped note is dropped. Reads and writes no file."""

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
"""A word of a text."""


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
    """A located note as filters see it."""

    note_id: str
    cui: str
    prompt: str
    raw: str
    text: str
    mentions: tuple[Mapping[str, Any], ...]
    words: tuple[str, ...]
    """Words of the text, case-folded, without punctuation."""


@dataclass
class Surroundings:
    """What filters compare with; each is read only where a filter of the chain needs it.

    Attributes:
        known: Concepts of the knowledge base.
        test_texts: Texts of the test documents.
        completions: Completions of the fine-tuning pairs.
        encoder: Stamp of the encoder's weights, and its settings.
        disagreeing: Mentions (note id, start) that the filter `agreement` drops from notes it keeps; filled by it.
    """

    known: Mapping[str, Concept]
    test_texts: Sequence[str] = ()
    completions: Sequence[str] = ()
    encoder: tuple[Path, NoteEncoder] | None = None
    disagreeing: set[tuple[str, int]] = field(default_factory=set)


Reasons = dict[str, str]
"""Why notes are dropped, by note id; never with text of a knowledge base or corpus."""

Filter = Callable[[Sequence[Note], Any, Surroundings], Reasons]
"""A filter: notes, its settings and its surroundings give the reasons of those that it drops."""


def word_list(text: str) -> tuple[str, ...]:
    """Words of a text, case-folded, without punctuation."""
    return tuple(WORD.findall(text.casefold()))


def grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All word n-grams, in order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
