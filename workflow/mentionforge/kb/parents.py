"""The hierarchy of a knowledge base: the direct parents of its concepts.

In: the spec of a kbs entry and its extracted tables. Out: parents.parquet (`tables.PARENTS`): concept, parent, source.
Sources may disagree, so the graph may have cycles. Knows nothing of where a hierarchy comes from: the entry reads its own (`KnowledgeBase.parents`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.sources import Kb
from mentionforge.kb.sources.contract import ParentTable
from mentionforge.kb.sources.hierarchy import cycles_of
from mentionforge.progress import say
from mentionforge.provenance import digesting, stamp
from mentionforge.specs import read_spec

VERSION = 1
"""Version of the part kb.parents; raise it if earlier results would be wrong (mentionforge.versions)."""


def extract(spec: Path, kb: Path, policy: str, out: Path) -> None:
    """Write `tables.PARENTS` of a knowledge base. Without a hierarchy the table is empty, and its provenance gives the reason (`hierarchy.missing`).

    Args:
        spec: Spec file of the kbs entry.
        kb: Folder of its tables.
        policy: auto: read the hierarchy if there is one; required: fail if there is none; none: read nothing.
        out: File to write.

    Raises:
        UserError: There is no hierarchy and one is required, or a file is malformed.
    """
    entry = read_spec(spec, Kb)
    with digesting() as digest:
        none = ParentTable(tables.build(tables.PARENTS, []), {}, {}, "the setting `hierarchy` is none")
        hierarchy = none if policy == "none" else entry.parents(kb)
        digest(hierarchy.inputs.values())
    rows, missing = hierarchy.rows, hierarchy.missing or (None if len(hierarchy.rows) else "no source gives a parent")
    if missing and policy == "required":
        raise UserError("no hierarchy", str(spec), missing, "set `hierarchy: auto`, or give the release with its MRREL.RRF")
    cyclic = cycles(rows)
    summary = {
        "missing": missing,
        "pairs": len(rows),
        "by_source": {pair["values"]: pair["counts"] for pair in sorted(pc.value_counts(rows["source"]).to_pylist(), key=lambda p: p["values"])},
        "cycles": len(cyclic),
        "concepts_in_cycles": int(sum(cyclic)),
        "funnel": hierarchy.funnel,
    }
    tables.write(tables.PARENTS, out, rows, stamp("kb parents", {"spec": spec, **hierarchy.inputs}, hierarchy=summary))
    if missing:
        say(f"no hierarchy: {missing}")
    else:
        say(f"{len(rows):,} pairs of concept and parent, by source: {json.dumps(summary['by_source'])}; {len(cyclic):,} cycles of {sum(cyclic):,} concepts")


def cycles(rows: pa.Table) -> list[int]:
    """Sizes of the cycles: strongly connected components of two or more concepts, ascending."""
    return [len(concepts) for concepts in cycles_of(rows)]
