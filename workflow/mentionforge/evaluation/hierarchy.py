"""Errors of linkers by hierarchy: how the first wrong concept of a mention relates to the gold concepts.

In: parents of concepts, gold concepts and rankings. Out: tables.NORMALIZATION_ERRORS and shares of each relation.
A mention is an error where acc@1 counts it as wrong. Knows nothing of linkers and indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import measures, tables

# Relations of the first wrong concept of the ranking to the mention's concepts:
#
# ancestor     above a gold concept, `distance` steps: too general ("neoplasm" for "breast cancer")
# descendant   below a gold concept, `distance` steps: too specific
# sibling      shares a parent with a gold concept
# unrelated    none of these, though the hierarchy contains both
# unplaced     the hierarchy lacks the concept, or all gold concepts
# missing      no wrong concept is ranked: the ranking is empty, or ends before a composite mention is answered
#
# With several gold concepts (composite mention, or ambiguous id) the nearest relation counts: the fewest steps up or down, ancestors before
# descendants, then siblings, then unrelated. With the composite policy `all`, a gold concept is never an error, also where another one is due first.


class Relation(NamedTuple):
    """Relation of a wrong concept to a mention: its kind, the steps up or down, and the nearest gold concept."""

    kind: str
    distance: int | None = None
    gold: str | None = None


class Hierarchy:
    """Parents and ancestors of concepts. Ancestors are computed on demand and cached."""

    def __init__(self, parents: pa.Table) -> None:
        """`parents`: tables.PARENTS."""
        both = pa.chunked_array([*parents["cui"].chunks, *parents["parent"].chunks], tables.STR).combine_chunks().dictionary_encode()
        numbers = both.indices.to_numpy().astype(np.int64)
        self._number: dict[str, int] = {cui: i for i, cui in enumerate(both.dictionary.to_pylist())}
        size = max(1, len(self._number))
        pairs = np.unique(numbers[: len(parents)] * size + numbers[len(parents) :])  # sources are taken together
        self._start = np.searchsorted(pairs // size, np.arange(size + 1))
        self._parent = pairs % size
        self._above: dict[int, dict[int, int]] = {}

    def parents(self, concept: int) -> list[int]:
        """Numbers of the direct parents."""
        parents: list[int] = self._parent[self._start[concept] : self._start[concept + 1]].tolist()
        return parents

    def above(self, concept: int) -> dict[int, int]:
        """Ancestors of a concept with the fewest steps to each; a concept is never its own ancestor, even in a cycle."""
        if concept not in self._above:
            ancestors: dict[int, int] = {concept: 0}
            level, steps = [concept], 0
            while level:
                steps += 1
                level = [parent for parent in dict.fromkeys(p for c in level for p in self.parents(c)) if parent not in ancestors]
                ancestors.update((parent, steps) for parent in level)
            del ancestors[concept]
            self._above[concept] = ancestors
        return self._above[concept]

    def relation(self, gold: Iterable[str], concept: str) -> Relation:
        """Relation of a wrong concept to the gold concepts of a mention."""
        wrong = self._number.get(concept)
        in_hierarchy = [cui for cui in gold if cui in self._number]
        if wrong is None or not in_hierarchy:
            return Relation("unplaced")
        below = self.above(wrong)
        nearest: list[tuple[int, int, str]] = []  # steps, whether down, concept
        for cui in in_hierarchy:
            number = self._number[cui]
            if wrong in (steps_up := self.above(number)):
                nearest.append((steps_up[wrong], 0, cui))
            if number in below:
                nearest.append((below[number], 1, cui))
        if nearest:
            distance, down, cui = min(nearest)
            return Relation("descendant" if down else "ancestor", distance, cui)
        shared = set(self.parents(wrong))
        siblings = [cui for cui in in_hierarchy if not shared.isdisjoint(self.parents(self._number[cui]))]
        return Relation("sibling", None, min(siblings)) if siblings else Relation("unrelated")


def first_wrong_concepts(mention_ids: pa.Array, gold: Sequence[Iterable[str]], linked: pa.Table) -> list[str | None]:
    """The first concept of each mention's ranking that is not a gold concept; None if there is none.

    Args:
        mention_ids: The mentions.
        gold: Gold CUIs of each mention.
        linked: tables.LINKED, with these mentions only.
    """
    wrong_concepts: list[str | None] = [None] * len(mention_ids)
    if not len(linked):
        return wrong_concepts
    mention = pc.index_in(linked["mention_id"], value_set=mention_ids).to_numpy().astype(np.int64)
    concepts = linked["cui"].combine_chunks().dictionary_encode()
    names: list[str] = concepts.dictionary.to_pylist()
    number = {cui: i for i, cui in enumerate(names)}
    gold_keys = np.array(sorted(i * len(names) + number[cui] for i, own in enumerate(gold) for cui in set(own) if cui in number), np.int64)
    concept = concepts.indices.to_numpy().astype(np.int64)
    wrong = np.flatnonzero(~np.isin(mention * len(names) + concept, gold_keys))
    wrong = wrong[np.lexsort((linked["rank"].to_numpy()[wrong], mention[wrong]))]
    owners, first = np.unique(mention[wrong], return_index=True)
    for owner, row in zip(owners.tolist(), wrong[first].tolist(), strict=True):
        wrong_concepts[owner] = names[concept[row]]
    return wrong_concepts


class ErrorClassifier:
    """Classifies the errors of many cells on the same mentions; relations of a mention and a wrong concept are cached."""

    def __init__(self, parents: pa.Table, mention_ids: pa.Array, gold: Sequence[Sequence[str]]) -> None:
        """`parents`: tables.PARENTS; `gold`: CUIs of each of the mentions."""
        self._hierarchy, self._mention_ids, self._gold = Hierarchy(parents), mention_ids, gold
        self._known: dict[tuple[int, str], Relation] = {}

    def errors(self, linked: pa.Table, ranks: np.ndarray) -> list[dict[str, Any]]:
        """Rows of tables.NORMALIZATION_ERRORS of a cell, from `mention_id` on.

        Args:
            linked: tables.LINKED of the cell.
            ranks: Rank of each mention (see `normalization.gold_ranks`).
        """
        wrong = first_wrong_concepts(self._mention_ids, self._gold, linked)
        ids = self._mention_ids.to_pylist()
        rows = []
        for i in np.flatnonzero(ranks > 1).tolist():
            concept = wrong[i]
            if concept is None:
                relation = Relation("missing")
            elif (i, concept) in self._known:
                relation = self._known[i, concept]
            else:
                relation = self._known[i, concept] = self._hierarchy.relation(self._gold[i], concept)
            rows.append({"mention_id": ids[i], "predicted": concept, "gold": relation.gold, "relation": relation.kind, "distance": relation.distance})
        return rows


def relation_metrics(rows: Sequence[Mapping[str, Any]], buckets: Mapping[str, str]) -> list[tuple[str, str, float | None, int]]:
    """Rows (bucket, metric, value, n): for each relation, the share of mentions whose first wrong concept has it, overall and by bucket.

    Args:
        rows: Rows from `ErrorClassifier.errors`.
        buckets: Bucket of each mention by its id.
    """
    metric_rows = []
    for bucket in ("all", *(b for b in tables.BUCKETS if b != "unmapped")):
        n = sum(bucket in ("all", b) for b in buckets.values())
        kinds = [row["relation"] for row in rows if bucket in ("all", buckets[row["mention_id"]])]
        metric_rows += [(bucket, s.name, kinds.count(s.relation) / n if n else None, n) for s in measures.of_task("normalization") if s.relation]
    return metric_rows
