"""Read predictions of other systems, from tables or annotated documents.

In: files of an external entry, and the texts of a corpus. Out: one `Prediction` per table row or per mention of a document, with offsets checked.
Tables are read by `table_rows`, documents by the readers of `corpora`. Knows nothing of knowledge bases and scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import table_rows as rows
from mentionforge import tables
from mentionforge.corpora.concept_ids import FORMS, parse_ids
from mentionforge.corpora.documents import Document, ReaderOptions, Tally, is_kept
from mentionforge.corpora.formats.registry import READERS
from mentionforge.corpora.settings import Corpus
from mentionforge.corpora.spans import LINE_ENDS, check_pieces, parse_offset, same_but_for_blanks
from mentionforge.corpora.texts import normalized
from mentionforge.errors import UserError
from mentionforge.external.settings import TABLE, External, files_below
from mentionforge.table_rows import as_id
from mentionforge.text import Span

COLUMNS = ("mention_id", "doc_id", "start", "end", "spans", "surface", "type", "concept", "rank", "score")
TAB = "\t"
_MAX_ROW = 20_000_000
"""Longest row of a table, in characters."""
_FIX = "see the formats in docs/external.md"
_PUT = "put the predictions there"


@dataclass(frozen=True)
class Prediction:
    """One prediction, as published.

    Attributes:
        where: FILE:ROW; for annotated documents, the place of the document.
        mention_id: Id of the mention; empty if the file has no such column.
        doc_id: Id of the document; empty if the file only has mention ids.
        pieces: Spans in characters, ascending, end exclusive; empty if the file only has mention ids.
        ranking: Candidates, best first, each with its ids as VOCABULARY:CODE ("": no concept); none: the file has no concepts.
        scores: Score of each candidate, or of the mention if the file has no concepts; none: the file has no scores.
        rank: Rank of the only candidate, if the file has ranks.
    """

    where: str
    mention_id: str = ""
    doc_id: str = ""
    pieces: tuple[Span, ...] = ()
    ranking: tuple[tuple[str, ...], ...] | None = None
    scores: tuple[float, ...] | None = None
    rank: int | None = None


@dataclass
class PredictionFiles:
    """The prediction files of an external entry for one corpus.

    Attributes:
        settings: The entry.
        path: File or folder.
        corpus: Settings of the corpus.
        texts: Text and split by document id.
        id_prefix: As in settings.ExternalLinker.
        surfaces: Surfaces of discontinuous mentions, by document and span from first to last character; a table may give them for that span.
        tally: Counts of what a reader of documents skips, handles and repairs.
        documents: Ids of the documents read, if the files hold annotated documents.
        unknown: (place, document id) of predictions for documents that the corpus does not have.
    """

    settings: External
    path: Path
    corpus: Corpus
    texts: Mapping[str, tuple[str, str]]
    id_prefix: str = "auto"
    surfaces: Mapping[tuple[str, Span], set[str]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    documents: set[str] = field(default_factory=set)
    unknown: list[tuple[str, str]] = field(default_factory=list)

    def predictions(self, required: Sequence[str] = ()) -> Iterator[Prediction]:
        """Yield the predictions in the order of the files; those for unknown documents go to `unknown` instead.

        Args:
            required: Columns that a table must have.

        Raises:
            UserError: With FILE:ROW: a broken row, a missing column, a bad value, a span outside of the text, a surface that is not the text there,
                a document whose text is not that of the corpus.
        """
        return self._from_tables(required) if self.settings.reader == TABLE else self._from_documents()

    def ids(self, published: str) -> tuple[str, ...]:
        """The ids of a concept column as VOCABULARY:CODE; "" for no concept."""
        if self.id_prefix != "auto":
            return parse_ids(published, self.id_prefix)
        return tuple(self._by_form(i) for i in parse_ids(published, self.corpus.id_prefix))

    def _by_form(self, concept_id: str) -> str:
        """For the id prefix `auto`: a code that matches the pattern of CUIs, but not that of the corpus' vocabulary, is a CUI."""
        vocabulary, _, code = concept_id.partition(":")
        pattern = FORMS.get(vocabulary)
        is_cui = vocabulary == self.corpus.id_prefix and FORMS["CUI"].fullmatch(code.upper()) and not (pattern and pattern.fullmatch(code.upper()))
        return f"CUI:{code}" if is_cui else concept_id

    # ------------------------------------------------------------------------------------------------------ documents

    def _from_documents(self) -> Iterator[Prediction]:
        options = ReaderOptions(self.corpus.text, self.corpus.note_ids)
        prefix = self.corpus.id_prefix if self.id_prefix == "auto" else self.id_prefix
        for document in _with_path_advice(READERS[self.settings.reader](self.path, prefix, self.settings.entity_types, self.tally, options)):
            document = normalized(document, self.corpus.text, self.tally)
            if document.doc_id not in self.texts:
                self.unknown.append((document.where, document.doc_id))
                continue
            if document.doc_id in self.documents:
                raise UserError("document given twice", document.where, document.doc_id, "give each document once")
            self.documents.add(document.doc_id)
            if document.text != self.texts[document.doc_id][0]:
                at = next((i for i, (a, b) in enumerate(zip(document.text, self.texts[document.doc_id][0], strict=False)) if a != b), -1)
                why = f"{document.doc_id} differs from the corpus" + (f" from character {at}" if at >= 0 else " in its length")
                raise UserError("another text", document.where, why, "predict on the text of the corpus, or give a table of offsets")
            for a in document.annotations:
                ids = tuple(self._by_form(i) for i in a.ids) if self.id_prefix == "auto" else a.ids
                ranking = tuple((i,) for i in ids if i) or (("",),)
                yield Prediction(f"{document.where} ({document.doc_id} {a.spans[0][0]}-{a.spans[-1][1]})", "", document.doc_id, a.spans, ranking)

    # --------------------------------------------------------------------------------------------------------- tables

    def _from_tables(self, required: Sequence[str]) -> Iterator[Prediction]:
        files = files_below(self.path)
        if not files:
            raise UserError("empty folder", str(self.path), "no file in it", _PUT)
        for file in files:
            column_names = {column: self.settings.columns.get(column, column) for column in COLUMNS}  # type: ignore[call-overload]
            number = 0
            try:
                for row in _rows(file, list(column_names.values())):
                    number = row.number
                    where = f"{file}:{number}"
                    if row.error:
                        raise UserError(row.error, where, row.why.replace(" (--encoding)", "").replace(" (--max-mb)", ""), _FIX)
                    if isinstance(row.record, rows.RepeatedKeys) or not isinstance(row.record, dict):
                        raise UserError(rows.BROKEN, where, "a key stands in it twice" if isinstance(row.record, dict) else "no JSON object", _FIX)
                    if number == 1:
                        self._check_columns(file, column_names, row.record, required)
                    prediction = self._prediction(where, {column: row.record.get(key) for column, key in column_names.items()}, required)
                    if prediction:
                        yield prediction
            except (OSError, ValueError) as error:
                raise UserError("unreadable table", file, getattr(error, "strerror", None) or str(error), _FIX) from error
            if not number:
                raise UserError("empty table", file, "no rows in it", "give an answer for each test mention" if "concept" in required else _PUT)

    def _check_columns(self, file: str, column_names: Mapping[str, str], record: Mapping[str, Any], required: Sequence[str]) -> None:
        if bad := rows.bad_byte("".join(record)):
            raise UserError(rows.ENCODING, file, f"not UTF-8: byte {bad} in its header", "convert the file to UTF-8")
        available = {column for column, key in column_names.items() if key in record}
        if absent := sorted(set(self.settings.columns) - available):
            raise UserError("missing column", file, f"columns says that {absent[0]} is {column_names[absent[0]]!r}; {_header(record)}", "correct columns")
        missing = [column for column in required if column not in available and column != "doc_id"]
        has_position = {"doc_id"} <= available and ({"start", "end"} <= available or "spans" in available)
        if not has_position and ("mention_id" not in available or "doc_id" in required):
            missing += ["doc_id, start and end" if "doc_id" in required else "mention_id, or doc_id, start and end"]
        if missing:
            header, fix = "".join(record), "name the file's own columns: columns: {concept: NAME}"
            if len(record) == 1 and (mark := next((mark for mark in ";\t|," if mark in header), "")):
                fix = f"its columns are separated by {'a tab' if mark == TAB else f'`{mark}`'}: a .csv file has commas, a .tsv file tabs"
            raise UserError("missing column", file, f"{missing[0]}; {_header(record)}", fix)

    def _prediction(self, where: str, record: Mapping[str, Any], required: Sequence[str]) -> Prediction | None:
        entity_type = _words(record["type"], where)
        if not is_kept(entity_type, self.settings.entity_types):
            self.tally.skip(f"entity type {entity_type}", where)
            return None
        mention_id, doc_id = _words(record["mention_id"], where), _words(record["doc_id"], where)
        published = self._pieces(record, where)
        if not mention_id and not (doc_id and published):
            raise UserError("answer for nothing", where, "neither a mention_id, nor doc_id, start and end", _FIX)
        pieces: tuple[Span, ...] = ()
        if doc_id and published:
            if doc_id not in self.texts:
                self.unknown.append((where, doc_id))
                return None
            text = self.texts[doc_id][0]
            pieces = check_pieces(doc_id, published, text, where, self.tally)
            if record["surface"] not in (None, ""):
                surfaces = self.surfaces.get((doc_id, (pieces[0][0], pieces[-1][1])), set())
                _check_surface(text, pieces, str(record["surface"]), surfaces, where)
        ranking, scores = self._ranking(record, where) if "concept" in required else (None, _scores(record["score"], where))
        rank = None if record["rank"] in (None, "") else _rank(record["rank"], where)
        if rank is not None and isinstance(record["concept"], list):
            raise UserError("rank of a list", where, "a concept that is a list is the whole ranking", "leave rank out")
        return Prediction(where, mention_id, doc_id, pieces, ranking, scores, rank)

    def _pieces(self, record: Mapping[str, Any], where: str) -> list[Span]:
        if (spans := record["spans"]) is not None:
            pairs = [[s.get("start"), s.get("end")] if isinstance(s, Mapping) else s for s in spans] if isinstance(spans, list) else [spans]
            if not all(isinstance(s, list | tuple) and len(s) == 2 for s in pairs):
                raise UserError("bad offset", where, "spans lists pairs of start and end", _FIX)
        elif record["start"] in (None, "") and record["end"] in (None, ""):
            return []
        else:
            pairs = [[record["start"], record["end"]]]
        shift = self.settings.end == "inclusive"
        return [(parse_offset(_words(start, where), where), parse_offset(_words(end, where), where) + shift) for start, end in pairs]

    def _ranking(self, record: Mapping[str, Any], where: str) -> tuple[tuple[tuple[str, ...], ...], tuple[float, ...] | None]:
        concepts = record["concept"] if isinstance(record["concept"], list) else [record["concept"]]
        ranking = tuple(tuple(dict.fromkeys(self.ids(_words(concept, where)))) for concept in concepts) or (("",),)
        ranking = tuple(tuple(i for i in ids if i) or ("",) for ids in ranking)
        scores = _scores(record["score"], where)
        if scores is not None and len(scores) != len(ranking):
            raise UserError("scores do not fit", where, f"{len(scores)} scores of {len(ranking)} concepts", "give one for each, or none")
        return ranking, scores


def _with_path_advice(documents: Iterator[Document]) -> Iterator[Document]:
    """The documents of a reader, with errors that advise to correct the path of the predictions, not the splits of a corpus."""
    try:
        yield from documents
    except UserError as error:
        if "under splits" not in error.fix:
            raise
        raise UserError(error.what, error.where, error.why, "correct the path, or the reader") from error


def _rows(file: str, columns: list[str]) -> Iterator[rows.Row]:
    suffix = Path(file).suffix.lower()
    if suffix == ".parquet":
        return rows.parquet(file, columns, "utf-8")
    if suffix == ".jsonl":
        return rows.json_lines(file, "utf-8", _MAX_ROW)
    if suffix not in (".csv", ".tsv"):
        fix = "a folder of tables holds .csv, .tsv, .jsonl or .parquet files; move it elsewhere, or name the reader of their format: reader: brat, pubtator, …"
        raise UserError("unknown file", file, "no table", fix)
    return rows.delimited(file, "utf-8", _MAX_ROW, TAB if suffix == ".tsv" else ",")


def _words(value: Any, where: str) -> str:
    """A value as the text of a table cell."""
    if isinstance(value, list | dict):
        raise UserError("bad value", where, f"a {'list' if isinstance(value, list) else 'mapping'} where one value stands", _FIX)
    text = as_id(value)
    if rows.bad_byte(text):
        raise UserError(rows.ENCODING, where, f"not UTF-8: byte {rows.bad_byte(text)} in it", "convert the file to UTF-8")
    return text


def _quoted_number(value: Any) -> str:
    """A value for a message, if it looks like a number. Otherwise, as in shifted columns, it may be text of a patient, which must not be logged."""
    text = str(value).strip()
    return repr(text) if len(text) <= 40 and re.fullmatch(r"(?i)[-+0-9.,e]*|nan|[-+]?inf(inity)?", text) else "what stands there"


def _header(record: Mapping[str, Any]) -> str:
    """The columns of a table for a message. If the file has no header, its first row may hold text, which is not shown."""
    if any(re.fullmatch(r"[-+]?[0-9][0-9.,]*", name) for name in record):
        return "its first row holds a number, so it seems to be no header"
    return f"there are {', '.join(record)}"


def _rank(value: Any, where: str) -> int:
    text = _words(value, where)
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or int(text) < 1:
        raise UserError("bad rank", where, f"{_quoted_number(text)} is no number from 1", "the best concept has rank 1")
    return int(text)


def _scores(value: Any, where: str) -> tuple[float, ...] | None:
    """Parse one score or a list of scores; None for an empty value."""
    scores = []
    if value is None or value == "" or value == []:
        return None
    for item in value if isinstance(value, list) else [value]:
        try:
            scores.append(float(_words(item, where)))
        except ValueError:
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise UserError("bad score", where, f"{_quoted_number(item)} is no finite number", "give a number, or leave the column out")
    return tuple(scores)


def _check_surface(text: str, pieces: Sequence[Span], surface: str, surfaces: set[str], where: str) -> None:
    at_pieces = " ".join(text[start:end] for start, end in pieces)
    if not any(surface.translate(LINE_ENDS) == expected.translate(LINE_ENDS) or same_but_for_blanks(surface, expected) for expected in (at_pieces, *surfaces)):
        at = ",".join(f"{start}-{end}" for start, end in pieces)
        raise UserError("wrong offset", where, f"the text at {at} is not the surface", "correct the offsets, or say `end: inclusive` if they are that")


def texts_of(documents: Path) -> dict[str, tuple[str, str]]:
    """Text and split of each document of a corpus (`tables.DOCUMENTS`), by document id."""
    table = tables.read(tables.DOCUMENTS, documents)
    return {doc: (text, split) for doc, text, split in zip(*(table[c].to_pylist() for c in ("doc_id", "text", "split")), strict=True)}


def report_unknown(files: PredictionFiles, kind: str, unknown: Sequence[tuple[str, str]], path: Path) -> dict[str, Any]:
    """Number of predictions for unknown documents or mentions, and the first five of them.

    Raises:
        UserError: There are any, and the policy is `error`.
    """
    if unknown and files.settings.unknown == "error":
        where, first = unknown[0]
        more = f", and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise UserError(f"prediction for an unknown {kind}", where, f"{first}{more}", "correct it, or set unknown: skip to leave such predictions out")
    return {"n": len(unknown), "first": [{"where": where.removeprefix(f"{path.parent}/"), "what": description} for where, description in unknown[:5]]}
