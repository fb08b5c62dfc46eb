"""The interface of a backend. In: requests (prompts with seeds) and the notes already written. Out: each missing note once, in any order.

The identity of a job includes what is chosen for the device (dtype, quantization), but nothing that leaves notes unchanged (memory, concurrency, on a CPU the
batch size). A backend knows nothing about tables, shards and files of the workflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.generation.settings import Finetune, Sampling


@dataclass(frozen=True)
class Request:
    """A note to write.

    Attributes:
        note_id: Id of the note.
        ids: Token ids of the prompt; empty if a server tokenizes.
        seed: Seed of the note.
        prompt: Text of the prompt; for a server with prompt style `plain`, in its frame.
        shared: How many of the first token ids every prompt of the generator has, whatever it is about.
    """

    note_id: str
    ids: tuple[int, ...]
    seed: int
    prompt: str = ""
    shared: int = 0


@dataclass(frozen=True)
class WrittenNote:
    """A finished note.

    Attributes:
        note_id: Id of the note.
        text: Its text.
        finish_reason: `stop`, `length` (cut at the limit) or `content_filter` (cut by a server).
        tokens: Number of its tokens without the one that ends it.
        prompt_tokens: Number of tokens of the prompt, as the backend counts them.
    """

    note_id: str
    text: str
    finish_reason: str
    tokens: int
    prompt_tokens: int = 0


class NoteWriter(Protocol):
    """Writes the missing notes and yields them in lists as they are finished."""

    def __call__(self, requests: Sequence[Request], done: Mapping[str, WrittenNote]) -> Iterator[list[WrittenNote]]:
        """Write the notes of `requests` whose ids are not in `done`."""
        ...


class SampledGenerator(Protocol):
    """The settings of a generator that a backend reads."""

    @property
    def model(self) -> str | None:
        """Model entry with the weights; none if a server writes the notes."""

    @property
    def prompt_style(self) -> Literal["chat", "plain"]:
        """Whether prompts use the tokenizer's chat template or the text of a frame."""

    @property
    def finetune(self) -> Finetune | None:
        """Settings of the fine-tuning, or none."""

    @property
    def sampling(self) -> Sampling:
        """Settings of the sampling."""

    @property
    def dtype(self) -> Literal["auto", "bfloat16", "float16", "float32"]:
        """Data type of the weights."""


class BackendKind(Entry):
    """Base of the settings of every backend, and what other code asks a backend instead of testing `kind`. The defaults are those of a server elsewhere.

    Attributes:
        part: Part of the code (mentionforge.versions) that holds its version: `backend.` and its kind.
        loads_weights: Whether it loads the generator's weights and tokenizes its prompts; if not, a server does.
        own_environment: Whether it runs in a conda environment of its own.
        fixed_batches: Whether a batch keeps its shape until its longest note ends, and a prompt is read once for all its notes.
        libraries: Libraries that write the notes, for the provenance.
        identity: Settings on which notes depend.
        identity_if_changed: Settings on which notes depend unless they have these default values.
    """

    if TYPE_CHECKING:
        kind: str

    part: ClassVar[str]
    loads_weights: ClassVar[bool] = False
    own_environment: ClassVar[bool] = False
    fixed_batches: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[tuple[str, ...]] = ()
    identity_if_changed: ClassVar[Mapping[str, object]] = {}

    @property
    def gpus(self) -> int:
        """GPUs that the job of one shard needs, if the machine has any."""
        return 0

    @property
    def merges_adapter(self) -> bool:
        """Whether it writes the weights merged with the adapter to disk first."""
        return False

    def check(self, generator: SampledGenerator, key: str) -> None:
        """Check that a generator's settings are possible with this backend.

        Args:
            generator: The generator.
            key: Its key in the configuration, for messages.

        Raises:
            UserError: They are not; names the key and the fix.
        """

    def device_settings(self, generator: SampledGenerator, model: Path | None) -> dict[str, Any]:
        """Settings chosen for this machine's device on which notes depend; empty if another engine chooses them.

        Returns:
            `device`, `dtype`, `quantization`, `double_quantization`; on a GPU with fixed batches also `rows`, since GPU libraries choose kernels by the
            size of a batch. On a CPU a note is the same in a batch of any size.
        """
        return {}

    def writer(
        self, generator: SampledGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None
    ) -> NoteWriter:
        """The function that writes the notes, with its weights loaded.

        Args:
            generator: The generator.
            model: Stamp of the fetched weights (fetched.json); none if a server holds them.
            adapter: Folder of the adapter; none: the model without an adapter.
            scratch: Folder that a backend may create for merged weights, unless its settings name one; the backend removes it.
            chosen: Result of `device_settings`; none: call it.

        Raises:
            UserError: Missing weights, an adapter of another model, a library that is not installed, a key that is not set.
        """
        raise NotImplementedError


def decode_note(request: Request, new: Sequence[int], tokenizer: Any, stops: Sequence[int]) -> WrittenNote:
    """Decode a note from its token ids up to the first stop token; the ids after it are padding."""
    length = next((i for i, token in enumerate(new) if token in stops), None)
    text = tokenizer.decode(new[:length], skip_special_tokens=True).strip()
    return WrittenNote(request.note_id, text, "length" if length is None else "stop", len(new[:length]), len(request.ids))


def stop_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a note: the tokenizer's, and those of the model's generation settings."""
    ids = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(ids if isinstance(ids, list) else [ids])} - {None})


def refuse_nf4(kind: str, generator: SampledGenerator, key: str) -> None:
    """Check that the generator does not ask for sampling in 4 bits.

    Raises:
        UserError: It does.
    """
    if generator.sampling.quantization == "nf4":
        raise UserError(
            "not possible", f"{key}.sampling.quantization", f"backend {kind} does not sample in nf4", "choose backend kind: transformers, or set it to auto"
        )


def require_weights(kind: str, generator: SampledGenerator, key: str) -> None:
    """Check that the generator names a model.

    Raises:
        UserError: It names none.
    """
    if not generator.model:
        raise UserError("missing key", f"{key}.model", f"backend {kind} needs weights", "name an entry of models")
