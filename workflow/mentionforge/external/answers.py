"""What a file of predictions holds, whatever its format: one answer per row of a table, or per mention of an annotated document.

Tables go through the strict readers of `table_rows`, annotated documents through those of the corpora, texts compared. An answer says where
it stands (FILE:ROW; of documents, the place of the document, since their readers name rows in their own errors only).
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
from mentionforge.corpora.documents import Document, Options, Tally, is_kept
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
_MOST = 20_000_000
"""Characters of a row of a table."""
_FIX = "see the formats in docs/external.md"
_PUT = "put the predictions there"


@dataclass(frozen=True)
class Answer:
    """One prediction as the file gives it.

    Attributes:
        where: FILE:ROW.
        mention_id: The mention it is for, where the file names it; else empty.
        doc_id: The document; empty where a table names the mention alone.
        pieces: Characters in rising order, end exclusive; none where a table names the mention alone.
        ranking: Candidates, the best first, each with its ids (with vocabulary; empty: no concept); none where there is no concept column.
        scores: Of each candidate, or of the mention itself where there is no concept column; none: not given.
        rank: Of the only candidate, where the file gives it.
    """

    where: str
    mention_id: str = ""
    doc_id: str = ""
    pieces: tuple[Span, ...] = ()
    ranking: tuple[tuple[str, ...], ...] | None = None
    scores: tuple[float, ...] | None = None
    rank: int | None = None


@dataclass
class Source:
    """The files of an external entry for one corpus, and what reading them counts.

    Attributes:
        settings: The entry.
        path: File or folder.
        corpus: Settings of the corpus.
        texts: Text and split of each document.
        id_prefix: As in settings.ExternalLinker.
        surfaces: Surfaces of mentions in pieces, by document and the stretch around them: what a table may give for such a stretch.
        tally: What a reader of documents skips, handles and repairs.
        documents: Documents that the files hold, where they hold documents.
        unknown: Places of answers for documents that the corpus does not have.
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

    def answers(self, needed: Sequence[str] = ()) -> Iterator[Answer]:
        """Every answer, in the order of the files; those for unknown documents are in `unknown` instead.

        Args:
            needed: Columns that a table must have.

        Raises:
            UserError: With FILE:ROW: a broken row, a missing column, a bad value, a span outside of the text, a surface that is not the text there,
                a document whose text is not that of the corpus.
        """
        return self._of_tables(needed) if self.settings.reader == TABLE else self._of_documents()

    def ids(self, published: str) -> tuple[str, ...]:
        """The ids of a concept column with their vocabulary; one without concept is an empty string."""
        if self.id_prefix != "auto":
            return parse_ids(published, self.id_prefix)
        return tuple(self._by_form(i) for i in parse_ids(published, self.corpus.id_prefix))

    def _by_form(self, concept_id: str) -> str:
        """With `auto`, a code of the form of CUIs is one, unless it has that of the corpus' vocabulary too."""
        vocabulary, _, code = concept_id.partition(":")
        own = FORMS.get(vocabulary)
        is_cui = vocabulary == self.corpus.id_prefix and FORMS["CUI"].fullmatch(code.upper()) and not (own and own.fullmatch(code.upper()))
        return f"CUI:{code}" if is_cui else concept_id

    # ------------------------------------------------------------------------------------------------------ documents

    def _of_documents(self) -> Iterator[Answer]:
        options = Options(self.corpus.text, self.corpus.note_ids)
        prefix = self.corpus.id_prefix if self.id_prefix == "auto" else self.id_prefix
        for document in _with_own_advice(READERS[self.settings.reader](self.path, prefix, self.settings.entity_types, self.tally, options)):
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
                yield Answer(f"{document.where} ({document.doc_id} {a.spans[0][0]}-{a.spans[-1][1]})", "", document.doc_id, a.spans, ranking)

    # --------------------------------------------------------------------------------------------------------- tables

    def _of_tables(self, needed: Sequence[str]) -> Iterator[Answer]:
        files = files_below(self.path)
        if not files:
            raise UserError("empty folder", str(self.path), "no file in it", _PUT)
        for file in files:
            name = {column: self.settings.columns.get(column, column) for column in COLUMNS}  # type: ignore[call-overload]
            number = 0
            try:
                for row in _rows(file, list(name.values())):
                    number = row.number
                    where = f"{file}:{number}"
                    if row.error:
                        raise UserError(row.error, where, row.why.replace(" (--encoding)", "").replace(" (--max-mb)", ""), _FIX)
                    if isinstance(row.record, rows.Twice) or not isinstance(row.record, dict):
                        raise UserError(rows.BROKEN, where, "a key stands in it twice" if isinstance(row.record, dict) else "no JSON object", _FIX)
                    if number == 1:
                        self._check_columns(file, name, row.record, needed)
                    answer = self._answer(where, {column: row.record.get(key) for column, key in name.items()}, needed)
                    if answer:
                        yield answer
            except (OSError, ValueError) as error:
                raise UserError("unreadable table", file, getattr(error, "strerror", None) or str(error), _FIX) from error
            if not number:
                raise UserError("empty table", file, "no rows in it", "give an answer for each test mention" if "concept" in needed else _PUT)

    def _check_columns(self, file: str, name: Mapping[str, str], record: Mapping[str, Any], needed: Sequence[str]) -> None:
        if bad := rows.bad_byte("".join(record)):
            raise UserError(rows.ENCODING, file, f"not UTF-8: byte {bad} in its header", "convert the file to UTF-8")
        given = {column for column, key in name.items() if key in record}
        if odd := sorted(set(self.settings.columns) - given):
            raise UserError("missing column", file, f"columns says that {odd[0]} is {name[odd[0]]!r}; {_header(record)}", "correct columns")
        missing = [column for column in needed if column not in given and column != "doc_id"]
        placed = {"doc_id"} <= given and ({"start", "end"} <= given or "spans" in given)
        if not placed and ("mention_id" not in given or "doc_id" in needed):
            missing += ["doc_id, start and end" if "doc_id" in needed else "mention_id, or doc_id, start and end"]
        if missing:
            there, fix = "".join(record), "name the file's own columns: columns: {concept: NAME}"
            if len(record) == 1 and (mark := next((mark for mark in ";\t|," if mark in there), "")):
                fix = f"its columns are separated by {'a tab' if mark == TAB else f'`{mark}`'}: a .csv file has commas, a .tsv file tabs"
            raise UserError("missing column", file, f"{missing[0]}; {_header(record)}", fix)

    def _answer(self, where: str, record: Mapping[str, Any], needed: Sequence[str]) -> Answer | None:
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
                known = self.surfaces.get((doc_id, (pieces[0][0], pieces[-1][1])), set())
                _check_surface(text, pieces, str(record["surface"]), known, where)
        ranking, scores = self._ranking(record, where) if "concept" in needed else (None, _scores(record["score"], where))
        rank = None if record["rank"] in (None, "") else _rank(record["rank"], where)
        if rank is not None and isinstance(record["concept"], list):
            raise UserError("rank of a list", where, "a concept that is a list is the whole ranking", "leave rank out")
        return Answer(where, mention_id, doc_id, pieces, ranking, scores, rank)

    def _pieces(self, record: Mapping[str, Any], where: str) -> list[Span]:
        if (spans := record["spans"]) is not None:
            given = [[s.get("start"), s.get("end")] if isinstance(s, Mapping) else s for s in spans] if isinstance(spans, list) else [spans]
            if not all(isinstance(s, list | tuple) and len(s) == 2 for s in given):
                raise UserError("bad offset", where, "spans lists pairs of start and end", _FIX)
        elif record["start"] in (None, "") and record["end"] in (None, ""):
            return []
        else:
            given = [[record["start"], record["end"]]]
        more = self.settings.end == "inclusive"
        return [(parse_offset(_words(start, where), where), parse_offset(_words(end, where), where) + more) for start, end in given]

    def _ranking(self, record: Mapping[str, Any], where: str) -> tuple[tuple[tuple[str, ...], ...], tuple[float, ...] | None]:
        listed = record["concept"] if isinstance(record["concept"], list) else [record["concept"]]
        ranking = tuple(tuple(dict.fromkeys(self.ids(_words(concept, where)))) for concept in listed) or (("",),)
        ranking = tuple(tuple(i for i in ids if i) or ("",) for ids in ranking)
        scores = _scores(record["score"], where)
        if scores is not None and len(scores) != len(ranking):
            raise UserError("scores do not fit", where, f"{len(scores)} scores of {len(ranking)} concepts", "give one for each, or none")
        return ranking, scores


def _with_own_advice(documents: Iterator[Document]) -> Iterator[Document]:
    """Documents of a reader; where it would send people to the splits of a corpus, it is the path of the predictions that is wrong."""
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
        return rows.json_lines(file, "utf-8", _MOST)
    if suffix not in (".csv", ".tsv"):
        fix = "a folder of tables holds .csv, .tsv, .jsonl or .parquet files; move it elsewhere, or name the reader of their format: reader: brat, pubtator, …"
        raise UserError("unknown file", file, "no table", fix)
    return rows.delimited(file, "utf-8", _MOST, TAB if suffix == ".tsv" else ",")


def _words(value: Any, where: str) -> str:
    """A value as it would be written in a table."""
    if isinstance(value, list | dict):
        raise UserError("bad value", where, f"a {'list' if isinstance(value, list) else 'mapping'} where one value stands", _FIX)
    text = as_id(value)
    if rows.bad_byte(text):
        raise UserError(rows.ENCODING, where, f"not UTF-8: byte {rows.bad_byte(text)} in it", "convert the file to UTF-8")
    return text


def _told(value: Any) -> str:
    """A value for a message if it is a number of some kind; where columns are shifted it may be text of a patient, which is not for logs."""
    text = str(value).strip()
    return repr(text) if len(text) <= 40 and re.fullmatch(r"(?i)[-+0-9.,e]*|nan|[-+]?inf(inity)?", text) else "what stands there"


def _header(record: Mapping[str, Any]) -> str:
    """The columns of a table for a message; of a file without a header the first row is none, and may hold texts."""
    if any(re.fullmatch(r"[-+]?[0-9][0-9.,]*", name) for name in record):
        return "its first row holds a number, so it seems to be no header"
    return f"there are {', '.join(record)}"


def _rank(value: Any, where: str) -> int:
    text = _words(value, where)
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or int(text) < 1:
        raise UserError("bad rank", where, f"{_told(text)} is no number from 1", "the best concept has rank 1")
    return int(text)


def _scores(value: Any, where: str) -> tuple[float, ...] | None:
    """One score or a list of them; none where there is none."""
    found = []
    if value is None or value == "" or value == []:
        return None
    for one in value if isinstance(value, list) else [value]:
        try:
            found.append(float(_words(one, where)))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise UserError("bad score", where, f"{_told(one)} is no finite number", "give a number, or leave the column out")
    return tuple(found)


def _check_surface(text: str, pieces: Sequence[Span], surface: str, known: set[str], where: str) -> None:
    found = " ".join(text[start:end] for start, end in pieces)
    if not any(surface.translate(LINE_ENDS) == one.translate(LINE_ENDS) or same_but_for_blanks(surface, one) for one in (found, *known)):
        at = ",".join(f"{start}-{end}" for start, end in pieces)
        raise UserError("wrong offset", where, f"the text at {at} is not the surface", "correct the offsets, or say `end: inclusive` if they are that")


def texts_of(documents: Path) -> dict[str, tuple[str, str]]:
    """Text and split of each document of a corpus (tables.DOCUMENTS)."""
    found = tables.read(tables.DOCUMENTS, documents)
    return {doc: (text, split) for doc, text, split in zip(*(found[c].to_pylist() for c in ("doc_id", "text", "split")), strict=True)}


def report_unknown(source: Source, what: str, unknown: Sequence[tuple[str, str]], path: Path) -> dict[str, Any]:
    """Counts of predictions that the corpus has no place for, with the first five.

    Raises:
        UserError: There are some, and the policy is `error`.
    """
    if unknown and source.settings.unknown == "error":
        where, first = unknown[0]
        more = f", and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise UserError(f"prediction for an unknown {what}", where, f"{first}{more}", "correct it, or set unknown: skip to leave such predictions out")
    return {"n": len(unknown), "first": [{"where": where.removeprefix(f"{path.parent}/"), "what": found} for where, found in unknown[:5]]}
