"""Kinds of generators, one file each; `KINDS` and `Generator` list them in the order of docs and schema. `contract.py` says what each answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.kinds.control import ControlGenerator
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.generation.kinds.replay import ReplayGenerator

KINDS: tuple[type[GeneratorSettings], ...] = (LlmGenerator, ControlGenerator, ReplayGenerator)

Generator = Annotated[LlmGenerator | ControlGenerator | ReplayGenerator, Field(discriminator="kind")]
