"""Documents written in the formats that people have: PubTator, BRAT, CoNLL, BioC XML, JSON Lines and Parquet.

Reading back what was written gives the same documents, as far as the format can hold them. Where it cannot, `Losses` says what happens: an error,
or the nearest thing that it can hold, counted by kind. Files are written under a temporary name and renamed when whole.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, cast

from mentionforge import text as units
from mentionforge.corpora.conll import DOCSTART
from mentionforge.corpora.published import (
    BYTE_ORDER_MARK,
    VOCABULARIES,
    Annotation,
    Document,
    in_order,
    joined_at_line_ends,
    parse_ids,
    without_line_ends,
)
from mentionforge.errors import UserError
from mentionforge.gold import flatten

Policy = Literal["error", "count"]

_WRITTEN_AS = {source: prefix for prefix, source in VOCABULARIES.items()}
_TITLE_END = re.compile(r"(?<=[.?!]) ")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ROWS = 512
"""Documents of a Parquet file in memory at a time."""


@dataclass
class Losses:
    """What a format cannot hold: with the policy `error` it stops, with `count` the nearest thing is written and counted."""

    policy: Policy = "error"
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, kind: str, document: Document, fix: str = "write another format, or set --losses count", n: int = 1) -> None:
        """Note a loss.

        Raises:
            UserError: The policy is `error`.
        """
        if self.policy == "error":
            raise UserError("format cannot hold this", document.where, f"document {document.doc_id}: {kind}", fix)
        self.counts[kind] += n


@dataclass(frozen=True)
class Written:
    """Documents and mentions written, and what the format could not hold."""

    documents: int
    mentions: int
    losses: Mapping[str, int]

    def __str__(self) -> str:
        """One line for people."""
        lost = "; ".join(f"{kind}: {n:,}" for kind, n in sorted(self.losses.items()))
        return f"{self.documents:,} documents, {self.mentions:,} mentions" + (f"; {lost}" if lost else "")


def write(documents: Iterable[Document], form: str, out: Path, policy: Policy = "error") -> Written:
    """Write documents one by one.

    Args:
        documents: Read by any reader; offsets and pieces in order.
        form: One of `WRITERS`.
        out: File, or folder for brat; one that ends in .gz is compressed (not parquet, not brat).
        policy: What to do about what the format cannot hold.

    Raises:
        UserError: `out` is there already (brat), an id that cannot be a name or a field, or a loss with the policy `error`.
    """
    if form not in WRITERS:
        raise UserError("unknown format", form, "", f"one of {', '.join(sorted(WRITERS))}")
    losses = Losses(policy)
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Document]:
        for document in documents:
            counts["documents"] += 1
            counts["mentions"] += len(document.annotations)
            yield document

    out.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[form](counted(), out, losses)
    lost = sum(n for kind, n in losses.counts.items() if kind.startswith(_DROPPED))
    return Written(counts["documents"] - losses.counts[_TWICE], counts["mentions"] - lost, dict(losses.counts))


_DROPPED = "mentions left out"
_TWICE = "documents given twice"


# ------------------------------------------------------------------------------------------------------------- the pieces


def written_ids(annotation: Annotation) -> str:
    """The concept column of a mention, as `published.parse_ids` reads it."""
    return "|".join(map(_written_id, _repeated(annotation)))


def _repeated(annotation: Annotation) -> tuple[str, ...]:
    """The ids; that of a composite mention which has one only, twice."""
    return annotation.ids * 2 if annotation.composite and len(annotation.ids) == 1 else annotation.ids


def _written_id(concept_id: str) -> str:
    if not concept_id:
        return "-1"
    vocabulary, _, code = concept_id.partition(":")
    return f"{_WRITTEN_AS.get(vocabulary, vocabulary)}:{code}"


def _column(annotation: Annotation, document: Document, losses: Losses) -> str:
    """The concept column; an id that it cannot hold (one with `|`, `+`, `,`, `;` or a tab) is left out."""
    ids = _repeated(annotation)
    held = [parse_ids(_written_id(i), "") == (i,) and _plain(i) for i in ids]
    if all(held):
        return written_ids(annotation)
    losses("ids that a column cannot hold: left out", document, n=held.count(False))
    return "|".join(_written_id(i) if ok else "-1" for i, ok in zip(ids, held, strict=True))


def _plain(value: str) -> bool:
    """Whether a value can be a column: no tab, no line end, no byte order mark where a line may begin."""
    return not re.search("[\t\n\r]", value) and not value.startswith(BYTE_ORDER_MARK)


def _plain_type(annotation: Annotation, document: Document, losses: Losses) -> str:
    if _plain(annotation.entity_type):
        return annotation.entity_type
    losses("entity types with tabs or line ends: replaced by blanks", document)
    return re.sub(f"[\t\n\r{BYTE_ORDER_MARK}]", " ", annotation.entity_type)


def _check_id(document: Document, forbidden: str, form: str) -> None:
    if not document.doc_id or document.doc_id != document.doc_id.strip() or not _plain(document.doc_id) or set(forbidden) & set(document.doc_id):
        raise UserError("bad document id", document.where, f"{document.doc_id!r} cannot stand in a {form} file", "rename the document")


def _replaced(document: Document, pattern: str, kind: str, losses: Losses, by: str = " ") -> Document:
    """The document with each character of a kind replaced by another one, so that offsets stay; the replaced ones are counted."""
    text, n = re.subn(pattern, by, document.text)
    if not n:
        return document
    losses(f"{kind}: replaced", document, n=n)
    changed = replace(document, text=text)
    kept = [a for a in document.annotations if all(text[start:end].strip() for start, end in a.spans)]
    if len(kept) < len(document.annotations):
        losses(f"{_DROPPED}: nothing but {kind}", document, n=len(document.annotations) - len(kept))
    return replace(changed, annotations=tuple(kept))


def _in_one_piece(document: Document, losses: Losses) -> Document:
    """Mentions in pieces as the stretch around all of them."""
    if n := sum(len(a.spans) > 1 for a in document.annotations):
        losses("mentions in pieces: written as the stretch around them", document, n=n)
    return replace(document, annotations=in_order([replace(a, spans=((a.spans[0][0], a.spans[-1][1]),)) for a in document.annotations]))


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A temporary name beside `out`, renamed to it at the end; nothing stays of it after an error."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, out)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def _bytes(out: Path) -> Iterator[BinaryIO]:
    with _whole(out) as temporary, open(temporary, "wb") as raw:
        if out.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield raw


@contextmanager
def _lines(out: Path) -> Iterator[TextIO]:
    with _bytes(out) as raw:
        handle = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        yield handle
        handle.flush()
        handle.detach()


# -------------------------------------------------------------------------------------------------------------- pubtator


def write_pubtator(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Title and abstract on a line each: the text is parted at the blank after its first sentence, or at its first blank.

    It cannot hold line ends, mentions in pieces, tabs in mentions, and a text without a blank.
    """
    with _lines(out) as handle:
        for published in documents:
            _check_id(published, "|", "PubTator")
            document = _in_one_piece(_replaced(published, "[\n\r]", "line ends in a text", losses), losses)
            if any("\t" in a.surface(document.text) for a in document.annotations):
                document = _replaced(document, "\t", "tabs in a text with a mention that holds one", losses)
            title, abstract = _parted(document, losses)
            handle.write(f"{document.doc_id}|t|{title}\n{document.doc_id}|a|{abstract}\n")
            for a in document.annotations:
                [(start, end)] = a.spans
                columns = (
                    document.doc_id,
                    start,
                    end,
                    a.surface(document.text),
                    _plain_type(a, document, losses),
                    _column(a, document, losses),
                )
                handle.write("\t".join(map(str, columns)) + "\n")
            handle.write("\n")


def _parted(document: Document, losses: Losses) -> tuple[str, str]:
    if match := _TITLE_END.search(document.text):
        return document.text[: match.start()], document.text[match.end() :]
    title, blank, abstract = document.text.partition(" ")
    if not blank:
        losses("texts without a blank: one is added at the end", document)
    return title, abstract


# ------------------------------------------------------------------------------------------------------------------ brat


def write_brat(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """A folder with NAME.txt and NAME.ann for every document; a mention has an N line for each id.

    BRAT takes no marked text with a line end in it: a mention over a line end is written in pieces, and its text is theirs, joined by one blank.

    It cannot hold a document twice, blanks in types, a type that is empty, a text that begins with a byte order mark, a mention that begins or ends
    with a line end, and one in pieces with nothing but a line end between them, which is a mention over a line end.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("folder not empty", str(out), "documents of two runs would mix", "name another folder")
    with _whole(out) as temporary:
        temporary.mkdir()
        for published in documents:
            _check_id(published, "/\\\0", "BRAT")
            if published.doc_id.startswith(".") or len(published.doc_id.encode()) > 200:
                raise UserError("bad document id", published.where, f"{published.doc_id!r} cannot be a file's name", "rename the document")
            path = temporary / f"{published.doc_id}.txt"
            if path.exists():
                losses(_TWICE, published)
                losses(f"{_DROPPED}: of documents given twice", published, n=len(published.annotations))
                continue
            document = _replaced(published, f"\\A{BYTE_ORDER_MARK}", "byte order marks", losses)
            path.write_text(document.text, encoding="utf-8", newline="")
            path.with_name(f"{document.doc_id}.ann").write_text("".join(_ann(document, losses)), encoding="utf-8", newline="")
        if out.exists():
            out.rmdir()


def _ann(document: Document, losses: Losses) -> Iterator[str]:
    concepts = 0
    for i, a in enumerate(document.annotations, start=1):
        entity_type = a.entity_type
        if not re.fullmatch(r"[^\s\ufeff]+", entity_type):
            losses("entity types that are empty or have blanks: replaced by _", document)
            entity_type = re.sub(r"[\s\ufeff]", "_", entity_type) or "_"
        spans = without_line_ends(a.spans, document.text)
        if joined_at_line_ends(spans, document.text) != a.spans:
            losses("mentions that begin or end with a line end, or have nothing else between pieces: written as the words show them", document)
        pieces = ";".join(f"{start} {end}" for start, end in spans)
        surface = " ".join(document.text[start:end] for start, end in spans)
        yield f"T{i}\t{entity_type} {pieces}\t{surface}\n"
        for concept_id in _column(a, document, losses).split("|") if a.ids != ("",) or a.composite else ():
            concepts += 1
            reference = concept_id if ":" in concept_id else f"NONE:{concept_id}"
            yield f"N{concepts}\tReference T{i} {reference}\t{surface}\n"


# ----------------------------------------------------------------------------------------------------------------- conll


def write_conll(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """One token per line; tokens are what blanks separate, sentences what line ends do.

    It cannot hold other blanks, mentions that begin or end inside a token, overlap, come in pieces or cross a line end. A document with any of
    them is written anew: tokens are words and punctuation marks, mentions are widened to whole tokens, of overlapping ones the longest stays,
    of one in pieces its longest piece.
    """
    with _lines(out) as handle:
        for document in documents:
            _check_id(document, "", "CoNLL")
            if document.doc_id in ("O", "-X-") or (document.doc_id.startswith("(") and document.doc_id.endswith(")")):
                raise UserError("bad document id", document.where, f"{document.doc_id!r} cannot stand in a CoNLL file", "rename the document")
            handle.write(f"{DOCSTART}\t{document.doc_id}\n\n")
            exact = _exact(document)
            # A byte order mark could begin a line, where readers take it for one.
            held = document if exact else _replaced(document, BYTE_ORDER_MARK, "byte order marks", losses)
            for line in _tagged(held, *(exact or _tokenized(held, losses)), losses):
                handle.write(line)
            handle.write("\n")


Tokens = list[list[tuple[int, int]]]
"""Character spans of the tokens of each sentence."""


def _exact(document: Document) -> tuple[Tokens, list[tuple[int, int, Annotation]]] | None:
    """Tokens and mentions of a text that the rebuilt one equals, or nothing."""
    tokens: Tokens = []
    at = 0
    for sentence in document.text.split("\n") if document.text else ():
        tokens.append([])
        for token in sentence.split(" "):
            if not token.strip() or token == DOCSTART or re.search("[\t\r]", token) or token.startswith(BYTE_ORDER_MARK):
                return None
            tokens[-1].append((at, at + len(token)))
            at += len(token) + 1
    starts = {start: (i, end) for i, sentence in enumerate(tokens) for start, end in sentence}
    ends = {end: i for i, sentence in enumerate(tokens) for _, end in sentence}
    mentions = []
    reached = 0
    for a in document.annotations:
        [(start, end), *more] = a.spans
        if more or start < reached or start not in starts or end not in ends or starts[start][0] != ends[end]:
            return None
        reached = end
        mentions.append((start, end, a))
    return tokens, mentions


def _tokenized(document: Document, losses: Losses) -> tuple[Tokens, list[tuple[int, int, Annotation]]]:
    """Words of the text; sentences end at line ends outside of mentions."""
    losses("texts or mentions that are not tokens between single blanks: tokenized", document)
    words = units.words(document.text)
    flat = flatten(words, [a.spans for a in document.annotations], "longest")
    for kind, n in (
        ("mentions in pieces: written as their longest piece", flat.counts["discontinuous"]),
        ("mentions widened to whole tokens", flat.counts["widened"]),
        (f"{_DROPPED}: they overlap a longer one", flat.counts["dropped_overlap"]),
        (f"{_DROPPED}: they hold no word", flat.counts["dropped_empty"]),
    ):
        if n:
            losses(kind, document, n=n)
    mentions = [(words[first][0], words[last - 1][1], document.annotations[i]) for (first, last), i in zip(flat.spans, flat.sources, strict=True)]
    inside = {i for first, last in flat.spans for i in range(first + 1, last)}
    tokens: Tokens = []
    for i, word in enumerate(words):
        if not tokens or (i not in inside and "\n" in document.text[words[i - 1][1] : word[0]]):
            tokens.append([])
        tokens[-1].append(word)
    return tokens, mentions


def _tagged(document: Document, tokens: Tokens, mentions: list[tuple[int, int, Annotation]], losses: Losses) -> Iterator[str]:
    begin = {start: (end, a) for start, end, a in mentions}
    for sentence in tokens:
        until, entity_type = 0, ""
        for start, end in sentence:
            token = document.text[start:end]
            if start in begin:
                until, a = begin[start]
                entity_type = _plain_type(a, document, losses)
                yield f"{token}\tB-{entity_type}\t{_column(a, document, losses)}\n"
            else:
                yield f"{token}\tI-{entity_type}\n" if start < until else f"{token}\tO\n"
        yield "\n"


# --------------------------------------------------------------------------------------------------------- bioc, records


def write_bioc(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """A collection whose documents have one passage each; ids stand in the infon `identifier`.

    It cannot hold control characters, which XML does not allow.
    """
    import bioc
    from bioc.biocxml.encoder import BioCXMLDocumentWriter

    with _bytes(out) as handle:
        # lxml knows the encoding by this name; "utf8", the library's default, would stand in the declaration.
        writer = BioCXMLDocumentWriter(handle, encoding="UTF-8")
        try:
            collection = bioc.BioCCollection()
            collection.source, collection.date, collection.key = "mentionforge", "", "docs/corpora.md"
            writer.write_collection_info(collection)
            for document in documents:
                writer.write_document(_bioc_document(document, losses))
        finally:
            writer.close()


def _bioc_document(published: Document, losses: Losses) -> Any:
    import bioc

    _check_id(published, "", "BioC XML")
    if _NOT_XML.search(published.doc_id):
        raise UserError("bad document id", published.where, f"{published.doc_id!r} cannot stand in XML", "rename the document")
    document = _replaced(published, _NOT_XML.pattern, "characters that XML does not allow", losses, "\ufffd")
    written = bioc.BioCDocument()
    written.id = document.doc_id
    passage = bioc.BioCPassage()
    passage.offset, passage.text = 0, document.text
    for i, a in enumerate(document.annotations):
        passage.add_annotation(_bioc_annotation(i, a, document, losses))
    written.add_passage(passage)
    return written


def _bioc_annotation(number: int, a: Annotation, document: Document, losses: Losses) -> Any:
    import bioc

    annotation = bioc.BioCAnnotation()
    annotation.id, annotation.text = str(number), a.surface(document.text)
    entity_type, identifier = a.entity_type, _column(a, document, losses)
    if _NOT_XML.search(entity_type + identifier):
        losses("types or ids with characters that XML does not allow: replaced", document)
        entity_type, identifier = (_NOT_XML.sub("\ufffd", value) for value in (entity_type, identifier))
    annotation.infons = {"type": entity_type, "identifier": identifier}
    for start, end in a.spans:
        annotation.add_location(bioc.BioCLocation(start, end - start))
    return annotation


def record(document: Document) -> dict[str, Any]:
    """The document as an object of the formats jsonl and parquet."""
    mentions = [
        {
            "spans": [{"start": start, "end": end} for start, end in a.spans],
            "surface": a.surface(document.text),
            "entity_type": a.entity_type,
            "concept_ids": [] if a.ids == ("",) and not a.composite else list(_repeated(a)),
            "composite": a.composite,
        }
        for a in document.annotations
    ]
    return {"doc_id": document.doc_id, "text": document.text, "mentions": mentions}


def write_jsonl(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """One JSON object per document; it holds everything."""
    with _lines(out) as handle:
        for document in documents:
            handle.write(json.dumps(record(document), ensure_ascii=False) + "\n")


def write_parquet(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """One row per document, with checksums of its pages; it holds everything."""
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
    with _whole(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
        rows: list[dict[str, Any]] = []
        for document in documents:
            rows.append(record(document))
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


WRITERS: Mapping[str, Callable[[Iterable[Document], Path, Losses], None]] = {
    "pubtator": write_pubtator,
    "brat": write_brat,
    "conll": write_conll,
    "bioc": write_bioc,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}

ENDINGS = {"pubtator": ".txt", "brat": "", "conll": ".tsv", "bioc": ".xml", "jsonl": ".jsonl", "parquet": ".parquet"}
"""What a file of each format is called by `export`; brat's is a folder."""
