"""The family of backends, which write the notes. `Backend` lists them in the order of docs and schema; `contract.py` defines the interface.

In: settings and weights. Out: notes. Knows nothing of tables and shards. A backend is one file with settings, code and version.
`identity` tells on which of a generator's settings its notes depend.
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

BACKENDS: dict[str, type[BackendKind]] = {name: kind for kind in get_args(get_args(Backend)[0]) for name in get_args(kind.model_fields["kind"].annotation)}
"""Settings of a backend, by what `kind` says."""


def identity(generator: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings on which a generator's notes depend: all but batch sizes, speeds and addresses.

    Args:
        generator: Settings of the generator, step `sampling`.
        chosen: What `BackendKind.device_settings` returned for the device; it replaces the settings of these names.
    """
    kept = {key: value for key, value in generator.items() if key not in ("sampling", "backend", *chosen)}
    without_effect = ("batch_size", "quantization", "double_quantization")
    kept["sampling"] = {key: value for key, value in generator["sampling"].items() if key not in without_effect}
    kept["chosen"] = dict(chosen)
    backend = generator["backend"]
    kind = BACKENDS[backend["kind"]]
    kept["backend"] = {key: value for key, value in backend.items() if key in ("kind", *kind.identity)}
    kept["backend"] |= {key: backend[key] for key, default in kind.identity_if_changed.items() if backend.get(key, default) != default}
    return kept
