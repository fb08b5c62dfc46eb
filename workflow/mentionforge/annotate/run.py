"""Annotating many documents: in order, a few at a time, with what cannot be read listed, and going on where a killed run stopped.

Finished documents lie in OUT/.annotate/part-N.jsonl, each part written under a temporary name and renamed; when all are done they become the
format asked for, errors.jsonl (one line per input that could not be annotated) and annotate.json (counts and provenance).
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
from mentionforge.annotate.pipeline import AT_A_TIME, Annotator, Mention
from mentionforge.annotate.reading import Entry, Item, Options, Read
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import git_revision

DOCUMENTS = 500
"""Documents of a part at most; a killed run loses one part's work at most."""

EVERY_S = 10.0


@dataclass
class Summary:
    """What a run did: of the inputs (files, and rows of tables) `read`, `documents` are annotated and `errors` are not."""

    documents: int = 0
    mentions: int = 0
    errors: int = 0
    characters: int = 0
    resumed: int = 0
    read: int = 0
    rows: int = 0
    renamed: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)

    def add(self, done: Sequence[Mapping[str, Any]]) -> None:
        """Count records."""
        for r in done:
            if "error" in r:
                self.errors += 1
            else:
                self.documents += 1
                self.mentions += len(r["mentions"])
                self.characters += len(r["text"])

    def close(self, read: Read) -> None:
        """Take over what reading has counted.

        Raises:
            AssertionError: An input is neither annotated nor an error; there is no such case that we know.
        """
        self.read, self.rows, self.renamed = read.documents, read.rows, read.renamed
        if self.read != self.documents + self.errors:
            raise AssertionError(f"{self.read} inputs read, {self.documents} annotated, {self.errors} errors")

    def told(self) -> str:
        """The sum, in words."""
        kind = "rows" if self.rows == self.read else "documents" if not self.rows else "documents and rows"
        told = f"{self.read:,} {kind} read = {self.documents:,} annotated + {self.errors:,} errors; {self.mentions:,} mentions"
        renamed = f"; ids given more than once: {self.renamed:,}, named ID-2 and so on" if self.renamed else ""
        return told + renamed + "".join(f"; {kind}: {n:,}" for kind, n in self.losses.items())


def annotate(inputs: Sequence[str], annotator: Annotator, form: str, out: Path, options: Options, settings: Mapping[str, Any]) -> Summary:
    """Annotate all documents of the inputs into a folder.

    Args:
        inputs: Files, folders, patterns, or `-`.
        annotator: Recognizer and linker.
        form: One of `writing.WRITERS`.
        out: Folder to write; it must not exist, be empty, or hold an unfinished run of the same job.
        options: How inputs are read.
        settings: What else the result depends on: a run is gone on with only if it is the same.

    Raises:
        UserError: An input that is not there, or `out` holds something else.
    """
    entries = reading.listed(inputs, options)
    if not entries:
        raise UserError("no documents", " ".join(inputs), "no file in them", "name files, or check --pattern")
    job = _job(entries, options, {**settings, "top": annotator.top, "nil_threshold": annotator.nil_threshold})
    final, work = out / writing.NAMES[form], out / ".annotate"
    summary = Summary()
    if _finished(out, job, form):
        say(f"{out} is finished already")
        return Summary(**json.loads((out / "annotate.json").read_text(encoding="utf-8"))["counts"])
    _begin(out, work, job)
    done = sorted(work.glob("part-*.jsonl"))
    for part in done:
        summary.add(list(_lines(part)))
    summary.resumed = summary.documents + summary.errors
    if summary.resumed:
        say(f"going on after {summary.resumed:,} inputs that are done")
    begun = last = time.monotonic()
    read = Read()
    for number, chunk in enumerate(_chunks(reading.items(entries, options, summary.resumed, read)), len(done)):
        records = annotated(chunk, annotator)
        _write_part(work / f"part-{number:07d}.jsonl", records)
        summary.add(records)
        _give_back()
        if time.monotonic() - last >= EVERY_S:
            last = time.monotonic()
            rate = (summary.documents + summary.errors - summary.resumed) / (last - begun)
            say(f"{summary.documents:,} documents, {summary.mentions:,} mentions, {summary.errors:,} errors; {rate:.1f} documents/s")
    summary.close(read)
    if final.is_dir():
        shutil.rmtree(final)
    summary.losses = writing.write((r for r in _all(work) if "error" not in r), form, final)
    _replace(out / "errors.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in _all(work) if "error" in r))
    report = {"mentionforge": __version__, "git_revision": git_revision(), "job": job, "form": form, "settings": dict(settings), "counts": asdict(summary)}
    _replace(out / "annotate.json", json.dumps(report, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(work)
    return summary


def stream(inputs: Sequence[str], annotator: Annotator, options: Options, sink: IO[str], errors: IO[str] = sys.stderr) -> Summary:
    """Annotate all documents of the inputs as JSON Lines to `sink`, errors to `errors`."""
    summary, read = Summary(), Read()
    for chunk in _chunks(reading.items(reading.listed(inputs, options), options, read=read)):
        records = annotated(chunk, annotator)
        for r in records:
            print(json.dumps(r, ensure_ascii=False), file=errors if "error" in r else sink)
        summary.add(records)
        _give_back()
    summary.close(read)
    return summary


def annotated(items: Sequence[Item], annotator: Annotator) -> list[dict[str, Any]]:
    """A record per item, in order: the annotated document, or its error."""
    texts = [item.text for item in items if not item.error]
    try:
        found: list[list[Mention] | str] = list(annotator.annotate(texts))
    except Exception:  # one document must not cost the others their result
        found = []
        for text in texts:
            try:
                found += annotator.annotate([text])
            except Exception as error:
                found.append(type(error).__name__)
    results = iter(found)
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


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Some documents at a time, by number and length."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item.text)
        if len(chunk) == DOCUMENTS or size >= AT_A_TIME:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _give_back() -> None:
    """Freed memory to the system, where the C library is glibc: it would keep what batches of all shapes leave behind."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _job(entries: Sequence[Entry], options: Options, settings: Mapping[str, Any]) -> str:
    """A digest of what the result depends on: which files, as they were last changed, and all settings."""
    files = []
    for entry in entries:
        size: list[int] = []
        with suppress(OSError):
            stat = Path(entry.path).stat()
            size = [] if Path(entry.path).is_dir() else [stat.st_size, stat.st_mtime_ns]
        files.append([str(Path(entry.path).absolute()), entry.name, entry.error, *size])
    text = json.dumps([files, asdict(options), settings, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(out: Path, job: str, form: str) -> bool:
    try:
        report = json.loads((out / "annotate.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(report["job"] == job and report["form"] == form and (out / writing.NAMES[form]).exists())


def _begin(out: Path, work: Path, job: str) -> None:
    """Make the folder of the parts, or find that of the same job."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (work / "job").is_file() or (work / "job").read_text(encoding="utf-8") != job:
            raise UserError("folder not empty", str(out), "it holds something else, or a run with other inputs or settings", "name another folder")
    else:
        work.mkdir(parents=True)
        _replace(work / "job", job)


def _write_part(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    _replace(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def _lines(part: Path) -> Iterator[dict[str, Any]]:
    with open(part, encoding="utf-8", newline="\n") as handle:
        yield from map(json.loads, handle)


def _all(work: Path) -> Iterator[dict[str, Any]]:
    for part in sorted(work.glob("part-*.jsonl")):
        yield from _lines(part)
