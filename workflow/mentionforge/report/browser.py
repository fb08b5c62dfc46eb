"""Data of the mention browser: concepts with their names, synthetic notes, and the test mentions that the notes fixed or broke.

In: tables of a results folder and the scores of `tidy`. Out: plain data for the page, without texts of licensed entries. Knows nothing of HTML.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import tables
from mentionforge.layout import Results, compared_in

NOTES, NAMES = 5, 25
"""Most notes per generator and concept, and most names of a concept, in the mention browser."""


def concept_browser(
    results: Path, scores: pd.DataFrame, comparisons: Sequence[Path], generators: Sequence[str], hidden: set[str], limit: int
) -> dict[str, dict[str, Any]]:
    """Concepts with their names, notes and changed test mentions; most changes first, then most notes.

    Args:
        results: Results folder.
        scores: `tidy.tidy_metrics`.
        comparisons: tables.COMPARISONS of each task and corpus; tables.CHANGES lies beside each.
        generators: Generators whose notes are shown.
        hidden: Licensed entries, as KIND/NAME, whose texts are left out.
        limit: Most concepts.
    """
    paths = Results(str(results))
    mentions: dict[tuple[str, str], dict[str, Any]] = {}
    for corpus in sorted(scores["corpus"].unique()):
        rows = tables.read(tables.MENTIONS, Path(paths.corpus(corpus, "mentions.parquet"))).to_pylist()
        mentions |= {(corpus, row["mention_id"]): row for row in rows if row["split"] == "test"}
    changes: dict[str, dict[tuple[str, str], dict[str, list[str]]]] = defaultdict(dict)
    for path in comparisons:
        _, corpus = compared_in(path)
        frame = tables.read(tables.CHANGES, path.with_name("changes.parquet")).to_pandas()
        rows_of: Any = frame[frame["against"] == "baseline"].itertuples()
        for row in rows_of:
            by = f"{row.generator} {row.strategy} ({row.system}, {row.variant})"
            for cui in mentions[corpus, row.mention_id]["cuis"]:
                changes[cui].setdefault((corpus, row.mention_id), {"fixed": [], "broken": []})[str(row.change)].append(by)
    notes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    totals, dropped_totals, notes_kept = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    dropped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for generator in generators:
        spans: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in tables.read(tables.SYNTHETIC_MENTIONS, Path(paths.generation(generator, "mentions.parquet"))).to_pylist():
            if row["match"] != tables.GOLD:
                spans[row["note_id"]].append(row)
        for note in tables.read(tables.LOCATED, Path(paths.generation(generator, "located.parquet"))).to_pylist():
            totals[note["cui"]] += 1
            notes_kept[note["cui"], generator] += 1
            if f"generators/{generator}" in hidden or notes_kept[note["cui"], generator] > NOTES:
                continue
            note_spans = sorted(spans[note["note_id"]], key=lambda r: r["start"])
            match_text = ", ".join(sorted({f"{r['match']} ({r['score']:.0f})" for r in note_spans}))
            note_entry = {
                "generator": generator,
                "id": note["note_id"],
                "text": note["text"],
                "spans": [[r["start"], r["end"]] for r in note_spans],
                "how": match_text,
            }
            notes[note["cui"]].append(note_entry)
        for row in tables.read(tables.REJECTED, Path(paths.generation(generator, "rejected.parquet"))).to_pylist():
            dropped_totals[row["cui"]] += 1
            if len(dropped[row["cui"]]) < NOTES:
                dropped[row["cui"]].append({"generator": generator, "id": row["note_id"], "reason": row["reason"]})
    concepts = sorted({*changes, *totals, *dropped_totals}, key=lambda c: (-len(changes.get(c, ())), -totals[c], c))[:limit]
    names: dict[str, list[str]] = defaultdict(list)
    preferred: dict[str, tuple[str, str | None]] = {}
    for kb in sorted(scores["kb"].dropna().unique()):
        if f"kbs/{kb}" in hidden:
            continue
        concept_set = set(concepts)
        for row in tables.read(tables.CONCEPTS, Path(paths.kb(kb, "concepts.parquet"))).select(["cui", "preferred_name", "definition"]).to_pylist():
            if row["cui"] in concept_set:
                preferred.setdefault(row["cui"], (row["preferred_name"], row["definition"]))
        for row in tables.read(tables.NAMES, Path(paths.kb(kb, "names.parquet"))).select(["cui", "name"]).to_pylist():
            if row["cui"] in concept_set and row["name"] not in names[row["cui"]]:
                names[row["cui"]].append(row["name"])
    browser = {}
    for cui in concepts:
        changed_mentions = []
        for (corpus, mention_id), changed_by in sorted(changes.get(cui, {}).items()):
            licensed = f"corpora/{corpus}" in hidden
            gold = mentions[corpus, mention_id]
            changed_mentions.append(
                {"corpus": corpus, "id": mention_id, "document": gold["doc_id"], "surface": None if licensed else gold["surface"], **changed_by}
            )
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
            "changes": changed_mentions[:40],
        }
    return browser
