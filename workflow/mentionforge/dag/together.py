"""Indexes that one job links: a job starts Python, reads the mentions and searches them once for all indexes of its cells.

In: cells as path levels, without their last level, and the indexes of each. Out: batches, each a set of indexes with a pattern of the cells that it belongs to.
Knows nothing of linkers and rules.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from mentionforge.needs import SEVERAL

Levels = tuple[str, ...]

# Snakemake asks a rule for a fixed list of outputs, and one index of a cell is one output. So there is a rule for each set of indexes that an
# experiment asks for, and one for a single index, which serves all other cells. Example: the cells ncbi/none/none/mention with train and kb, and
# ncbi/none/none/tfidf with kb alone. The first is a batch: a rule with the outputs .../mention/train and .../mention/kb, whose wildcards fit no other
# cell. The second is left to the rule for single indexes.


@dataclass(frozen=True)
class Batch:
    """Indexes that are linked together.

    Attributes:
        indexes: Names of the indexes; the wildcard {index} for a single one.
        suffix: What the names of its rules end with.
        pattern: Regular expression of the paths of its cells; it looks ahead and consumes nothing.
    """

    indexes: tuple[str, ...]
    suffix: str
    pattern: str

    @property
    def message(self) -> str:
        """The indexes, for the message of a job."""
        return ", ".join(self.indexes) if self.suffix else "{wildcards.index}"

    def job(self, path: str) -> str:
        """Path of a job's log and benchmark below their folders, from the path of the cells without the index."""
        return path if self.suffix else f"{path}/{self.indexes[0]}"

    def first_level(self, names: str) -> str:
        """Regular expression for the wildcard of the first path level: one of these names, and the whole path is one of the batch's."""
        return f"{self.pattern}(?:{names})"


SINGLE = ("{index}",)


def batches(cells: Mapping[Any, Collection[str]]) -> list[Batch]:
    """The batches of an experiment: first single indexes, then each set of several indexes, that of the most cells first.

    Args:
        cells: Path levels of each cell without the index, and its indexes.
    """
    by_indexes: defaultdict[tuple[str, ...], set[Levels]] = defaultdict(set)
    for levels, indexes in cells.items():
        if len(set(indexes)) > 1:
            by_indexes[tuple(sorted(set(indexes)))].add(levels)
    together = sorted(by_indexes, key=lambda indexes: (-len(by_indexes[indexes]), indexes))
    taken = {(*levels, index) for indexes in together for levels in by_indexes[indexes] for index in indexes}
    result = [Batch(SINGLE, "", f"(?!{pattern_of(taken)})" if taken else "")]
    for number, indexes in enumerate(together, 1):
        result.append(Batch(indexes, SEVERAL + (f"_{number}" if number > 1 else ""), f"(?={pattern_of(by_indexes[indexes])})"))
    return result


def pattern_of(paths: AbstractSet[Levels]) -> str:
    """Regular expression that fits these paths, each level followed by a slash. Names with the same continuation share it, so that grids stay short."""
    continuations: defaultdict[str, set[Levels]] = defaultdict(set)
    for first, *rest in paths:
        continuations[first].add(tuple(rest))
    names: defaultdict[frozenset[Levels], list[str]] = defaultdict(list)
    for first, following in continuations.items():
        names[frozenset(following)].append(first)
    branches = []
    for rests, firsts in sorted(names.items(), key=lambda item: min(item[1])):
        alternatives = "|".join(re.escape(name) for name in sorted(firsts))
        branches.append(f"(?:{alternatives})/" + (pattern_of(rests) if rests != {()} else ""))
    return f"(?:{'|'.join(branches)})"
