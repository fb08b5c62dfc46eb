"""The setting `hierarchy` of the configuration. The settings of knowledge bases stand in `sources`, one file or package for each source.

Imports pydantic only.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

Hierarchy = Literal["auto", "required", "none"]
HIERARCHY: Any = Field(
    "auto",
    description="Hierarchy of the knowledge bases, for errors of linkers. auto: as far as their sources have one. required: it must be there. none: not read.",
)
"""The setting `hierarchy` of the configuration."""
