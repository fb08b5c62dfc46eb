"""Write the mentions that an external linker must rank concepts for.

In: the mentions of a corpus. Out: a CSV file of dev and test mentions, without their concepts, for another system to read. Knows nothing of linkers.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.progress import say

HEADER = ("mention_id", "doc_id", "split", "start", "end", "surface")


def write_questions(corpus: Path, out: Path) -> int:
    """Write the mentions of dev and test as CSV, without their concepts; return their number.

    Args:
        corpus: Folder with mentions.parquet.
        out: File to write.

    Raises:
        UserError: The corpus has not been built yet, or the file cannot be written.
    """
    mentions = corpus / "mentions.parquet"
    if not mentions.is_file():
        raise UserError("missing corpus", str(corpus), "there is no mentions.parquet in it", f"correct the folder, or read the corpus: snakemake {mentions}")
    rows = [row for row in tables.read(tables.MENTIONS, mentions).to_pylist() if row["split"] != "train"]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(rows, out)
    except OSError as error:
        raise UserError("file that cannot be written", str(out), error.strerror or "", "correct --out") from error
    say(f"{len(rows):,} mentions of dev and test in {out}")
    return len(rows)


def _write(rows: Iterable[Mapping[str, Any]], out: Path) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEADER)
        writer.writerows((r["mention_id"], r["doc_id"], r["split"], r["spans"][0]["start"], r["spans"][-1]["end"], r["surface"]) for r in rows)
    try:
        os.replace(temporary, out)
    except OSError:
        temporary.unlink()
        raise
