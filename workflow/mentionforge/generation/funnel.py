"""The funnel: how many notes were asked for, written, located and kept, as a table and a picture; and how varied the mentions are.

Counts: notes `prompted`, `generated`, `finished_by_length`, `with_tags`, `located` = sum of `located_by_match` (a note counts
under its best match), `rejected` = sum of `rejected_by_reason`; `mentions` = sum of `mentions_by_match` = sum of n times
`notes_by_mentions[n]`; `concepts_prompted`, `concepts_covered`; `unlisted_surface_share`, the share of mentions whose surface is
no name of the concept in the knowledge base: neither its preferred name nor a synonym, what a model adds over a dictionary.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.text import normalize_surface, words

Row = Mapping[str, Any]

DIVERSITY = ("cui", "notes", "mentions", "surfaces", "unlisted_share", "distinct_1", "distinct_2")
"""Columns of diversity.csv: surfaces are distinct after normalization; distinct-n: distinct word n-grams over all, within the concept's notes."""


@dataclass(frozen=True)
class Counted:
    """What the tables do not say: CUI of every prompt, notes written, ended by length, with any tag, and mentions with unlisted surfaces."""

    prompted: Sequence[str]
    generated: int
    finished_by_length: int
    with_tags: int
    unlisted: int


def funnel(counted: Counted, mentions: Sequence[Row], rejected: Sequence[Row]) -> dict[str, Any]:
    """The counts; see the module."""
    best: dict[str, str] = {}
    for mention in sorted(mentions, key=lambda m: tables.MATCHES.index(m["match"])):
        best.setdefault(mention["note_id"], mention["match"])
    by_best, by_match, reasons = Counter(best.values()), Counter(m["match"] for m in mentions), Counter(r["reason"] for r in rejected)
    per_note = Counter(Counter(m["note_id"] for m in mentions).values())
    found: dict[str, Any] = {
        "prompted": len(counted.prompted),
        "generated": counted.generated,
        "finished_by_length": counted.finished_by_length,
        "with_tags": counted.with_tags,
        "located": len(best),
        "located_by_match": {match: by_best[match] for match in tables.MATCHES},
        "rejected": len(rejected),
        "rejected_by_reason": {reason: reasons[reason] for reason in tables.REASONS if reason in ("empty", "no_mention") or reasons[reason]},
        "mentions": len(mentions),
        "mentions_by_match": {match: by_match[match] for match in tables.MATCHES},
        "notes_by_mentions": {str(n): notes for n, notes in sorted(per_note.items())},
        "concepts_prompted": len(set(counted.prompted)),
        "concepts_covered": len({m["cui"] for m in mentions}),
        "unlisted_surface_share": round(counted.unlisted / len(mentions), 4) if mentions else 0.0,
    }
    assert found["generated"] == found["located"] + found["rejected"], found
    assert found["located"] == sum(by_best.values()) == sum(per_note.values()), found
    assert found["rejected"] == sum(found["rejected_by_reason"].values()), found
    assert found["mentions"] == sum(by_match.values()) == sum(n * notes for n, notes in per_note.items()), found
    return found


def diversity(notes: Sequence[Row], mentions: Sequence[Row], names: Mapping[str, set[str]]) -> list[dict[str, Any]]:
    """One row per concept, sorted; see `DIVERSITY`.

    Args:
        notes: Rows of `located`.
        mentions: Rows of `synthetic_mentions`.
        names: Normalized names of each concept.
    """
    texts: defaultdict[str, list[list[str]]] = defaultdict(list)
    surfaces: defaultdict[str, list[str]] = defaultdict(list)
    for note in notes:
        texts[note["cui"]].append([note["text"][a:b].casefold() for a, b in words(note["text"])])
    for mention in mentions:
        surfaces[mention["cui"]].append(normalize_surface(mention["surface"]))
    rows = []
    for cui in sorted(texts):
        found = surfaces[cui]
        row: dict[str, Any] = {"cui": cui, "notes": len(texts[cui]), "mentions": len(found), "surfaces": len(set(found))}
        row["unlisted_share"] = round(sum(s not in names[cui] for s in found) / len(found), 4) if found else 0.0
        for n in (1, 2):
            grams = [tuple(text[i : i + n]) for text in texts[cui] for i in range(len(text) - n + 1)]
            row[f"distinct_{n}"] = round(len(set(grams)) / len(grams), 4) if grams else 0.0
        rows.append(row)
    return rows


def averages(rows: Sequence[Row]) -> dict[str, float]:
    """Means of the diversity over concepts, and the share of concepts with more than one surface form."""
    if not rows:
        return {}
    means = {f"mean_{key}": round(sum(float(r[key]) for r in rows) / len(rows), 4) for key in ("surfaces", "unlisted_share", "distinct_1", "distinct_2")}
    return means | {"concepts_with_several_surfaces": round(sum(r["surfaces"] > 1 for r in rows) / len(rows), 4)}


def write_json(path: Path, data: Any) -> None:
    """Write JSON with sorted keys under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a CSV file under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def steps(found: Mapping[str, Any], filters: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Notes left after each step, in order: prompted, generated, located, then each filter."""
    located = filters[0][1] if filters else found["located"]
    rows = [{"step": name, "notes": n} for name, n in (("prompted", found["prompted"]), ("generated", found["generated"]), ("located", located))]
    return rows + [{"step": name, "notes": out} for name, _, out in filters]


def picture(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw the steps as bars, to an SVG file; no text but the steps' names and counts."""
    import altair

    order = [row["step"] for row in rows]
    base = altair.Chart(altair.Data(values=[dict(row) for row in rows])).encode(
        y=altair.Y("step:N", sort=order, title=None), x=altair.X("notes:Q", title="notes", axis=altair.Axis(format=",d"))
    )
    chart = (base.mark_bar() + base.mark_text(align="left", dx=3).encode(text=altair.Text("notes:Q", format=",d"))).properties(title=title, width=420)
    save(chart, path)


def save(chart: Any, path: Path) -> None:
    """Save an altair chart as SVG under a temporary name, then rename."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.svg")
    chart.save(str(temporary), format="svg")
    os.replace(temporary, path)
