"""What a backend answers. In: requests (prompts with seeds) and the notes that are already written. Out: notes as they are finished, in any order, each once.

What may vary without changing a note (memory, concurrency, on a CPU the batch size) is not part of the job's identity; what was chosen for the device at hand
(type, quantization) is. A backend knows nothing about tables, shards and files of the workflow.
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
    """A note to write: its id, the token ids of its prompt (none where a server tokenizes), its seed, and the prompt as text, for servers in its frame."""

    note_id: str
    ids: tuple[int, ...]
    seed: int
    prompt: str = ""


@dataclass(frozen=True)
class Written:
    """A note as written; `tokens` without the one that ends it, `prompt_tokens` as the backend counts them."""

    note_id: str
    text: str
    finish_reason: str
    tokens: int
    prompt_tokens: int = 0


class NoteWriter(Protocol):
    """Writes the requests that are not done; yields finished notes, some at a time."""

    def __call__(self, requests: Sequence[Request], done: Mapping[str, Written]) -> Iterator[list[Written]]:
        """Write `requests` but those in `done`."""
        ...


class SampledGenerator(Protocol):
    """What a backend reads of the generator whose notes it writes."""

    @property
    def model(self) -> str | None:
        """Model entry with the weights; none where a server writes the notes."""

    @property
    def prompt_style(self) -> Literal["chat", "plain"]:
        """The tokenizer's chat template, or the text of a frame."""

    @property
    def finetune(self) -> Finetune | None:
        """Settings of the fine-tuning, if there is one."""

    @property
    def sampling(self) -> Sampling:
        """How to draw."""

    @property
    def dtype(self) -> Literal["auto", "bfloat16", "float16", "float32"]:
        """Type of the weights."""


class BackendKind(Entry):
    """Base of the settings of every backend, and what other code asks them instead of testing `kind`. By default, those of a server elsewhere.

    Attributes:
        part: Part of the code whose version it has (mentionforge.versions): `backend.` and its kind.
        loads_weights: Whether it loads the generator's weights and tokenizes its prompts; else a server does.
        own_environment: Whether it runs in an environment of its own, apart from that of the workflow.
        fixed_batches: Whether a batch keeps its shape until its longest note ends, and a prompt is read once for all its notes.
        libraries: What writes the notes, for the provenance.
        identity: Settings on which notes depend.
        identity_if_changed: Settings on which notes depend where they are not these values, which are the defaults.
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
        """GPUs that a job of one shard takes, where there are any."""
        return 0

    def check(self, generator: SampledGenerator, key: str) -> None:
        """Refuse settings of a generator that do not go with the backend.

        Args:
            generator: The generator.
            key: Where it stands in the configuration, for the message.

        Raises:
            UserError: With the key and the fix.
        """

    def chosen(self, generator: SampledGenerator, model: Path | None) -> dict[str, Any]:
        """What is chosen for the device at hand, and what notes depend on there; nothing where another engine chooses.

        Returns:
            `device`, `dtype`, `quantization`, `double_quantization`; on a GPU with fixed batches also `rows`, since the GPU's libraries choose their
            kernels by the size of a batch. On a CPU a note is the same in a batch of any size.
        """
        return {}

    def writer(
        self, generator: SampledGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None
    ) -> NoteWriter:
        """What writes the notes, with its weights loaded.

        Args:
            generator: The generator.
            model: Stamp of the fetched weights (fetched.json); none where a server has them.
            adapter: Folder of the adapter; none: the model as it is.
            scratch: Folder that a backend may create for merged weights, unless its settings name a place; the backend removes it.
            chosen: What `chosen` gave; none: ask it.

        Raises:
            UserError: Missing weights, an adapter of another model, a library that is not installed, a key that is not set.
        """
        raise NotImplementedError


def note(request: Request, new: Sequence[int], tokenizer: Any, stops: Sequence[int]) -> Written:
    """The note up to the first token that ends it; what follows is padding."""
    length = next((i for i, token in enumerate(new) if token in stops), None)
    text = tokenizer.decode(new[:length], skip_special_tokens=True).strip()
    return Written(request.note_id, text, "length" if length is None else "stop", len(new[:length]), len(request.ids))


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a note: the tokenizer's, and those of the model's generation settings."""
    found = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(found if isinstance(found, list) else [found])} - {None})


def refuse_nf4(kind: str, generator: SampledGenerator, key: str) -> None:
    """Refuse sampling in 4 bits.

    Raises:
        UserError: The generator asks for it.
    """
    if generator.sampling.quantization == "nf4":
        raise UserError(
            "not possible", f"{key}.sampling.quantization", f"backend {kind} does not sample in nf4", "choose backend kind: transformers, or set it to auto"
        )


def require_weights(kind: str, generator: SampledGenerator, key: str) -> None:
    """Refuse a generator without a model.

    Raises:
        UserError: It names none.
    """
    if not generator.model:
        raise UserError("missing key", f"{key}.model", f"backend {kind} needs weights", "name an entry of models")
