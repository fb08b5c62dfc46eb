"""Linker `hybrid`: fuses the rankings of several linkers on the same cell.

In: an entry of `linkers`. Out: its model, and what rules and checks ask of it. Knows nothing of rankings: `fusion`, which imports numpy, fuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.normalization.linkers.contract import LinkerSettings


class HybridLinker(LinkerSettings):
    """Fusion of the rankings of other linkers on the same cell."""

    part: ClassVar[str] = "normalization.fuse"
    joins_rankings: ClassVar[bool] = True

    kind: Literal["hybrid"]
    linkers: tuple[str, ...] = Field(min_length=2, description="Linkers to fuse; not hybrids or rerankers themselves.")
    fusion: Literal["rank", "score"] = Field(
        "score", description="rank: reciprocal rank fusion. score: weighted sum of scores, weights tuned on the dev split of each cell."
    )
    constant: float = Field(60, gt=0, description="Constant added to ranks in reciprocal rank fusion.")
    step: float = Field(0.1, gt=0, le=0.5, description="Grid of the weights that are tried.")

    def input_linkers(self) -> tuple[str, ...]:
        """The linkers that are fused."""
        return self.linkers

    def references(self) -> Iterator[tuple[str, str, str]]:
        """The linkers that are fused."""
        for name in self.linkers:
            yield "linkers", "linkers", name
