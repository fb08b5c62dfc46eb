"""The contract of a format in which annotated documents are written, and what several formats share.

In: records (`writing.record`). Out: a file, or a folder, with every document, in order, and numbers of what the format cannot represent, by kind.
Knows nothing of models and of any one format; imports no heavy library.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from mentionforge.provenance import digest

ENTITY_TYPE = "Disease"
"""Entity type of every mention."""

CONTEXTS = ("negated", "family", "hypothetical")
"""Contexts of a mention (`context`)."""

Record = Mapping[str, Any]
"""An annotated document as JSON data."""

Losses = Mapping[str, int]
"""Numbers of what a format could not represent, by kind."""


def codes_of(mention: Record) -> list[Record]:
    """The codes of a mention's concept, preferred ones first in their vocabularies; none if it has no concept, or no codes were asked for."""
    return list(mention["concepts"][0].get("codes", ())) if mention["concepts"] and not mention["nil"] else []


def codes_as_text(mention: Record) -> str:
    """The codes of a mention's concept as `MSH:D006816 (mondo), OMIM:143100 (mondo)`."""
    return ", ".join(f"{code['vocabulary']}:{code['code']} ({code['via']})" for code in codes_of(mention))


class AnnotationFormat:
    """Base of the formats.

    Attributes:
        name: Name on the command line.
        output: Name of its file or folder in the output folder.
        streams: Whether it can be written to standard output, document by document.
        reads_context: Whether it says what is negated, about the family or hypothetical, so that contexts are always read for it.
    """

    name: ClassVar[str]
    output: ClassVar[str]
    streams: ClassVar[bool] = False
    reads_context: ClassVar[bool] = False

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write records to `out`, which appears when it is complete."""
        raise NotImplementedError


@contextmanager
def renamed_when_complete(out: Path) -> Iterator[Path]:
    """A temporary name beside `out`, to which it is renamed at the end."""
    temporary = out.with_name(f".{out.name}.tmp")
    if temporary.is_dir():
        shutil.rmtree(temporary)
    yield temporary
    os.replace(temporary, out)


def with_paths(records: Iterable[Record], suffix: str) -> Iterator[tuple[Record, str]]:
    """Yield each record with a unique relative path that is safe to write."""
    seen: set[str] = set()
    for r in records:
        levels = [p for p in r["doc_id"].replace("\\", "/").split("/") if p not in ("", ".", "..")]
        safe = "/".join(_safe(level) for level in levels) or "document"
        stem = safe if suffix == ".html" else safe.removesuffix(suffix)
        relative, n = f"{stem}{suffix}", 1
        # Compared in lower case, because some file systems ignore case.
        while relative.lower() in seen or relative in ("index.html",):
            n += 1
            relative = f"{stem}-{n}{suffix}"
        seen.add(relative.lower())
        yield r, relative


def _safe(name: str) -> str:
    safe = re.sub(r"[^\w.+=@,()\[\] -]+", "_", name).strip(" ").lstrip(".") or "_"
    return safe if len(safe.encode()) <= 180 else safe.encode()[:160].decode(errors="ignore") + digest(name)
