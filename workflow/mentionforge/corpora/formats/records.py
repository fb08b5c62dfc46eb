"""JSON Lines and Parquet: one document per line or row, with the fields of the document model.

{"doc_id": "1", "text": "Gout today", "mentions": [
    {"spans": [[0, 4]], "surface": "Gout", "entity_type": "Disease", "concept_ids": ["MSH:D006073"], "composite": false}]}

In: such a file. Out: documents, and the reverse. Knows nothing of splits and knowledge bases.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mentionforge.corpora.concept_ids import parse_id
from mentionforge.corpora.documents import AS_PUBLISHED, Annotation, Document, ReaderOptions, Tally, annotation_from_ids, is_kept, sorted_annotations
from mentionforge.corpora.files import lines, renamed_when_whole, writing_lines
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.losses import Losses, repeated_ids
from mentionforge.corpora.spans import check_pieces, check_surface
from mentionforge.errors import UserError
from mentionforge.json_objects import TwiceError, unique
from mentionforge.text import Span

DOCUMENT_KEYS = ("doc_id", "text", "mentions")
MENTION_KEYS = ("spans", "surface", "entity_type", "concept_ids", "composite")
_FIX = "see the formats in docs/corpora.md"
_ROWS = 64
"""Rows of a Parquet file in memory at a time while reading."""

_ROWS_WRITTEN = 512
"""Documents in memory at a time while writing a Parquet file."""


def stream_jsonl(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the documents of a JSON Lines file.

    `doc_id`, `text`, `mentions` and the `spans` of a mention are required. Spans are pairs, or objects with `start` and `end`: characters, end
    exclusive. `surface` is checked against the text. `concept_ids` lists one id per annotated concept, "" for a concept without id. `composite`
    defaults to true for several ids. Other keys are skipped and counted.

    Args:
        path: The file, UTF-8; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Mentions of other types are skipped and counted.
        tally: Counts of what is skipped, handled and repaired; updated in place.
        options: Not used by this format.

    Raises:
        UserError: With file and row: not UTF-8, no JSON object, a key that is missing, repeated or of a wrong type, a span outside of the text, or
            one whose text is not the surface.
    """
    _require_file(path, "jsonl")
    for row, line in lines(path, tally.handled):
        where = f"{path}:{row}"
        try:
            record = json.loads(line, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise UserError("no JSON object", where, type(error).__name__ if not isinstance(error, TwiceError) else str(error), _FIX) from error
        yield _document(record, where, id_prefix, entity_types, tally)


def stream_parquet(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the documents of a Parquet file, whose columns are the keys of `stream_jsonl`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _require_file(path, "parquet")
    row = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            for name in sorted(set(names) - set(DOCUMENT_KEYS)):
                tally.skip(f"key {name}", str(path), file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=_ROWS, columns=[name for name in names if name in DOCUMENT_KEYS]):
                for record in batch.to_pylist():
                    row += 1
                    yield _document(record, f"{path}:{row}", id_prefix, entity_types, tally)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise UserError("damaged file", f"{path}:{row + 1}", f"not readable as Parquet ({type(error).__name__})", "write it again") from error


def _require_file(path: Path, reader: str) -> None:
    if path.is_dir():
        raise UserError("folder where a file is needed", str(path), f"the {reader} reader takes files", "name the file")


def _document(record: Any, where: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Document:
    if not isinstance(record, Mapping):
        raise UserError("no JSON object", where, "a document is one", _FIX)
    _count_others(record, DOCUMENT_KEYS, "key", where, tally)
    doc_id, text = (_text(record, key, where) for key in ("doc_id", "text"))
    if not doc_id:
        raise UserError("document without id", where, "doc_id is empty", _FIX)
    mentions = _get(record, "mentions", list, where)
    annotations = [_mention(m, doc_id, text, where, id_prefix, entity_types, tally) for m in mentions]
    return Document(doc_id, text, sorted_annotations([a for a in annotations if a]), where)


def _mention(record: Any, doc_id: str, text: str, where: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Annotation | None:
    if not isinstance(record, Mapping):
        raise UserError("bad value", where, "a mention is an object", _FIX)
    record = {key: value for key, value in record.items() if value is not None}
    entity_type = _text(record, "entity_type", where) if "entity_type" in record else ""
    if not is_kept(entity_type, entity_types):
        tally.skip(f"entity type {entity_type}", where)
        return None
    _count_others(record, MENTION_KEYS, "key of mentions:", where, tally)
    published = [_span(span, where) for span in _get(record, "spans", list, where)]
    spans = check_pieces(doc_id, published, text, where, tally)
    if "surface" in record:
        check_surface(doc_id, tuple(published), text, _text(record, "surface", where), where, tally)
    ids = _get(record, "concept_ids", list, where) if "concept_ids" in record else []
    ids = ["" if i is None else i for i in ids]
    if not all(isinstance(i, str) for i in ids):
        raise UserError("bad value", where, "concept_ids lists strings", _FIX)
    for i in ids:
        _check_encodable(i, "concept_ids", where)
    several = len(ids) > 1
    composite = _get(record, "composite", bool, where) if "composite" in record else several
    if several and not composite:
        raise UserError("bad value", where, "several concept_ids of a mention that is not composite", _FIX)
    parsed = [parse_id(i, id_prefix) for i in ids]
    return annotation_from_ids(spans, entity_type, [*parsed, *(parsed or [""])] if composite and not several else parsed)


def _count_others(record: Mapping[str, Any], known: tuple[str, ...], kind: str, where: str, tally: Tally) -> None:
    for key in record:
        if key not in known:
            tally.skip(f"{kind} {key}", where)


def _get(record: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    if key not in record:
        raise UserError("missing key", where, key, _FIX)
    if not isinstance(record[key], kind):
        raise UserError("bad value", where, f"{key} is no {kind.__name__}", _FIX)
    return record[key]


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value: str = _get(record, key, str, where)
    _check_encodable(value, key, where)
    return value


def _check_encodable(value: str, key: str, where: str) -> None:
    """Raise a UserError for half of a surrogate pair, which JSON can contain but UTF-8 cannot encode."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError("bad value", where, f"{key} holds half of a surrogate pair", "write the character itself, or both halves") from error


def _span(span: Any, where: str) -> Span:
    if isinstance(span, Mapping) and set(span) == {"start", "end"}:
        span = [span["start"], span["end"]]
    if not (isinstance(span, list) and len(span) == 2 and all(type(x) is int and x >= 0 for x in span)):
        raise UserError("bad offset", where, "a span is [start, end], numbers of characters from 0", _FIX)
    return span[0], span[1]


def record(document: Document) -> dict[str, Any]:
    """A document as an object of the formats jsonl and parquet."""
    mentions = [
        {
            "spans": [{"start": start, "end": end} for start, end in a.spans],
            "surface": a.surface(document.text),
            "entity_type": a.entity_type,
            "concept_ids": [] if a.ids == ("",) and not a.composite else list(repeated_ids(a)),
            "composite": a.composite,
        }
        for a in document.annotations
    ]
    return {"doc_id": document.doc_id, "text": document.text, "mentions": mentions}


def write_jsonl(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Write one JSON object per document; nothing is lost."""
    with writing_lines(out) as handle:
        for document in documents:
            handle.write(json.dumps(record(document), ensure_ascii=False) + "\n")


def write_parquet(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Write one row per document, with page checksums; nothing is lost."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    span = pa.struct([("start", pa.int64()), ("end", pa.int64())])
    mention = pa.struct(
        [
            ("spans", pa.list_(span)),
            ("surface", pa.string()),
            ("entity_type", pa.string()),
            ("concept_ids", pa.list_(pa.string())),
            ("composite", pa.bool_()),
        ]
    )
    schema = pa.schema([("doc_id", pa.string()), ("text", pa.string()), ("mentions", pa.list_(mention))])
    with renamed_when_whole(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
        rows: list[dict[str, Any]] = []
        for document in documents:
            rows.append(record(document))
            if len(rows) == _ROWS_WRITTEN:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


JSONL = Format("jsonl", stream_jsonl, write_jsonl, ".jsonl")
PARQUET = Format("parquet", stream_parquet, write_parquet, ".parquet")
