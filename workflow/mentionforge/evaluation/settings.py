"""Settings of comparisons: confirmatory families, intervals and randomizations.

In: the section `statistics`. Out: its model. Imports pydantic only. Knows nothing of cells.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mentionforge.entries import Entry


class Confirmatory(Entry):
    """Comparisons that are declared before the run; every other comparison is exploratory."""

    against: tuple[Literal["baseline", "control", "kb"], ...] = Field(("baseline", "control"), description="What a cell is compared with.")
    groups: tuple[Literal["all", "seen_mention", "seen_concept", "unseen_concept"], ...] = Field(
        ("all", "unseen_concept"), description="Mentions: all, or buckets."
    )
    strategies: tuple[str, ...] = Field(
        (), examples=[["supplemental"]], description="Strategies, those swept under their name included; without any, all strategies."
    )


class Statistics(Entry):
    """Comparisons of cells: bootstrap intervals over documents, approximate randomization, corrections over families."""

    resamples: int = Field(9999, ge=99, description="Bootstrap draws of documents, and fewest randomizations of a comparison.")
    most_resamples: int = Field(99999, ge=99, description="Most randomizations of a confirmatory comparison whose p value the first ones leave open.")
    settled: int = Field(100, ge=1, description="A p value is settled when so many randomized differences are as large as the observed one.")
    alpha: float = Field(0.05, gt=0, lt=1, description="Level that adjusted p values are meant for: how many randomizations a family needs follows from it.")
    confirmatory: Confirmatory = Field(Confirmatory(), description="Which comparisons confirm (Holm); the others explore (Benjamini-Hochberg).")
    confidence: float = Field(0.95, gt=0, lt=1, description="Of the intervals.")
    seed: int = Field(13, description="Seed of both.")
    small: int = Field(30, ge=0, description="Groups with fewer mentions are marked.")
