"""The interface of a kind of generator: what other code asks a generator instead of testing its `kind`.

In: a generator's settings. Out: which code makes its prompts and notes, what files and entries it needs. Knows nothing about single kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from mentionforge.entries import Entry

if TYPE_CHECKING:
    from mentionforge.generation.filters import Filters
    from mentionforge.generation.settings import Concepts


class GeneratorSettings(Entry):
    """Base of the settings of every generator.

    Attributes:
        samples: Whether a language model writes its notes, in shards; if not, a single job makes them.
        prompts_part: Part of the code (mentionforge.versions) that makes its prompts.
        notes_part: Part of the code that makes its notes.
    """

    if TYPE_CHECKING:
        kind: str
        kb: str
        concepts: Concepts
        filters: Filters

    samples: ClassVar[bool] = False
    prompts_part: ClassVar[str] = "generation.prompts"
    notes_part: ClassVar[str]

    @property
    def trains(self) -> bool:
        """Whether it is fine-tuned on a corpus."""
        return False

    @property
    def weights(self) -> str | None:
        """Model entry whose weights the job loads; none if the kind has no model or a server holds it."""
        return None

    @property
    def source(self) -> str | None:
        """File that its notes are read from, or none."""
        return None

    @property
    def how_to_obtain(self) -> str | None:
        """How to obtain `source` if it is licensed, else none."""
        return None

    def references(self) -> Iterable[tuple[str, str, str]]:
        """Entries that this kind refers to besides those of every kind, as (key, section, name)."""
        return ()

    def check(self, key: str) -> None:
        """Check that the settings fit together.

        Args:
            key: Key of the generator for messages, as "config: generators.NAME".

        Raises:
            UserError: They do not.
        """
