"""From a kbs entry to the five tables of a knowledge base and their statistics.

The readers (`rrf`, `ontologies`) hand over an `Extracted` (`extracted`); this module writes it, with provenance, and counts what is in it.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from mentionforge import tables
from mentionforge.config import RrfKb, read_spec
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import stamp

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
    entry = read_spec(spec)
    if isinstance(entry, RrfKb):
        from mentionforge.kb import rrf

        found = rrf.read(entry)
    else:
        from mentionforge.kb import ontologies

        found = ontologies.read(entry)
    if not len(found.concepts):
        raise UserError("empty selection", str(spec), "no concept is left", f"see what the settings drop: {json.dumps(found.funnel, sort_keys=True)}")
    # The tables themselves say which release they come from, under which settings, and how many rows went in and out.
    counts = {"rows_out": {table.name: len(getattr(found, table.name)) for table in TABLES}}
    provenance = stamp("kb extract", {"spec": spec, **found.inputs}, settings=entry.model_dump(mode="json", exclude={"path"}), funnel=found.funnel, **counts)
    with ThreadPoolExecutor(1) as beside:  # both leave the interpreter free
        counting = beside.submit(summary, found.concepts, found.names, found.definitions, found.xrefs, found.retired)
        for table in TABLES:
            tables.write(table, out / f"{table.name}.parquet", getattr(found, table.name), provenance)
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
    """Counts of a knowledge base: rows, by source and semantic type, and what is ambiguous.

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

        db.execute("CREATE TEMP TABLE by_code AS SELECT source, code, min(cui) <> max(cui) AS ambiguous FROM xrefs GROUP BY source, code")
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
            "codes_by_source": counted("SELECT source, count(*) FROM by_code GROUP BY source"),
            "xrefs_by_map": counted("SELECT source || ' ' || via, n FROM (SELECT source, via, count(*) AS n FROM xrefs GROUP BY source, via)"),
            "ambiguous_codes": counted("SELECT source, count(*) FROM by_code WHERE ambiguous GROUP BY source"),
        }
