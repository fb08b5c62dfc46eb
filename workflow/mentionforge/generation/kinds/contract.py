"""What a kind of generator answers, so that other code need not test which kind it is."""

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
        samples: A language model writes its notes, in shards; else a single job makes them.
        prompts_part: Part of the code that makes its prompts (mentionforge.versions).
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
        """Whether it is fine-tuned, on a corpus."""
        return False

    @property
    def weights(self) -> str | None:
        """Model entry whose weights write the notes here; none where there are none, or a server has them."""
        return None

    @property
    def source(self) -> str | None:
        """File that its notes are read from, if they are."""
        return None

    @property
    def obtained(self) -> str | None:
        """How to obtain that file, where it is licensed."""
        return None

    def references(self) -> Iterable[tuple[str, str, str]]:
        """Entries that it names besides those that every kind names, as (key, section, name)."""
        return ()

    def check(self, key: str) -> None:
        """Refuse settings that do not fit together.

        Args:
            key: Where it stands, as "config: generators.NAME".

        Raises:
            UserError: They do not.
        """
