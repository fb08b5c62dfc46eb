"""The mentions that an external linker is asked about, as a table that another system can read."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from mentionforge import tables
from mentionforge.progress import say

HEADER = ("mention_id", "doc_id", "split", "start", "end", "surface")


def write_questions(corpus: Path, out: Path) -> int:
    """Write the mentions of dev and test as CSV, without their concepts; returns their number.

    Args:
        corpus: Folder with mentions.parquet.
        out: File to write.
    """
    rows = [row for row in tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist() if row["split"] != "train"]
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEADER)
        writer.writerows((r["mention_id"], r["doc_id"], r["split"], r["spans"][0]["start"], r["spans"][-1]["end"], r["surface"]) for r in rows)
    os.replace(temporary, out)
    say(f"{len(rows):,} mentions of dev and test in {out}")
    return len(rows)
