"""Counts the notes that are prompted, generated, located and kept (the funnel), and measures the diversity of their mentions.

In: rows of the tables `located`, `synthetic_mentions` and `rejected`. Out: the counts, and JSON, CSV and SVG files of them. Knows nothing about how notes
are written, located or filtered.
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
"""Columns of diversity.csv. `surfaces`: distinct normalized surface forms; `distinct_n`: distinct word n-grams per word n-gram of the concept's notes."""


@dataclass(frozen=True)
class NoteCounts:
    """Counts that the tables do not hold.

    Attributes:
        prompted: CUI of each prompt.
        generated: Number of notes written.
        finished_by_length: Notes cut at the length limit.
        with_tags: Notes with any tag.
        unlisted: Mentions whose surface is no name of their concept in the knowledge base.
    """

    prompted: Sequence[str]
    generated: int
    finished_by_length: int
    with_tags: int
    unlisted: int


def funnel(note_counts: NoteCounts, mentions: Sequence[Row], rejected: Sequence[Row]) -> dict[str, Any]:
    """The counts of the funnel.

    Returns:
        Numbers of notes: `prompted`, `generated`, `finished_by_length`, `with_tags`; `located`, the sum of `located_by_match`, where a note counts under
        its best match; `rejected`, the sum of `rejected_by_reason`. `mentions`, the sum of `mentions_by_match` and of n times `notes_by_mentions[n]`.
        `concepts_prompted`, `concepts_covered`. `unlisted_surface_share`: share of mentions whose surface is neither the preferred name nor a synonym
        of the concept, which is what a model adds to a dictionary.
    """
    best: dict[str, str] = {}
    for mention in sorted(mentions, key=lambda m: tables.MATCHES.index(m["match"])):
        best.setdefault(mention["note_id"], mention["match"])
    by_best, by_match, reasons = Counter(best.values()), Counter(m["match"] for m in mentions), Counter(r["reason"] for r in rejected)
    per_note = Counter(Counter(m["note_id"] for m in mentions).values())
    counts: dict[str, Any] = {
        "prompted": len(note_counts.prompted),
        "generated": note_counts.generated,
        "finished_by_length": note_counts.finished_by_length,
        "with_tags": note_counts.with_tags,
        "located": len(best),
        "located_by_match": {match: by_best[match] for match in tables.MATCHES},
        "rejected": len(rejected),
        "rejected_by_reason": {reason: reasons[reason] for reason in tables.REASONS if reason in ("empty", "no_mention") or reasons[reason]},
        "mentions": len(mentions),
        "mentions_by_match": {match: by_match[match] for match in tables.MATCHES},
        "notes_by_mentions": {str(n): notes for n, notes in sorted(per_note.items())},
        "concepts_prompted": len(set(note_counts.prompted)),
        "concepts_covered": len({m["cui"] for m in mentions}),
        "unlisted_surface_share": round(note_counts.unlisted / len(mentions), 4) if mentions else 0.0,
    }
    assert counts["generated"] == counts["located"] + counts["rejected"], counts
    assert counts["located"] == sum(by_best.values()) == sum(per_note.values()), counts
    assert counts["rejected"] == sum(counts["rejected_by_reason"].values()), counts
    assert counts["mentions"] == sum(by_match.values()) == sum(n * notes for n, notes in per_note.items()), counts
    return counts


def diversity(notes: Sequence[Row], mentions: Sequence[Row], names: Mapping[str, set[str]]) -> list[dict[str, Any]]:
    """One row per concept, sorted by CUI, with the columns `DIVERSITY`.

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
        of_concept = surfaces[cui]
        row: dict[str, Any] = {"cui": cui, "notes": len(texts[cui]), "mentions": len(of_concept), "surfaces": len(set(of_concept))}
        row["unlisted_share"] = round(sum(s not in names[cui] for s in of_concept) / len(of_concept), 4) if of_concept else 0.0
        for n in (1, 2):
            grams = [tuple(text[i : i + n]) for text in texts[cui] for i in range(len(text) - n + 1)]
            row[f"distinct_{n}"] = round(len(set(grams)) / len(grams), 4) if grams else 0.0
        rows.append(row)
    return rows


def averages(rows: Sequence[Row]) -> dict[str, float]:
    """Means of the diversity rows over concepts, and the share of concepts with more than one surface form."""
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


def steps(counts: Mapping[str, Any], filters: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Notes left after each step, in order: prompted, generated, located, then each filter.

    Args:
        counts: The funnel.
        filters: Name, notes in and notes out of each filter, in order.
    """
    located = filters[0][1] if filters else counts["located"]
    rows = [{"step": name, "notes": n} for name, n in (("prompted", counts["prompted"]), ("generated", counts["generated"]), ("located", located))]
    return rows + [{"step": name, "notes": out} for name, _, out in filters]


def picture(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw the steps as bars to an SVG file, labelled with their names and counts only."""
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
