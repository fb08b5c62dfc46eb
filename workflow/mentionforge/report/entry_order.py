"""The order in which tables and figures show entries of the configuration, by the names that they have in config.yaml.

In: names of generators, strategies, linkers or indexes, also of variants of a sweep. Out: keys to sort them by; what has another name comes after these,
in alphabetical order. Knows nothing of scores.
"""

from __future__ import annotations

CONTROL_NAMES = ("names", "template", "dictionary")
"""Generators and references without a language model: shown last, so that the others have the first colours."""

PAPER_STRATEGIES = ("naive", "ideal", "supplemental", "ablation")
"""The paper's strategies, in its order."""

MAIN_STRATEGY, MAIN_LINKER, MAIN_INDEX = "supplemental", "mention", "train"
"""What a figure shows until the reader chooses."""


def by_generator(name: str) -> tuple[bool, str]:
    """Key of a generator: controls last."""
    return name.split("~")[0] in CONTROL_NAMES, name


def by_strategy(name: str) -> tuple[bool, str]:
    """Key of a strategy: the main one first."""
    return name != MAIN_STRATEGY, name


def by_linker(name: str) -> tuple[bool, str]:
    """Key of a linker: the main one first."""
    return name != MAIN_LINKER, name


def by_index(name: str) -> tuple[bool, str]:
    """Key of an index: the main one first."""
    return name != MAIN_INDEX, name


def by_size_of_index(name: str) -> tuple[int, bool, str]:
    """Key of an index: by the number of its sources, as train+kb, then the main one first."""
    return len(name.split("+")), name != MAIN_INDEX, name
