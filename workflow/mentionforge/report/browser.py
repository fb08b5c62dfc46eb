"""The mention browser of the page: concepts with their names, synthetic notes, and the test mentions that these fixed or broke.

In: tables of a results folder and the scores of `tidy`. Out: plain data for the page. Leaves out texts of licensed entries, and knows nothing of HTML.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import tables

NOTES, NAMES = 5, 25
"""Most notes per generator and concept, and most names of a concept, in the mention browser."""


def concept_browser(
    results: Path, scores: pd.DataFrame, comparisons: Sequence[Path], used: Sequence[str], hidden: set[str], limit: int
) -> dict[str, dict[str, Any]]:
    """Concepts with their names, notes and changed test mentions, those with most changes and notes first."""
    mentions: dict[tuple[str, str], dict[str, Any]] = {}
    for corpus in sorted(scores["corpus"].unique()):
        rows = tables.read(tables.MENTIONS, results / "corpora" / corpus / "mentions.parquet").to_pylist()
        mentions |= {(corpus, row["mention_id"]): row for row in rows if row["split"] == "test"}
    changes: dict[str, dict[tuple[str, str], dict[str, list[str]]]] = defaultdict(dict)
    for path in comparisons:
        corpus = path.parts[-2]
        frame = tables.read(tables.CHANGES, path.with_name("changes.parquet")).to_pandas()
        rows_of: Any = frame[frame["against"] == "baseline"].itertuples()
        for row in rows_of:
            by = f"{row.generator} {row.strategy} ({row.system}, {row.variant})"
            for cui in mentions[corpus, row.mention_id]["cuis"]:
                changes[cui].setdefault((corpus, row.mention_id), {"fixed": [], "broken": []})[str(row.change)].append(by)
    notes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    totals, dropped_totals, kept_of = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    dropped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for generator in used:
        folder = results / "generation" / generator
        spans: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in tables.read(tables.SYNTHETIC_MENTIONS, folder / "mentions.parquet").to_pylist():
            spans[row["note_id"]].append(row)
        for note in tables.read(tables.LOCATED, folder / "located.parquet").to_pylist():
            totals[note["cui"]] += 1
            kept_of[note["cui"], generator] += 1
            if f"generators/{generator}" in hidden or kept_of[note["cui"], generator] > NOTES:
                continue
            own = sorted(spans[note["note_id"]], key=lambda r: r["start"])
            how = ", ".join(sorted({f"{r['match']} ({r['score']:.0f})" for r in own}))
            note_entry = {"generator": generator, "id": note["note_id"], "text": note["text"], "spans": [[r["start"], r["end"]] for r in own], "how": how}
            notes[note["cui"]].append(note_entry)
        for row in tables.read(tables.REJECTED, folder / "rejected.parquet").to_pylist():
            dropped_totals[row["cui"]] += 1
            if len(dropped[row["cui"]]) < NOTES:
                dropped[row["cui"]].append({"generator": generator, "id": row["note_id"], "reason": row["reason"]})
    known = sorted({*changes, *totals, *dropped_totals}, key=lambda c: (-len(changes.get(c, ())), -totals[c], c))[:limit]
    names: dict[str, list[str]] = defaultdict(list)
    preferred: dict[str, tuple[str, str | None]] = {}
    for kb in sorted(scores["kb"].dropna().unique()):
        if f"kbs/{kb}" in hidden:
            continue
        wanted = set(known)
        for row in tables.read(tables.CONCEPTS, results / "kb" / kb / "concepts.parquet").select(["cui", "preferred_name", "definition"]).to_pylist():
            if row["cui"] in wanted:
                preferred.setdefault(row["cui"], (row["preferred_name"], row["definition"]))
        for row in tables.read(tables.NAMES, results / "kb" / kb / "names.parquet").select(["cui", "name"]).to_pylist():
            if row["cui"] in wanted and row["name"] not in names[row["cui"]]:
                names[row["cui"]].append(row["name"])
    browser = {}
    for cui in known:
        moved = []
        for (corpus, mention_id), moved_by in sorted(changes.get(cui, {}).items()):
            licensed = f"corpora/{corpus}" in hidden
            gold = mentions[corpus, mention_id]
            moved.append({"corpus": corpus, "id": mention_id, "document": gold["doc_id"], "surface": None if licensed else gold["surface"], **moved_by})
        name, definition = preferred.get(cui, ("", None))
        browser[cui] = {
            "name": name,
            "definition": definition,
            "names": names[cui][:NAMES],
            "more_names": max(0, len(names[cui]) - NAMES),
            "notes": notes[cui],
            "notes_total": totals[cui],
            "rejected": dropped[cui],
            "rejected_total": dropped_totals[cui],
            "changes": moved[:40],
        }
    return browser
