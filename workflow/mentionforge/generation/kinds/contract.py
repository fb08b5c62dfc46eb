"""What a kind of generator answers, so that other code need not test which kind it is."""

from __future__ import annotations

from typing import ClassVar, Protocol

from mentionforge.generation.filters import Filters
from mentionforge.generation.settings import Concepts


class GeneratorKind(Protocol):
    """The settings of a generator.

    Attributes:
        samples: Whether a language model writes its notes, in shards; else a single job makes them.
        prompts_part: Part of the code that makes its prompts (mentionforge.versions).
        notes_part: Part of the code that makes its notes.
    """

    samples: ClassVar[bool]
    prompts_part: ClassVar[str]
    notes_part: ClassVar[str]

    @property
    def kind(self) -> str:
        """Name of the kind, as in `generators.*.kind`."""

    @property
    def concepts(self) -> Concepts:
        """Which concepts it writes about."""

    @property
    def filters(self) -> Filters:
        """Its chain of filters."""

    @property
    def trains(self) -> bool:
        """Whether it is fine-tuned, on a corpus."""

    @property
    def weights(self) -> str | None:
        """Model entry whose weights write the notes here; none where there are none, or a server has them."""

    @property
    def source(self) -> str | None:
        """File that its notes are read from."""

    @property
    def licensed(self) -> str | None:
        """How to obtain that file, where it is licensed."""
