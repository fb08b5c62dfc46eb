"""The base of all models of the configuration; a module of its own, so that a stage can declare its settings beside its code."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Entry(BaseModel):
    """Base of all config models: unknown keys are errors, entries do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
