"""The setting `hierarchy` of the configuration.

In: its value. Out: the checked value. Imports pydantic only. Knows nothing of sources: their settings stand in `sources`, one file or package each.
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
