"""Annotate many documents, in batches, and resume an interrupted run.

In: names of inputs, and an annotator. Out: a folder with annotations in one format, errors.jsonl (one line per input that could not be annotated)
and annotate.json (counts and provenance); or JSON Lines on a stream. Unfinished runs keep finished chunks in OUT/.annotate/part-N.jsonl.
Knows nothing of how inputs are read and formats written.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from mentionforge import __version__
from mentionforge.annotate import reading, writing
from mentionforge.annotate.pipeline import BATCH_CHARACTERS, AnnotatedMention, Annotator
from mentionforge.annotate.reading import InputDocument, InputFile, Options, ReadCounts
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import git_revision

PART_DOCUMENTS = 500
"""Maximum number of documents per chunk; an interrupted run loses at most one chunk."""

REPORT_EVERY_S = 10.0


@dataclass
class Summary:
    """Counts of a run; inputs are files and table rows.

    Attributes:
        documents: Inputs annotated.
        mentions: Mentions found.
        errors: Inputs that could not be annotated.
        characters: Characters annotated.
        resumed: Inputs done by an earlier, interrupted run.
        read: Inputs read: `documents` + `errors`.
        rows: Of these, table rows.
        renamed: Documents renamed because an earlier one had the same id.
        losses: What the format could not represent, by kind.
    """

    documents: int = 0
    mentions: int = 0
    errors: int = 0
    characters: int = 0
    resumed: int = 0
    read: int = 0
    rows: int = 0
    renamed: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count records."""
        for r in records:
            if "error" in r:
                self.errors += 1
            else:
                self.documents += 1
                self.mentions += len(r["mentions"])
                self.characters += len(r["text"])

    def close(self, read: ReadCounts) -> None:
        """Take over the counts of reading.

        Raises:
            AssertionError: An input is neither annotated nor an error; this would be a bug.
        """
        self.read, self.rows, self.renamed = read.documents, read.rows, read.renamed
        if self.read != self.documents + self.errors:
            raise AssertionError(f"{self.read} inputs read, {self.documents} annotated, {self.errors} errors")

    def message(self) -> str:
        """The counts as a sentence."""
        kind = "rows" if self.rows == self.read else "documents" if not self.rows else "documents and rows"
        message = f"{self.read:,} {kind} read = {self.documents:,} annotated + {self.errors:,} errors; {self.mentions:,} mentions"
        renamed = f"; ids given more than once: {self.renamed:,}, named ID-2 and so on" if self.renamed else ""
        return message + renamed + "".join(f"; {kind}: {n:,}" for kind, n in self.losses.items())


def annotate(inputs: Sequence[str], annotator: Annotator, form: str, out: Path, options: Options, settings: Mapping[str, Any]) -> Summary:
    """Annotate all documents of the inputs into a folder.

    Args:
        inputs: Files, folders, patterns, or `-`.
        annotator: Recognizer and linker.
        form: One of `writing.WRITERS`.
        out: Folder to write; it must be missing, empty, or hold an unfinished run of the same job.
        options: Options of reading.
        settings: Everything else that the result depends on; an unfinished run is resumed only if it is equal.

    Raises:
        UserError: An input does not exist, or `out` holds something else.
    """
    files = reading.list_files(inputs, options)
    if not files:
        raise UserError("no documents", " ".join(inputs), "no file in them", "name files, or check --pattern")
    job = _job(files, options, {**settings, "top": annotator.top, "nil_threshold": annotator.nil_threshold})
    final, work = out / writing.OUTPUT_NAMES[form], out / ".annotate"
    summary = Summary()
    if _finished(out, job, form):
        say(f"{out} is finished already")
        return Summary(**json.loads((out / "annotate.json").read_text(encoding="utf-8"))["counts"])
    _prepare(out, work, job)
    finished_chunks = sorted(work.glob("part-*.jsonl"))
    for chunk_file in finished_chunks:
        summary.add(list(_read_chunk(chunk_file)))
    summary.resumed = summary.documents + summary.errors
    if summary.resumed:
        say(f"going on after {summary.resumed:,} inputs that are done")
    started = last = time.monotonic()
    counts = ReadCounts()
    for number, chunk in enumerate(_chunks(reading.read_items(files, options, summary.resumed, counts)), len(finished_chunks)):
        records = annotate_items(chunk, annotator)
        _write_chunk(work / f"part-{number:07d}.jsonl", records)
        summary.add(records)
        _release_memory()
        if time.monotonic() - last >= REPORT_EVERY_S:
            last = time.monotonic()
            rate = (summary.documents + summary.errors - summary.resumed) / (last - started)
            say(f"{summary.documents:,} documents, {summary.mentions:,} mentions, {summary.errors:,} errors; {rate:.1f} documents/s")
    summary.close(counts)
    if final.is_dir():
        shutil.rmtree(final)
    summary.losses = writing.write((r for r in _all_records(work) if "error" not in r), form, final)
    _replace(out / "errors.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in _all_records(work) if "error" in r))
    report = {"mentionforge": __version__, "git_revision": git_revision(), "job": job, "form": form, "settings": dict(settings), "counts": asdict(summary)}
    _replace(out / "annotate.json", json.dumps(report, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(work)
    return summary


def stream(inputs: Sequence[str], annotator: Annotator, options: Options, sink: IO[str], errors: IO[str] = sys.stderr) -> Summary:
    """Annotate all documents of the inputs as JSON Lines to `sink`, errors to `errors`."""
    summary, counts = Summary(), ReadCounts()
    for chunk in _chunks(reading.read_items(reading.list_files(inputs, options), options, counts=counts)):
        records = annotate_items(chunk, annotator)
        for r in records:
            print(json.dumps(r, ensure_ascii=False), file=errors if "error" in r else sink)
        summary.add(records)
        _release_memory()
    summary.close(counts)
    return summary


def annotate_items(items: Sequence[InputDocument], annotator: Annotator) -> list[dict[str, Any]]:
    """A record per document, in order: its annotations, or its error."""
    texts = [item.text for item in items if not item.error]
    try:
        outcomes: list[list[AnnotatedMention] | str] = list(annotator.annotate(texts))
    except Exception:  # annotate one by one, so that a failing document does not affect the others
        outcomes = []
        for text in texts:
            try:
                outcomes += annotator.annotate([text])
            except Exception as error:
                outcomes.append(type(error).__name__)
    results = iter(outcomes)
    records: list[dict[str, Any]] = []
    for item in items:
        result = "" if item.error else next(results)
        if item.error:
            records.append({"source": item.source, "doc_id": item.doc_id, "error": item.error, "why": item.why})
        elif isinstance(result, str):
            records.append({"source": item.source, "doc_id": item.doc_id, "error": "not annotated", "why": result})
        else:
            records.append(writing.record(item.doc_id, item.source, item.text, result))
    return records


def _chunks(items: Iterator[InputDocument]) -> Iterator[list[InputDocument]]:
    """Group documents by number and total length."""
    chunk: list[InputDocument] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item.text)
        if len(chunk) == PART_DOCUMENTS or size >= BATCH_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _release_memory() -> None:
    """Return freed memory to the system, if the C library is glibc, which would keep it after batches of varying shapes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _job(files: Sequence[InputFile], options: Options, settings: Mapping[str, Any]) -> str:
    """Digest of all that the result depends on: the files with size and modification time, and all settings."""
    file_states = []
    for file in files:
        size: list[int] = []
        with suppress(OSError):
            stat = Path(file.path).stat()
            size = [] if Path(file.path).is_dir() else [stat.st_size, stat.st_mtime_ns]
        file_states.append([str(Path(file.path).absolute()), file.name, file.error, *size])
    text = json.dumps([file_states, asdict(options), settings, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(out: Path, job: str, form: str) -> bool:
    try:
        report = json.loads((out / "annotate.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(report["job"] == job and report["form"] == form and (out / writing.OUTPUT_NAMES[form]).exists())


def _prepare(out: Path, work: Path, job: str) -> None:
    """Create the folder of finished chunks, or check that an existing one is of the same job."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (work / "job").is_file() or (work / "job").read_text(encoding="utf-8") != job:
            raise UserError("folder not empty", str(out), "it holds something else, or a run with other inputs or settings", "name another folder")
    else:
        work.mkdir(parents=True)
        _replace(work / "job", job)


def _write_chunk(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    _replace(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def _read_chunk(chunk_file: Path) -> Iterator[dict[str, Any]]:
    with open(chunk_file, encoding="utf-8", newline="\n") as handle:
        yield from map(json.loads, handle)


def _all_records(work: Path) -> Iterator[dict[str, Any]]:
    for chunk_file in sorted(work.glob("part-*.jsonl")):
        yield from _read_chunk(chunk_file)
