"""Write annotated documents as JSON Lines, Parquet, BRAT, PubTator, BioC or HTML.

In: records, which have the keys of `corpora.formats.records` and more, so JSON Lines and Parquet can be read back as a corpus. Out: a file or folder
with every document, in order, and losses by kind. Knows nothing of models.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mentionforge.annotate.pipeline import AnnotatedMention
from mentionforge.corpora.documents import Document, annotation_from_ids
from mentionforge.corpora.formats import registry
from mentionforge.corpora.spans import LINE_ENDS, without_line_ends
from mentionforge.provenance import digest

TYPE = "Disease"
CONTEXTS = ("negated", "family", "hypothetical")

Record = Mapping[str, Any]


def record(doc_id: str, source: str, text: str, mentions: Iterable[AnnotatedMention]) -> dict[str, Any]:
    """A document as JSON data."""
    return {"doc_id": doc_id, "source": source, "text": text, "mentions": [mention_record(m) for m in mentions]}


def mention_record(m: AnnotatedMention) -> dict[str, Any]:
    """A mention as JSON data."""
    return {
        "spans": [{"start": m.start, "end": m.end}],
        "surface": m.surface,
        "entity_type": TYPE,
        "concept_ids": [f"CUI:{m.concept.cui}"] if m.concept else [],
        "composite": False,
        "score": round(m.score, 6),
        "name": m.concept.name if m.concept else None,
        "semantic_types": list(m.concept.semantic_types) if m.concept else [],
        "nil": m.nil,
        "expanded": m.expanded,
        "ambiguous": m.ambiguous,
        "context": list(m.context),
        "concepts": [{"cui": c.cui, "name": c.name, "semantic_types": list(c.semantic_types), "score": round(c.score, 6)} for c in m.concepts],
    }


def write(records: Iterable[Record], form: str, out: Path) -> Mapping[str, int]:
    """Write records to `out` (a file, or a folder for brat and html), which appears when it is complete.

    Returns:
        Numbers of what the format could not represent, by kind.
    """
    return WRITERS[form](records, out)


@contextmanager
def _renamed_when_complete(out: Path) -> Iterator[Path]:
    temporary = out.with_name(f".{out.name}.tmp")
    if temporary.is_dir():
        shutil.rmtree(temporary)
    yield temporary
    os.replace(temporary, out)


def _jsonl(records: Iterable[Record], out: Path) -> Mapping[str, int]:
    with _renamed_when_complete(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as sink:
        sink.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    return {}


def _parquet(records: Iterable[Record], out: Path) -> Mapping[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, texts = pa.string(), pa.list_(pa.string())
    concept = pa.struct({"cui": text, "name": text, "semantic_types": texts, "score": pa.float64()})
    span = pa.struct({"start": pa.int64(), "end": pa.int64()})
    mention = pa.struct(
        {
            "spans": pa.list_(span),
            "surface": text,
            "entity_type": text,
            "concept_ids": texts,
            "composite": pa.bool_(),
            "score": pa.float64(),
            "name": text,
            "semantic_types": texts,
            "nil": pa.bool_(),
            "expanded": text,
            "ambiguous": pa.bool_(),
            "context": texts,
            "concepts": pa.list_(concept),
        }
    )
    schema = pa.schema({"doc_id": text, "source": text, "text": text, "mentions": pa.list_(mention)})
    with _renamed_when_complete(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as sink:
        for batch in _batches(records, 256):
            sink.write_table(pa.Table.from_pylist(batch, schema))
    return {}


def _batches(records: Iterable[Record], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for r in records:
        batch.append(dict(r))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _pubtator(records: Iterable[Record], out: Path) -> Mapping[str, int]:
    def documents() -> Iterator[Document]:
        for r in records:
            annotations = tuple(annotation_from_ids([(m["spans"][0]["start"], m["spans"][0]["end"])], TYPE, m["concept_ids"]) for m in r["mentions"])
            yield Document(_plain_id(r["doc_id"], "|"), r["text"], annotations, r["source"])

    return registry.write(documents(), "pubtator", out, "count").losses


def _plain_id(doc_id: str, forbidden: str) -> str:
    """An id with white space and forbidden characters replaced by _; a digest keeps changed ids unique."""
    plain = re.sub(rf"[\s\ufeff{re.escape(forbidden)}]+", "_", doc_id)
    return plain if plain == doc_id else f"{plain}-{digest(doc_id)[:6]}"


def _bioc(records: Iterable[Record], out: Path) -> Mapping[str, int]:
    import bioc
    from bioc.biocxml.encoder import BioCXMLDocumentWriter

    losses: dict[str, int] = {}
    with _renamed_when_complete(out) as temporary, open(temporary, "wb") as handle:
        writer = BioCXMLDocumentWriter(handle, encoding="UTF-8")
        collection = bioc.BioCCollection()
        collection.source, collection.date, collection.key = "mentionforge", "", "docs/annotate.md"
        writer.write_collection_info(collection)
        for r in records:
            text, n = _NOT_XML.subn("\ufffd", r["text"])
            if n:
                losses[_REPLACED] = losses.get(_REPLACED, 0) + n
            document, passage = bioc.BioCDocument(), bioc.BioCPassage()
            document.id = _NOT_XML.sub("\ufffd", r["doc_id"])
            passage.offset, passage.text = 0, text
            for i, m in enumerate(r["mentions"]):
                passage.add_annotation(_bioc_annotation(bioc, i, m, text))
            document.add_passage(passage)
            writer.write_document(document)
        writer.close()
    return losses


_REPLACED = "characters that XML does not allow: replaced"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _bioc_annotation(bioc: Any, number: int, m: Record, text: str) -> Any:
    annotation = bioc.BioCAnnotation()
    [span] = m["spans"]
    annotation.id, annotation.text = str(number), text[span["start"] : span["end"]]
    infons: dict[str, str | None] = {
        "type": TYPE,
        "identifier": "|".join(i.replace("CUI:", "UMLS:") for i in m["concept_ids"]) or "-1",
        "score": f"{m['score']:.4f}",
    }
    infons |= {"name": m["name"], "semantic_types": ",".join(m["semantic_types"]), "expanded": m["expanded"], "context": ",".join(m["context"])}
    infons |= {"ambiguous": "true" if m["ambiguous"] else None}
    infons |= {"candidates": " | ".join(f"{c['cui']} {c['name']} {c['score']:.4f}" for c in m["concepts"][1:])}
    annotation.infons = {key: _NOT_XML.sub("\ufffd", value) for key, value in infons.items() if value}
    annotation.add_location(bioc.BioCLocation(span["start"], span["end"] - span["start"]))
    return annotation


# -------------------------------------------------------------------------------------------------------------------- brat


def _brat(records: Iterable[Record], out: Path) -> Mapping[str, int]:
    """Write a .txt and a .ann per document, in the folders of the inputs, and annotation.conf for BRAT."""
    with _renamed_when_complete(out) as folder:
        folder.mkdir()
        attributes = "".join(f"{c.capitalize()}\tArg:{TYPE}\n" for c in (*CONTEXTS, "ambiguous", "expanded"))
        (folder / "annotation.conf").write_text(f"[entities]\n{TYPE}\n\n[relations]\n\n[events]\n\n[attributes]\n{attributes}", encoding="utf-8")
        for r, relative in _with_paths(records, ".txt"):
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(r["text"], encoding="utf-8", newline="")
            path.with_suffix(".ann").write_text("".join(_ann(r["mentions"], r["text"])), encoding="utf-8", newline="")
    return {}


def _ann(mentions: Iterable[Record], text: str) -> Iterator[str]:
    """Lines of a .ann file: per mention a T line (in pieces if it crosses a line end), its concept as N line, flags as A lines, and scores as a note."""
    references = flags = 0
    for i, m in enumerate(mentions, 1):
        [span] = m["spans"]
        spans = without_line_ends([(span["start"], span["end"])], text)  # BRAT allows no line end in a marked text
        pieces, surface = ";".join(f"{start} {end}" for start, end in spans), " ".join(text[start:end] for start, end in spans)
        yield f"T{i}\t{TYPE} {pieces}\t{surface}\n"
        for concept_id in m["concept_ids"]:
            references += 1
            yield f"N{references}\tReference T{i} {concept_id.replace('CUI:', 'UMLS:')}\t{(m['name'] or m['surface']).translate(_BLANKS)}\n"
        for flag in (*m["context"], *(["ambiguous"] if m["ambiguous"] else []), *(["expanded"] if m["expanded"] else [])):
            flags += 1
            yield f"A{flags}\t{flag.capitalize()} T{i}\n"
        note = [f"score {m['score']:.3f}", *([f"read as {m['expanded']}"] if m["expanded"] else []), *(["no concept"] if m["nil"] else [])]
        note += [f"{rank}. {c['cui']} {c['name']} ({', '.join(c['semantic_types'])}) {c['score']:.3f}" for rank, c in enumerate(m["concepts"], 1)]
        yield f"#{i}\tAnnotatorNotes T{i}\t{'; '.join(note).translate(_BLANKS)}\n"


_BLANKS = {**LINE_ENDS, ord("\t"): " "}


def _with_paths(records: Iterable[Record], suffix: str) -> Iterator[tuple[Record, str]]:
    """Yield each record with a unique relative path that is safe to write."""
    seen: set[str] = set()
    for r in records:
        parts = [p for p in r["doc_id"].replace("\\", "/").split("/") if p not in ("", ".", "..")]
        safe = "/".join(_safe(part) for part in parts) or "document"
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


# -------------------------------------------------------------------------------------------------------------------- html


STYLE = """:root{color-scheme:light dark;--ink:#22272b;--soft:#5d666e;--rule:#d9dde0;--paper:#fcfcfa;--mark:#f6e3b4;--none:#dfe3e6}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e7;--soft:#9aa4ac;--rule:#363d43;--paper:#15191c;--mark:#5a4a1c;--none:#3b434a}}
body{font:16px/1.6 "Helvetica Neue",Helvetica,Arial,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1.5rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;font-weight:600;overflow-wrap:anywhere}a{color:inherit}.text{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75}
mark{background:var(--mark);color:inherit;border-radius:3px;padding:.1em .2em}mark.nil{background:var(--none)}mark small{color:var(--soft);font-size:.7em}
mark.negated,mark.family,mark.hypothetical{background:none;box-shadow:inset 0 0 0 1.5px var(--mark);text-decoration:underline dashed}
table{border-collapse:collapse;font-size:.85rem;margin-top:1.5rem;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid var(--rule);padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top}"""


def page(r: Record) -> str:
    """A document as an HTML page: its text with mentions marked, and a table of the mentions."""
    text, at, pieces = r["text"], 0, []
    for m in r["mentions"]:
        [span] = m["spans"]
        first = m["concepts"][0] if m["concepts"] and not m["nil"] else None
        title = f"{first['cui']} {first['name']} {first['score']:.3f}" if first else "no concept"
        classes = " ".join(["nil"] * m["nil"] + list(m["context"]))
        pieces += [html.escape(text[at : span["start"]]), f'<mark class="{classes}" title="{html.escape(title)}">{html.escape(m["surface"])}']
        pieces.append(f"<small> {html.escape(first['cui'])}</small></mark>" if first else "</mark>")
        at = span["end"]
    pieces.append(html.escape(text[at:]))
    rows = "".join(map(_row, r["mentions"]))
    head = "<tr><th>place<th>mention<th>score<th>concepts<th>remarks</tr>"
    return _html(r["doc_id"], f'<div class="text">{"".join(pieces)}</div><table>{head}{rows}</table>')


def _row(m: Record) -> str:
    [span] = m["spans"]
    concepts = "<br>".join(html.escape(f"{c['cui']} {c['name']} ({', '.join(c['semantic_types'])}) {c['score']:.3f}") for c in m["concepts"])
    remarks = [f"read as {m['expanded']}"] * bool(m["expanded"]) + ["ambiguous"] * m["ambiguous"] + ["no concept"] * m["nil"] + list(m["context"])
    return f"<tr><td>{span['start']}-{span['end']}<td>{html.escape(m['surface'])}<td>{m['score']:.3f}<td>{concepts}<td>{html.escape(', '.join(remarks))}</tr>"


def _html(title: str, body: str) -> str:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"{head}<h1>{html.escape(title)}</h1>{body}</html>\n"


def _pages(records: Iterable[Record], out: Path) -> Mapping[str, int]:
    """Write a page per document, and index.html."""
    with _renamed_when_complete(out) as folder:
        folder.mkdir()
        with open(folder / "index.html", "w", encoding="utf-8") as index:
            index.write(_html("Annotated documents", "<ol>").removesuffix("</html>\n"))
            for r, relative in _with_paths(records, ".html"):
                path = folder / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(page(r), encoding="utf-8", newline="")
                address = "/".join(map(_quoted, relative.split("/")))
                index.write(f'<li><a href="{address}">{html.escape(r["doc_id"])}</a>: {len(r["mentions"]):,} mentions</li>\n')
            index.write("</ol></html>\n")
    return {}


def _quoted(part: str) -> str:
    from urllib.parse import quote

    return quote(part)


WRITERS: Mapping[str, Callable[[Iterable[Record], Path], Mapping[str, int]]] = {
    "jsonl": _jsonl,
    "brat": _brat,
    "pubtator": _pubtator,
    "bioc": _bioc,
    "parquet": _parquet,
    "html": _pages,
}
OUTPUT_NAMES = {
    "jsonl": "annotations.jsonl",
    "brat": "brat",
    "pubtator": "annotations.pubtator.txt",
    "bioc": "annotations.bioc.xml",
    "parquet": "annotations.parquet",
    "html": "html",
}
"""Name of the file or folder of each format in the output folder."""
