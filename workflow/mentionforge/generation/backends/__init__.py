"""Backends: who writes the notes. `Backend` names all kinds, in the order of docs and schema; `contract.py` says what each answers.

A backend is one file with settings, code and version. Here: `identity`, on which of a generator's settings its notes depend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field

from mentionforge.generation.backends.continuous import ContinuousBackend
from mentionforge.generation.backends.contract import BackendKind
from mentionforge.generation.backends.openai import OpenaiBackend
from mentionforge.generation.backends.static import TransformersBackend
from mentionforge.generation.backends.vllm import VllmBackend

Backend = Annotated[
    TransformersBackend | ContinuousBackend | VllmBackend | OpenaiBackend,
    Field(discriminator="kind"),
]
"""Settings of every backend."""

KINDS: dict[str, type[BackendKind]] = {name: kind for kind in get_args(get_args(Backend)[0]) for name in get_args(kind.model_fields["kind"].annotation)}
"""Settings of a backend, by what `kind` says."""


def identity(generator: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a generator's sampling on which its notes depend: all but sizes, speeds and addresses, and what was chosen for the device."""
    kept = {key: value for key, value in generator.items() if key not in ("sampling", "backend", *chosen)}
    unused = ("batch_size", "quantization", "double_quantization")
    kept["sampling"] = {key: value for key, value in generator["sampling"].items() if key not in unused}
    kept["chosen"] = dict(chosen)
    backend = generator["backend"]
    kind = KINDS[backend["kind"]]
    kept["backend"] = {key: value for key, value in backend.items() if key in ("kind", *kind.identity)}
    kept["backend"] |= {key: backend[key] for key, usual in kind.identity_if_changed.items() if backend.get(key, usual) != usual}
    return kept
