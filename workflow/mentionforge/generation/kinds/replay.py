"""The kind `replay`: takes notes that were written elsewhere as a generator's notes.

In: CSV as released with the paper's corpus (columns `cui` and `matched_output`), JSONL or Parquet (`cui` and `matched_output` or `text`). Out: tables `prompts`
and `notes` in the order of the file: note C0000001-0 is the first of its concept. Knows nothing about models and sampling.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.errors import UserError
from mentionforge.generation.filters import Filters
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.settings import Concepts, Locate
from mentionforge.json_objects import unique

VERSION = 1
"""Version of the part generation.replay: raise it if earlier results would be wrong (mentionforge.versions)."""


class ReplayGenerator(GeneratorSettings):
    """Notes that were written elsewhere, read from a file."""

    prompts_part: ClassVar[str] = "generation.replay"
    notes_part: ClassVar[str] = "generation.replay"
    usual_sentences: ClassVar[float] = 8.0

    kind: Literal["replay"]
    kb: str = Field(description="Knowledge base that has the notes' concepts.")
    path: str = Field(examples=["notes.csv"], description="CSV (columns cui, matched_output), JSONL or Parquet (cui and matched_output, or cui and text).")
    licensed: str | None = Field(None, description="How to obtain the file; then its absence is an error of the job, not of the config.")
    licence: str | None = Field(None, description="Licence of the file; shown on the page and on the card of an export.", exclude_if=lambda text: text is None)
    cite: str | None = Field(
        None, examples=["Doe et al. (2026)"], description="How to cite the file; shown beside its licence.", exclude_if=lambda text: text is None
    )
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int | None = Field(None, ge=1, description="At most this many notes of each concept, the first in the file; none: all.")
    locate: Locate = Field(Locate())
    encoder: NoteEncoder | None = Field(None, description="Encoder of locate.tag_similarity and filters.agreement.")
    filters: Filters = Field(Filters())

    @property
    def source(self) -> str:
        """The file of `path`."""
        return self.path

    @property
    def how_to_obtain(self) -> str | None:
        """What `licensed` says."""
        return self.licensed

    @classmethod
    def how_made(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """That they were not made here."""
        return ["Written elsewhere; the mentions were located anew."]

    @classmethod
    def licences(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """The file."""
        licence, cite = settings.get("licence"), settings.get("cite")
        return [f"- the file that was replayed: {licence or 'it has its own licence'}" + (f". Cite: {cite}" if cite else "")]

    def make_prompts(self, spec: Path, kb: Path, source: Path | None, mentions: Path | None, out: Path, corpus: Path | None = None) -> None:
        """A prompt for each note of the file."""
        assert source, "the rule gives it"
        make_prompts(spec, kb, source, out)

    def make_notes(self, spec: Path, kb: Path, prompts: Path, source: Path | None, out: Path, corpus: Path | None = None) -> None:
        """The notes of the file."""
        assert source, "the rule gives it"
        make_notes(spec, kb, prompts, source, out)


TEXT_COLUMNS = ("matched_output", "text")
"""Columns that may hold the note; the first one present counts."""


def read(path: Path) -> Iterator[tuple[int, str, str]]:
    """Row number (1-based, header not counted), CUI and note of each row of a file. The file's ending tells its format.

    Raises:
        UserError: No such file, an unknown ending, bytes that are not UTF-8, no header, a missing column, a row with too many or too few fields, an
            open quote, a line that is no JSON object, a row without a CUI, or a note that is no text. The message names the line of the file where
            the row begins (Parquet: the row).
    """
    if not path.is_file():
        raise UserError("missing file", str(path), "there is none", "correct generators.*.path")
    reader = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}.get(path.suffix)
    if reader is None:
        raise UserError("unknown format", str(path), f"its ending is {path.suffix or 'missing'}", "give a .csv, .jsonl or .parquet file")
    for number, (line, row) in enumerate(reader(path), start=1):
        where = f"{path}:{line}"
        column = next((name for name in TEXT_COLUMNS if name in row), None)
        if column is None or "cui" not in row:
            raise UserError("missing column", where, f"found {', '.join(map(str, row))[:200]}", f"cui and one of {', '.join(TEXT_COLUMNS)} are needed")
        cui, text = row["cui"], row[column]
        if not isinstance(cui, str) or not cui.strip() or not isinstance(text, str):
            raise UserError("bad row", where, "cui or the note is empty or no text", "correct the row")
        try:
            f"{cui} {text}".encode()
        except UnicodeEncodeError as error:
            raise UserError("bad row", where, "it holds half of a surrogate pair", "write the character itself, or both halves") from error
        yield number, cui.strip(), text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, with its line end and without a byte order mark."""
    number = 0
    try:
        with open(path, "rb") as source:
            for number, data in enumerate(source, start=1):
                line = data.decode()
                yield number, line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", f"{path}:{number}", f"byte 0x{error.object[error.start]:02x}", "convert the file to UTF-8") from error
    except OSError as error:
        raise UserError("unreadable file", f"{path}:{number + 1}", error.strerror or "", "correct generators.*.path") from error


_CSV_FIX = "give comma-separated UTF-8; a field with a comma, a quote or a line end stands in quotes, and a quote in it twice"


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(1 << 24)
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1  # where the row begins
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            why = "a quote is never closed" if "unexpected end" in str(error) else str(error)
            raise UserError("unreadable CSV", f"{path}:{first}", why, _CSV_FIX) from error
        if not fields:
            continue  # a blank line
        if header is None:
            header = [name.strip() for name in fields]
            if "cui" not in header or not set(TEXT_COLUMNS) & set(header):
                why = f"the first line names {', '.join(header)[:200] or 'nothing'}"
                raise UserError("missing column", f"{path}:{first}", why, f"it must name cui and one of {', '.join(TEXT_COLUMNS)}")
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise UserError("column given twice", f"{path}:{first}", twice[0] or "one without a name", "rename or remove one of them")
        elif len(fields) != len(header):
            raise UserError("unreadable CSV", f"{path}:{first}", f"{len(fields)} fields, where the first line has {len(header)}", _CSV_FIX)
        else:
            yield first, dict(zip(header, fields, strict=True))
    if header is None:
        raise UserError("missing column", f"{path}:1", "the file is empty", f"its first line must name cui and one of {', '.join(TEXT_COLUMNS)}")


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            why = "too deep" if isinstance(error, RecursionError) else str(error)
            raise UserError("unreadable line", f"{path}:{number}", why, "give one JSON object per line") from error
        if not isinstance(row, dict):
            raise UserError("unreadable line", f"{path}:{number}", "it is no JSON object", "give one JSON object per line")
        yield number, row


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as source:
            for batch in source.iter_batches():
                for fields in batch.to_pylist():
                    row += 1
                    yield row, fields
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise UserError("unreadable Parquet file", f"{path}:{row + 1}", " ".join(str(error).split())[:200], "write it again") from error


NOT_IN_KB, NOT_CHOSEN, BEYOND = "the concept is not in the knowledge base", "the concept is not chosen", "beyond notes_per_concept"
"""Why a row is left out."""


def selected_rows(
    path: Path, known: Collection[str], selected: Collection[str], most: int | None, left_out: Counter[tuple[str, str]] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Note id, CUI and note of the rows to use, in order.

    Args:
        path: The file.
        known: CUIs of the knowledge base.
        selected: Those that are chosen.
        most: At most this many rows of each concept; none: all.
        left_out: Output: number of rows left out, by CUI and reason.
    """
    numbers: Counter[str] = Counter()
    left_out = Counter() if left_out is None else left_out
    for _, cui, text in read(path):
        if cui not in selected:
            left_out[cui, NOT_CHOSEN if cui in known else NOT_IN_KB] += 1
        elif most is not None and numbers[cui] >= most:
            left_out[cui, BEYOND] += 1
        else:
            yield f"{cui}-{numbers[cui]}", cui, text
            numbers[cui] += 1


def make_prompts(spec: Path, kb: Path, path: Path, out: Path) -> None:
    """Write a row of the table `prompts` for each selected row, and left_out.csv. A prompt is empty, since the file does not hold prompts.

    Raises:
        UserError: No row is selected; see also `read`.
    """
    from mentionforge import tables
    from mentionforge.generation import concepts
    from mentionforge.generation import left_out as without_note
    from mentionforge.generation.prompts import seed_of
    from mentionforge.progress import say
    from mentionforge.provenance import stamp
    from mentionforge.specs import read_spec

    settings: ReplayGenerator = read_spec(spec, ReplayGenerator)
    known = concepts.load(kb)
    left_out: Counter[tuple[str, str]] = Counter()
    rows = [
        {"note_id": note_id, "cui": cui, "prompt": "", "has_definition": known[cui].definition is not None, "seed": seed_of(note_id)}
        for note_id, cui, _ in selected_rows(path, known, set(concepts.select(kb, settings.concepts)), settings.notes_per_concept, left_out)
    ]
    for why in sorted({why for _, why in left_out}):
        numbers = [n for (_, reason), n in left_out.items() if reason == why]
        say(f"{sum(numbers):,} rows of {len(numbers):,} CUIs left out: {why}")
    without_note.write(out, ((cui, n, why) for (cui, why), n in left_out.items()))
    if not rows:
        raise UserError("no note to replay", str(path), "no row is of a chosen concept of the knowledge base", "widen concepts, or choose another kb")
    tables.write(tables.PROMPTS, out, rows, stamp("generation prompts", {"spec": spec, "replay": path, **concepts.tables_of(kb)}))
    say(f"{len(rows):,} notes of {len({row['cui'] for row in rows}):,} concepts to replay")


def make_notes(spec: Path, kb: Path, prompts: Path, path: Path, out: Path) -> None:
    """Write the table `notes` with finish_reason `replay`; its `tokens` counts words.

    Raises:
        UserError: The file no longer fits the prompts; see also `read`.
    """
    from mentionforge import tables
    from mentionforge.generation import concepts
    from mentionforge.progress import say
    from mentionforge.provenance import stamp
    from mentionforge.specs import read_spec

    settings: ReplayGenerator = read_spec(spec, ReplayGenerator)
    name = json.loads(spec.read_text(encoding="utf-8"))["name"]
    prompt_rows = {row["note_id"]: row for row in tables.read(tables.PROMPTS, prompts).to_pylist()}
    rows = []
    selected = set(concepts.select(kb, settings.concepts))
    for note_id, cui, text in selected_rows(path, selected, selected, settings.notes_per_concept):
        if note_id not in prompt_rows:
            raise UserError("unknown note", str(prompts), note_id, "the file has changed; delete the prompts and rerun the workflow")
        note = {"generator": name, "text": text, "finish_reason": "replay", "tokens": len(text.split())}
        rows.append({"note_id": note_id, "cui": cui, "prompt": "", "seed": prompt_rows[note_id]["seed"]} | note)
    if len(rows) != len(prompt_rows):
        raise UserError("missing notes", str(path), f"{len(rows):,} of {len(prompt_rows):,}", "the file has changed; delete the prompts and rerun the workflow")
    tables.write(tables.NOTES, out, rows, stamp("generation control", {"spec": spec, "prompts": prompts, "replay": path, **concepts.tables_of(kb)}))
    say(f"{len(rows):,} notes")
