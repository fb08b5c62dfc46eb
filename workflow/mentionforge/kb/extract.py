"""Write the five tables of a knowledge base, with provenance, and their statistics.

In: the spec of a kbs entry. Out: concepts, names, definitions, xrefs and retired (Parquet), and stats.json.
Knows nothing of source formats: the entry reads its tables (`KnowledgeBase.read`).
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.sources import Kb
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec

TABLES = (tables.CONCEPTS, tables.NAMES, tables.DEFINITIONS, tables.XREFS, tables.RETIRED)


def extract(spec: Path, out: Path) -> dict[str, Any]:
    """Write concepts, names, definitions, xrefs and retired (Parquet) and stats.json of a knowledge base.

    Args:
        spec: Spec file of a kbs entry.
        out: Folder to write to.

    Returns:
        The content of stats.json: `kb` (counts of the tables), `funnel` (rows in and out of each input, drops by reason)
        and `inputs` (SHA-256 by role).

    Raises:
        UserError: A file is missing, malformed (with its row), or nothing is selected.
    """
    entry = read_spec(spec, Kb)
    extracted = entry.read()
    if not len(extracted.concepts):
        raise UserError("empty selection", str(spec), "no concept is left", f"see what the settings drop: {json.dumps(extracted.funnel, sort_keys=True)}")
    # Each table carries its release, settings and row counts as provenance.
    counts = {"rows_out": {table.name: len(getattr(extracted, table.name)) for table in TABLES}}
    provenance = stamp(
        "kb extract", {"spec": spec, **extracted.inputs}, settings=entry.model_dump(mode="json", exclude={"path"}), funnel=extracted.funnel, **counts
    )
    with ThreadPoolExecutor(2) as pool:  # Arrow and DuckDB release the GIL; the largest tables are written first
        pending_counts = pool.submit(summary, extracted.concepts, extracted.names, extracted.definitions, extracted.xrefs, extracted.retired)
        largest_first = sorted(TABLES, key=lambda table: -len(getattr(extracted, table.name)))
        for pending in [pool.submit(tables.write, table, out / f"{table.name}.parquet", getattr(extracted, table.name), provenance) for table in largest_first]:
            pending.result()
    stats = {"kb": pending_counts.result(), "funnel": extracted.funnel, "inputs": provenance["inputs"]}
    write_json(out / "stats.json", stats)
    kb_counts = stats["kb"]
    say(
        f"{kb_counts['concepts']:,} concepts, {kb_counts['with_definition']:,} with a definition, "
        f"{kb_counts['names']:,} names, {kb_counts['xrefs']:,} cross-references"
    )
    return stats


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON with sorted keys, under a temporary name that is then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def summary(concepts: pa.Table, names: pa.Table, definitions: pa.Table, xrefs: pa.Table, retired: pa.Table) -> dict[str, Any]:
    """Count the rows of a knowledge base by source and semantic type, and its ambiguous names and codes. The tables must be sorted by key.

    `ambiguous_names` counts distinct names, as written, that belong to several CUIs; `ambiguous_codes` counts, by source, codes
    that map to several CUIs.
    """
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET memory_limit = '700MB'; SET threads = 2")
        for table, rows in zip(TABLES, (concepts, names, definitions, xrefs, retired), strict=True):
            db.register(table.name, rows)

        def counts_by(sql: str) -> dict[str, int]:
            return dict(db.execute(sql).fetchall())

        def scalar(sql: str) -> int:
            return int(db.execute(sql).fetchall()[0][0])

        # xrefs are sorted by source, code and CUI (`tables.XREFS.key`): a code is ambiguous if the next row has the same code and another CUI.
        sources = xrefs["source"]
        same_code = _repeats(sources) & _repeats(xrefs["code"])
        first = ~same_code
        second_cui = np.flatnonzero(same_code & ~_repeats(xrefs["cui"]))
        ambiguous_codes = np.zeros(len(xrefs), bool)
        ambiguous_codes[np.flatnonzero(first)[np.searchsorted(np.flatnonzero(first), second_cui, side="right") - 1]] = True
        distinct, ambiguous = db.execute(
            "SELECT count(*), count(*) FILTER (ambiguous) FROM (SELECT min(cui) <> max(cui) AS ambiguous FROM names GROUP BY name)"
        ).fetchall()[0]
        return {
            "concepts": len(concepts),
            "with_definition": scalar("SELECT count(definition) FROM concepts"),
            "concepts_by_semantic_type": counts_by("SELECT t, count(*) FROM (SELECT unnest(semantic_types) AS t FROM concepts) GROUP BY t"),
            "names": len(names),
            "distinct_names": int(distinct),
            "names_by_source": counts_by("SELECT source, count(*) FROM names GROUP BY source"),
            "ambiguous_names": int(ambiguous),
            "definitions_by_source": counts_by("SELECT source, count(*) FROM definitions GROUP BY source"),
            "retired_by_relation": counts_by("SELECT relation, count(*) FROM retired GROUP BY relation"),
            "xrefs": len(xrefs),
            "codes_by_source": _by_source(sources, first),
            "xrefs_by_map": counts_by("SELECT source || ' ' || via, n FROM (SELECT source, via, count(*) AS n FROM xrefs GROUP BY source, via)"),
            "ambiguous_codes": _by_source(sources, ambiguous_codes),
        }


def _repeats(column: pa.ChunkedArray) -> np.ndarray:
    """Boolean per value: it equals the value before it."""
    if not len(column):
        return np.zeros(0, bool)
    return np.append(False, pc.equal(column[1:], column[:-1]).to_numpy())


def _by_source(sources: pa.ChunkedArray, mask: np.ndarray) -> dict[str, int]:
    """Number of rows in the mask, by source."""
    counts = pc.value_counts(sources.filter(pa.array(mask)))
    return {pair["values"]: pair["counts"] for pair in counts.to_pylist()}
