"""Base class of all settings, and types and reserved names that several stages share.

In: what each stage declares with these, beside its code. Out: models, which `mentionforge.config` puts together. Imports pydantic alone.
Knows nothing of any stage.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_+.=~-]*"
"""Pattern of names of entries, which become names of folders and values of Snakemake wildcards."""

NONE = "none"
"""Reserved name: the generator and the strategy of the baseline without synthetic text."""

UNTRAINED = "untrained"
"""Reserved name: the schedule of recognizers that are not trained; their seed is 0."""

REAL_ONLY = "real_only"
"""Name of the schedule of the baseline, which learns from no synthetic note."""

EXTERNAL = "external"
"""Reserved name: the index of external linkers, and the schedule of external recognizers; their seed is 0."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PositiveFloat = Annotated[float, Field(gt=0)]

IndexSource = Literal["train", "kb"]
"""Source of an index' names: mentions of the corpus' training split, or names of its knowledge base."""

Markers = tuple[Annotated[str, Field(min_length=1)], Annotated[str, Field(min_length=1)]]
MARKERS = Field(None, description="Tokens before and after a mention in its context; none: the first published pair that the tokenizer knows, if any.")


class Entry(BaseModel):
    """Base of all config models: unknown keys are errors, entries do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
