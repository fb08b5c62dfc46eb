"""Cycles in a hierarchy.

In: pairs of concept and parent. Out: the concepts of each cycle. Knows nothing of where the pairs come from.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def cycles_of(rows: pa.Table) -> list[list[str]]:
    """The cycles: strongly connected components of two or more concepts, the smallest first, each sorted."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return []
    both = pa.chunked_array([*rows["cui"].chunks, *rows["parent"].chunks]).combine_chunks().dictionary_encode()
    numbers = both.indices.to_numpy()
    size, pairs = len(both.dictionary), len(rows)
    graph = csr_array((np.ones(pairs, np.int8), (numbers[:pairs], numbers[pairs:])), shape=(size, size))
    _, labels = connected_components(graph, directed=True, connection="strong")
    counts = np.bincount(labels)
    members: dict[int, list[str]] = {}
    for number in np.flatnonzero(counts[labels] > 1):
        members.setdefault(int(labels[number]), []).append(both.dictionary[int(number)].as_py())
    return sorted((sorted(concepts) for concepts in members.values()), key=lambda concepts: (len(concepts), concepts))
