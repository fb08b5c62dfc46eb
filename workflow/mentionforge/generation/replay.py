"""Replay: notes that were written elsewhere, as prompts and notes of a generator of that kind.

Reads the released layout of the paper's corpus (CSV with the columns `cui` and `matched_output`), JSONL, or Parquet with `cui` and
`matched_output` or `text`. Rows keep the order of the file: note C0000001-0 is the first of its concept.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentionforge import config, tables
from mentionforge.config import read_spec
from mentionforge.errors import UserError
from mentionforge.generation import concepts
from mentionforge.generation.prompts import seed_of
from mentionforge.progress import say
from mentionforge.provenance import stamp

TEXTS = ("matched_output", "text")
"""Columns that may hold the note, by preference."""


def read(path: Path) -> Iterator[tuple[int, str, str]]:
    """Row number (1-based, header not counted), CUI and note of each row of a file; the kind is told by the file's ending.

    Raises:
        UserError: No such file, an unknown ending, a missing column, or a row without a CUI or with text that is none.
    """
    if not path.is_file():
        raise UserError("missing file", str(path), "there is none", "correct generators.*.path")
    reader = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}.get(path.suffix)
    if reader is None:
        raise UserError("unknown format", str(path), f"its ending is {path.suffix or 'missing'}", "give a .csv, .jsonl or .parquet file")
    for number, row in enumerate(reader(path), start=1):
        column = next((name for name in TEXTS if name in row), None)
        if column is None or "cui" not in row:
            raise UserError("missing column", f"{path}:{number}", f"found {', '.join(map(str, row))}", f"cui and one of {', '.join(TEXTS)} are needed")
        cui, text = row["cui"], row[column]
        if not isinstance(cui, str) or not cui.strip() or not isinstance(text, str):
            raise UserError("bad row", f"{path}:{number}", "cui or the note is empty or no text", "correct the row")
        yield number, cui.strip(), text


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 24)
    try:
        with open(path, newline="", encoding="utf-8-sig") as source:
            for row in csv.DictReader(source, strict=True):
                yield {key: value for key, value in row.items() if key}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError("unreadable CSV", str(path), str(error), "give comma-separated UTF-8 with quoted fields") from error


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as source:
        for number, line in enumerate(source, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError("unreadable line", f"{path}:{number}", str(error), "give one JSON object per line") from error
            if not isinstance(row, dict):
                raise UserError("unreadable line", f"{path}:{number}", "it is no JSON object", "give one JSON object per line")
            yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError("unreadable Parquet file", str(path), str(error)) from error
    for batch in source.iter_batches():
        yield from batch.to_pylist()


def chosen(path: Path, kb: Path, settings: config.ReplayGenerator) -> Iterator[tuple[str, str, str]]:
    """Note id, CUI and note of the rows to use, in order; counts and says what is left out."""
    wanted = set(concepts.select(kb, settings.concepts))
    numbers: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for _, cui, text in read(path):
        if cui not in wanted:
            left_out["of a concept that is not chosen or not in the knowledge base"] += 1
        elif settings.notes_per_concept is not None and numbers[cui] >= settings.notes_per_concept:
            left_out["beyond notes_per_concept"] += 1
        else:
            yield f"{cui}-{numbers[cui]}", cui, text
            numbers[cui] += 1
    for why, n in sorted(left_out.items()):
        say(f"{n:,} rows left out, {why}")


def make_prompts(spec: Path, kb: Path, path: Path, out: Path) -> None:
    """Write a row of `prompts` for each row used; the prompt is empty, since the file does not hold it.

    Raises:
        UserError: No row is left; see also `read`.
    """
    settings: config.ReplayGenerator = read_spec(spec)
    known = concepts.load(kb)
    rows = [
        {"note_id": note_id, "cui": cui, "prompt": "", "has_definition": known[cui].definition is not None, "seed": seed_of(note_id)}
        for note_id, cui, _ in chosen(path, kb, settings)
    ]
    if not rows:
        raise UserError("no note to replay", str(path), "no row is of a chosen concept of the knowledge base", "widen concepts, or choose another kb")
    tables.write(tables.PROMPTS, out, rows, stamp("generation prompts", {"spec": spec, "replay": path, **concepts.tables_of(kb)}))
    say(f"{len(rows):,} notes of {len({row['cui'] for row in rows}):,} concepts to replay")


def make_notes(spec: Path, kb: Path, prompts: Path, path: Path, out: Path) -> None:
    """Write the notes, finish_reason `replay`; `tokens` counts words.

    Raises:
        UserError: The file no longer fits the prompts; see also `read`.
    """
    settings: config.ReplayGenerator = read_spec(spec)
    name = json.loads(spec.read_text(encoding="utf-8"))["name"]
    asked = {row["note_id"]: row for row in tables.read(tables.PROMPTS, prompts).to_pylist()}
    rows = []
    for note_id, cui, text in chosen(path, kb, settings):
        if note_id not in asked:
            raise UserError("unknown note", str(prompts), note_id, "the file has changed; delete the prompts and rerun the workflow")
        note = {"generator": name, "text": text, "finish_reason": "replay", "tokens": len(text.split())}
        rows.append({"note_id": note_id, "cui": cui, "prompt": "", "seed": asked[note_id]["seed"]} | note)
    if len(rows) != len(asked):
        raise UserError("missing notes", str(path), f"{len(rows):,} of {len(asked):,}", "the file has changed; delete the prompts and rerun the workflow")
    tables.write(tables.NOTES, out, rows, stamp("generation control", {"spec": spec, "prompts": prompts, "replay": path, **concepts.tables_of(kb)}))
    say(f"{len(rows):,} notes")
