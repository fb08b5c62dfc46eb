"""The interface of a kind of generator: what other code asks a generator instead of testing its `kind`.

In: a generator's settings. Out: which code makes its prompts and notes, what files and entries it needs. Knows nothing about single kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mentionforge.entries import Entry
from mentionforge.generation.prompt_settings import Prompt
from mentionforge.generation.shipped_prompts import SHIPPED

if TYPE_CHECKING:
    from mentionforge.generation.backends.contract import BackendKind
    from mentionforge.generation.filters import Filters
    from mentionforge.generation.settings import Concepts, Examples, Finetune, Locate, Sampling


class PlacedMention(NamedTuple):
    """A mention whose place is known.

    Attributes:
        start: First character of the note.
        end: One past the last character.
        name: The name that was written there, as the knowledge base lists it; empty for a mention of the corpus.
        cui: Concept of a mention of the corpus, if it has exactly one; else empty.
    """

    start: int
    end: int
    name: str
    cui: str


class PlacedNote(NamedTuple):
    """A note that is one sentence, with its own mention and those that were in the text before."""

    text: str
    own: PlacedMention
    kept: tuple[PlacedMention, ...]


class GeneratorSettings(Entry):
    """Base of the settings of every generator.

    Attributes:
        control: It writes from names alone; cells of other generators are compared with its cells.
        writes_in_shards: Whether a language model writes its notes, in shards; if not, a single job makes them.
        prompts_part: Part of the code (mentionforge.versions) that makes its prompts.
        notes_part: Part of the code that makes its notes.
        repeats_corpus: Whether its notes are text of `corpus` word by word: they may be passed on where the corpus may, and nowhere else.
    """

    if TYPE_CHECKING:
        kind: str
        kb: str
        concepts: Concepts
        locate: Locate
        filters: Filters
        notes_per_concept: int | None

    control: ClassVar[bool] = False
    writes_in_shards: ClassVar[bool] = False
    prompts_part: ClassVar[str] = "generation.prompts"
    notes_part: ClassVar[str]
    repeats_corpus: ClassVar[bool] = False

    usual_sentences: ClassVar[float] = 2.0
    """Sentences of a note, for estimates of costs, where `longest_note` says nothing."""

    @property
    def sentences_shown(self) -> int:
        """Sentences of a corpus in each prompt, for estimates of costs; if any, each note has a prompt of its own."""
        return 0

    @property
    def longest_note(self) -> int | None:
        """Most tokens of a note; None if no language model writes it here."""
        return None

    @property
    def tuning(self) -> Finetune | None:
        """Settings of its fine-tuning on a corpus; None if it is not fine-tuned."""
        return None

    @property
    def trains(self) -> bool:
        """Whether it is fine-tuned on a corpus."""
        return self.tuning is not None

    @property
    def training_text(self) -> Finetune | Examples | None:
        """Settings that name the corpus whose training split its notes are learned from, or None: fine-tuning, or examples in prompts."""
        return self.tuning

    @property
    def asked(self) -> Prompt:
        """What it asks about each concept; of a kind without a language model, what one would be asked."""
        return SHIPPED["instruction"]

    def with_prompt(self, key: str, prompts: Mapping[str, Prompt]) -> GeneratorSettings:
        """These settings with the entry of `prompts` that they name, instead of its name.

        Args:
            key: Key of the generator for messages.
            prompts: All entries.

        Raises:
            UserError: The entry is of the other sort.
        """
        return self

    @property
    def writer(self) -> tuple[Sampling, BackendKind]:
        """Settings of its sampling and its backend, if it `writes_in_shards`."""
        raise NotImplementedError

    @property
    def weights(self) -> str | None:
        """Model entry whose weights the job loads; none if the kind has no model or a server holds it."""
        return None

    @property
    def reads_corpus(self) -> str | None:
        """Corpus whose training split its prompts or notes are made from, or none; notes may then hold text of the corpus."""
        return None

    @property
    def text_corpora(self) -> tuple[str, ...]:
        """Corpora whose text its notes may hold: that of `training_text`, and `reads_corpus`."""
        return tuple(name for name in (self.training_text.corpus if self.training_text else None, self.reads_corpus) if name)

    @property
    def compares_tags(self) -> bool:
        """Whether its mentions are located with the encoder's help."""
        return self.locate.tag_similarity is not None

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

    def part_of(self, spec: str) -> str:
        """Part of the code (mentionforge.versions) whose version one of its spec files holds: the first that reads it.

        Args:
            spec: One of `generation.settings.STEPS`.
        """
        return {"finetune": "generation.pairs", "sampling": "generation.sample"}.get(spec, f"generation.{spec}")

    @classmethod
    def about(cls, settings: Mapping[str, Any]) -> str:
        """First lines of the card of an export: what the notes are."""
        return "Notes that a program wrote about concepts of a knowledge base. **They are no patients' records, and nobody has checked that what they say is true.**"

    @classmethod
    def how_made(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """Lines of the card of an export on how the notes were made.

        Args:
            settings: All settings of the generator, without paths.
            base: Public name of the base model of its adapter; empty without one.
        """
        return [f"By a generator of kind `{settings['kind']}`."]

    @classmethod
    def licences(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """Lines of that card on what the notes were made from besides the knowledge base, and may be bound by; arguments as in `how_made`."""
        return []

    def check(self, key: str) -> None:
        """Check that the settings fit together.

        Args:
            key: Key of the generator for messages, as "config: generators.NAME".

        Raises:
            UserError: They do not.
        """

    def make_prompts(self, spec: Path, kb: Path, source: Path | None, mentions: Path | None, out: Path, corpus: Path | None = None) -> None:
        """Write its prompts; unless a kind has its own way, each concept's instruction, `notes_per_concept` times.

        Args:
            spec: Spec file of the generator, step `prompts`.
            kb: Folder of the knowledge base's tables.
            source: The file of `source`, if it has one.
            mentions: Gold mentions of the corpus that `concepts.corpus` names, if it names one.
            out: Table `prompts`.
            corpus: Folder of the tables of `reads_corpus`, if it reads one.
        """
        from mentionforge.generation.prompts import make_prompts

        make_prompts(spec, kb, out, mentions)

    def make_notes(self, spec: Path, kb: Path, prompts: Path, source: Path | None, out: Path, corpus: Path | None = None) -> None:
        """Write its notes, one per prompt, unless it `writes_in_shards`.

        Args:
            spec: Spec file of the generator, step `prompts`.
            kb: Folder of the knowledge base's tables.
            prompts: Table `prompts` of the generator.
            source: The file of `source`, if it has one.
            out: Table `notes`.
            corpus: Folder of the tables of `reads_corpus`, if it reads one.
        """
        raise NotImplementedError

    def placed(self, prompt: str, text: str) -> PlacedNote | None:
        """A note's mentions, if the kind knows their places; none: they are searched for (`locate`).

        Args:
            prompt: The note's prompt.
            text: The note as written.
        """
        return None
