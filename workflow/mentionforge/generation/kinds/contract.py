"""What a kind of generator answers, so that other code need not test which kind it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mentionforge.entries import Entry

if TYPE_CHECKING:
    from mentionforge.generation.filters import Filters
    from mentionforge.generation.settings import Concepts


class GeneratorSettings(Entry):
    """Base of the settings of every generator.

    Attributes:
        control: It needs no language model: what it adds, names alone can give. Cells with other generators are compared with it.
        samples: A language model writes its notes, in shards; else a single job makes them.
        prompts_part: Part of the code that makes its prompts (mentionforge.versions).
        notes_part: Part of the code that makes its notes.
    """

    if TYPE_CHECKING:
        kind: str
        kb: str
        concepts: Concepts
        filters: Filters
        notes_per_concept: int | None

    control: ClassVar[bool] = False
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

    def make_prompts(self, spec: Path, kb: Path, source: Path | None, mentions: Path | None, out: Path) -> None:
        """Write its prompts; unless a kind has its own way, each concept's instruction, `notes_per_concept` times.

        Args:
            spec: Spec file of the generator, part `prompts`.
            kb: Folder of the knowledge base's tables.
            source: The file of `source`, if it has one.
            mentions: Gold mentions of the corpus that `concepts.corpus` names, if it names one.
            out: Table `prompts`.
        """
        from mentionforge.generation.prompts import make_prompts

        make_prompts(spec, kb, out, mentions)

    def make_notes(self, spec: Path, kb: Path, prompts: Path, source: Path | None, out: Path) -> None:
        """Write its notes, one per prompt, unless it `samples`.

        Args:
            spec: Spec file of the generator, part `prompts`.
            kb: Folder of the knowledge base's tables.
            prompts: Table `prompts` of the generator.
            source: The file of `source`, if it has one.
            out: Table `notes`.
        """
        raise NotImplementedError
