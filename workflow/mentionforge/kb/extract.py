"""From a kbs entry to the five tables of a knowledge base and their statistics.

The readers (`rrf.read`, `ontologies.merge`) hand over an `Extracted` (`extracted`); this module writes it, with provenance, and counts what is in it.
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
from mentionforge.kb.settings import Kb, RrfKb
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
    if isinstance(entry, RrfKb):
        from mentionforge.kb.rrf import read as rrf

        found = rrf.read(entry)
    else:
        from mentionforge.kb.ontologies import merge

        found = merge.read(entry)
    if not len(found.concepts):
        raise UserError("empty selection", str(spec), "no concept is left", f"see what the settings drop: {json.dumps(found.funnel, sort_keys=True)}")
    # The tables themselves say which release they come from, under which settings, and how many rows went in and out.
    counts = {"rows_out": {table.name: len(getattr(found, table.name)) for table in TABLES}}
    provenance = stamp("kb extract", {"spec": spec, **found.inputs}, settings=entry.model_dump(mode="json", exclude={"path"}), funnel=found.funnel, **counts)
    with ThreadPoolExecutor(2) as beside:  # all of it leaves the interpreter free; the longest tables first
        counting = beside.submit(summary, found.concepts, found.names, found.definitions, found.xrefs, found.retired)
        longest = sorted(TABLES, key=lambda table: -len(getattr(found, table.name)))
        for written in [beside.submit(tables.write, table, out / f"{table.name}.parquet", getattr(found, table.name), provenance) for table in longest]:
            written.result()
    stats = {"kb": counting.result(), "funnel": found.funnel, "inputs": provenance["inputs"]}
    write_json(out / "stats.json", stats)
    told = stats["kb"]
    say(f"{told['concepts']:,} concepts, {told['with_definition']:,} with a definition, {told['names']:,} names, {told['xrefs']:,} cross-references")
    return stats


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON with sorted keys: temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def summary(concepts: pa.Table, names: pa.Table, definitions: pa.Table, xrefs: pa.Table, retired: pa.Table) -> dict[str, Any]:
    """Counts of a knowledge base whose tables are sorted by their keys: rows, by source and semantic type, and what is ambiguous.

    `ambiguous_names` are distinct names, as written, that several CUIs bear; `ambiguous_codes`, by source, are codes that
    stand for several CUIs.
    """
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET memory_limit = '700MB'; SET threads = 2")
        for table, rows in zip(TABLES, (concepts, names, definitions, xrefs, retired), strict=True):
            db.register(table.name, rows)

        def counted(sql: str) -> dict[str, int]:
            return dict(db.execute(sql).fetchall())

        def one(sql: str) -> int:
            return int(db.execute(sql).fetchall()[0][0])

        # Rows of a code stand together (`tables.XREFS.key`), and its CUIs in order: it has several if the next row is of the same code and another CUI.
        sources = xrefs["source"]
        same_code = _repeats(sources) & _repeats(xrefs["code"])
        first = ~same_code
        other = np.flatnonzero(same_code & ~_repeats(xrefs["cui"]))
        ambiguous_codes = np.zeros(len(xrefs), bool)
        ambiguous_codes[np.flatnonzero(first)[np.searchsorted(np.flatnonzero(first), other, side="right") - 1]] = True
        distinct, ambiguous = db.execute(
            "SELECT count(*), count(*) FILTER (ambiguous) FROM (SELECT min(cui) <> max(cui) AS ambiguous FROM names GROUP BY name)"
        ).fetchall()[0]
        return {
            "concepts": len(concepts),
            "with_definition": one("SELECT count(definition) FROM concepts"),
            "concepts_by_semantic_type": counted("SELECT t, count(*) FROM (SELECT unnest(semantic_types) AS t FROM concepts) GROUP BY t"),
            "names": len(names),
            "distinct_names": int(distinct),
            "names_by_source": counted("SELECT source, count(*) FROM names GROUP BY source"),
            "ambiguous_names": int(ambiguous),
            "definitions_by_source": counted("SELECT source, count(*) FROM definitions GROUP BY source"),
            "retired_by_relation": counted("SELECT relation, count(*) FROM retired GROUP BY relation"),
            "xrefs": len(xrefs),
            "codes_by_source": _by_source(sources, first),
            "xrefs_by_map": counted("SELECT source || ' ' || via, n FROM (SELECT source, via, count(*) AS n FROM xrefs GROUP BY source, via)"),
            "ambiguous_codes": _by_source(sources, ambiguous_codes),
        }


def _repeats(column: pa.ChunkedArray) -> np.ndarray:
    """Whether each value is the same as the one before."""
    if not len(column):
        return np.zeros(0, bool)
    return np.append(False, pc.equal(column[1:], column[:-1]).to_numpy())


def _by_source(sources: pa.ChunkedArray, chosen: np.ndarray) -> dict[str, int]:
    """Rows chosen, by their source."""
    counts = pc.value_counts(sources.filter(pa.array(chosen)))
    return {pair["values"]: pair["counts"] for pair in counts.to_pylist()}
