"""The hierarchy of a SNOMED CT snapshot: active is-a relationships between the concepts of a knowledge base.

In: an `rf2` entry, and the concepts of its knowledge base. Out: a `ParentTable`. A parent that is no concept of it is stepped over.
Knows nothing of names.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa

from mentionforge import tables
from mentionforge.kb.sources.contract import ParentTable
from mentionforge.kb.sources.rf2 import Rf2Kb
from mentionforge.kb.sources.rf2.files import find
from mentionforge.kb.sources.rf2.read import inputs_of, read_hierarchy


def read_parents(entry: Rf2Kb, concepts: pa.ChunkedArray) -> ParentTable:
    """Pairs of concept and parent; of a parent outside the knowledge base, the nearest concepts above it.

    Args:
        entry: The entry.
        concepts: Concept ids of the knowledge base.
    """
    files = {kind: snapshot for kind, snapshot in find(entry.files()).items() if kind in ("Concept", "Relationship")}
    _, is_a, rows = read_hierarchy(files)
    known = np.sort(np.array([int(concept.rpartition(":")[2]) for concept in concepts.to_pylist()], np.int64))
    children, parents = is_a["sourceId"].to_numpy(), is_a["destinationId"].to_numpy()
    of_kb, direct = np.isin(children, known), np.isin(parents, known)
    pairs = set(zip(children[of_kb & direct].tolist(), parents[of_kb & direct].tolist(), strict=True))
    above: dict[int, list[int]] = defaultdict(list)
    for child, parent in zip(children[~of_kb].tolist(), parents[~of_kb].tolist(), strict=True):
        above[child].append(parent)
    members = set(known.tolist())
    for child, parent in zip(children[of_kb & ~direct].tolist(), parents[of_kb & ~direct].tolist(), strict=True):
        seen, pending = {parent}, [parent]
        while pending:
            for higher in above[pending.pop()]:
                if higher in members:
                    pairs.add((child, higher))
                elif higher not in seen:
                    seen.add(higher)
                    pending.append(higher)
    ordered = sorted((f"SNOMEDCT:{child}", f"SNOMEDCT:{parent}") for child, parent in pairs if child != parent)
    columns = {"cui": [child for child, _ in ordered], "parent": [parent for _, parent in ordered], "source": ["SNOMEDCT_US"] * len(ordered)}
    table = tables.build(tables.PARENTS, pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}))
    return ParentTable(table, inputs_of(files), {"rows": rows, "is-a, active and inferred": len(is_a)})
