"""Subsets of the test mentions that other papers score, beside the out-of-distribution buckets.

In: rows of tables.MENTIONS. Out: a weight per mention and subset. Knows nothing of predictions.
Buckets partition the mentions by what train contains. Subsets overlap, and dev counts as seen, because systems are tuned on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mentionforge.measures import OF_GROUPS
from mentionforge.tables import SUBSETS
from mentionforge.text import normalize_surface

# new_pair              surface and concept do not occur together in train or dev
# new_surface           the surface does not occur in train or dev
# new_surface_concept   neither the surface nor the concept occurs ("zero-shot"; "Con" of Kim and Kang 2022, who consider train only)
# one_concept           no composite mentions
# distinct              all mentions, each distinct pair of surface and concepts counted once
# distinct_new_surface  `new_surface`, counted the same way (the refined test sets of Tutubalina et al. 2020)
#
# Surfaces are compared as for the buckets (`text.normalize_surface`), with abbreviations as written. Of a mention with several CUIs, one that occurs is
# enough for the concept to be seen. A mention without a CUI has no concept, so it is in no subset that is defined by concepts.


Rows = Sequence[Mapping[str, Any]]


def subset_weights(scored: Rows, known: Rows) -> dict[str, np.ndarray]:
    """For each subset, the weight of each mention, float64 [mentions]: 0 outside, 1 inside, and 1/n where n equal mentions count once.

    A score is the weighted mean. So a distinct pair that is right in one of its two occurrences counts half, and the sum of the weights is
    the number of mentions, or of distinct pairs.

    Args:
        scored: Rows of tables.MENTIONS that are scored.
        known: Rows of the splits that a system may have learned from, train and dev.
    """
    surfaces: set[str] = set()
    cuis: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for row in known:
        surface = normalize_surface(row["surface"])
        surfaces.add(surface)
        cuis.update(row["cuis"])
        pairs.update((surface, cui) for cui in row["cuis"])
    scored_surfaces = [normalize_surface(row["surface"]) for row in scored]
    keys = [(surface, tuple(row["cuis"])) for surface, row in zip(scored_surfaces, scored, strict=True)]
    occurrences = Counter(keys)
    once = np.array([1 / occurrences[key] for key in keys])
    new_surface = np.array([surface not in surfaces for surface in scored_surfaces], bool)
    new_concept = np.array([bool(row["cuis"]) and cuis.isdisjoint(row["cuis"]) for row in scored], bool)
    new_pair = np.array([bool(row["cuis"]) and not any((s, cui) in pairs for cui in row["cuis"]) for s, row in zip(scored_surfaces, scored, strict=True)], bool)
    one_concept = np.array([not row["composite"] for row in scored], bool)
    weights = (new_pair, new_surface, new_surface & new_concept, one_concept, once, once * new_surface)
    return {name: np.asarray(weight, np.float64).reshape(-1) for name, weight in zip(SUBSETS, weights, strict=True)}


def train_and_dev(mentions: Rows) -> list[Mapping[str, Any]]:
    """The mentions of train and dev."""
    return [row for row in mentions if row["split"] != "test"]


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> tuple[float | None, int]:
    """Weighted mean of values (None for an empty subset), and the number of mentions, or of distinct pairs, behind it."""
    total = float(weights.sum())
    return (float(values @ weights) / total if total > 0.5 else None), round(total)


def subset_recalls(right: Collection[str], scored: Rows, weights: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rows (bucket, metric, value, n) of strict recall by subset. Subsets of distinct mentions are left out: recognition depends on the context.

    Args:
        right: Ids of the correctly predicted mentions.
        scored: The mentions passed to `subset_weights`.
        weights: Result of `subset_weights`.
    """
    values = np.array([row["mention_id"] in right for row in scored], np.float64)
    rows = []
    for name in ("new_surface", "new_surface_concept", "one_concept"):
        value, n = weighted_mean(values, weights[name])
        rows.append({"bucket": name, "metric": OF_GROUPS["recognition"], "value": value, "n": n})
    return rows
