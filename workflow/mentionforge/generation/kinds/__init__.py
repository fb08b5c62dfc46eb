"""The family of generators, one file per kind. `Generator` lists the kinds in the order of docs and schema; `contract.py` defines the interface.

In: settings of a generator. Out: its kind. Knows nothing of how notes are sampled, located and filtered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.kinds.control import ControlGenerator
from mentionforge.generation.kinds.few_shot import FewShotGenerator
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.generation.kinds.replacement import ReplacementGenerator
from mentionforge.generation.kinds.replay import ReplayGenerator

Generator = Annotated[
    LlmGenerator | ControlGenerator | ReplayGenerator | ReplacementGenerator | FewShotGenerator,
    Field(discriminator="kind"),
]
"""Settings of every generator."""

GENERATORS: tuple[type[GeneratorSettings], ...] = get_args(get_args(Generator)[0])
"""Their classes."""

BY_KIND: Mapping[str, type[GeneratorSettings]] = {kind: one for one in GENERATORS for kind in get_args(one.model_fields["kind"].annotation)}
"""Their classes by what `kind` says."""

CONTROLS: frozenset[str] = frozenset(kind for kind, one in BY_KIND.items() if one.control)
"""What `kind` says of controls."""
