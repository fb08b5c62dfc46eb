"""The family of generators, one file per kind. `KINDS` and `Generator` list the kinds in the order of docs and schema; `contract.py` defines the interface."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.kinds.control import ControlGenerator
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.generation.kinds.replay import ReplayGenerator

KINDS: tuple[type[GeneratorSettings], ...] = (LlmGenerator, ControlGenerator, ReplayGenerator)

Generator = Annotated[LlmGenerator | ControlGenerator | ReplayGenerator, Field(discriminator="kind")]
