"""Build a corpus: read annotated files, map ids to CUIs, assign buckets, and write documents, mentions and counts.

In: the spec of a corpus, and a knowledge base. Out: documents.parquet, mentions.parquet, CSV lists and stats.json. Two passes, neither keeps texts:
the first checks, counts and finds duplicates; the second maps ids and writes. Knows nothing of file formats (`readers`).
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mentionforge import abbreviations, provenance, tables, text
from mentionforge.corpora import duplicates, readers
from mentionforge.corpora.buckets import Buckets
from mentionforge.corpora.checked import SanityChecks
from mentionforge.corpora.concept_ids import looks_like_id
from mentionforge.corpora.concepts import ConceptMap, MappedId, read_id_map
from mentionforge.corpora.documents import Document, Tally
from mentionforge.corpora.formats.bioc import COUNTS_FROM_PASSAGE
from mentionforge.corpora.formats.brat import OTHER_NOTES, READ_NOTES
from mentionforge.corpora.formats.folders import COUNTS_CARRIAGE_RETURNS, COUNTS_LINE_FEEDS
from mentionforge.corpora.settings import Corpus
from mentionforge.corpora.stats import UNMAPPED_COLUMNS, MentionRow, Stats
from mentionforge.errors import UserError
from mentionforge.progress import say, track
from mentionforge.specs import read_spec
from mentionforge.text import Span

VERSION = 3
"""Version of the part corpora.read; raise it if earlier results would be wrong (mentionforge.versions)."""

_BATCH = 100
"""Documents per call of the sentence splitter."""

_RANGE = 10_000
"""Documents sorted in memory at a time."""

_POLICIES = (
    "reader",
    "entity_types",
    "id_prefix",
    "text",
    "note_ids",
    "composite",
    "discontinuous",
    "ambiguity",
    "duplicates",
    "near_duplicates",
    "abbreviations",
)


@dataclass
class ScanResult:
    """Result of the first pass.

    Attributes:
        read: Counts by split.
        repairs: Repaired annotations.
        documents: Ids of the documents kept, by split, ascending.
        dropped: Split and number of the documents that a policy drops.
        duplicates: Rows of duplicates.csv.
        skipped: Rows of skipped.csv.
    """

    read: dict[str, dict[str, Any]] = field(default_factory=dict)
    repairs: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, list[str]] = field(default_factory=dict)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)


SKIPPED_COLUMNS = ("split", "kind", "records", "file", "rows")
"""Columns of skipped.csv: records that a reader skipped, by kind and file, with their row numbers, as `3 7-9`; no rows: somewhere in the file."""


def read_corpus(spec: Path, kb: Path, out: Path) -> dict[str, Any]:
    """Read a corpus, map its ids to CUIs, assign buckets, and write its tables and counts.

    Files written: documents.parquet, mentions.parquet, split.csv, unmapped.csv, duplicates.csv, skipped.csv and stats.json.

    Per split, rows of `mentions` = mentions read - mentions of dropped duplicate documents - duplicate mentions + rows that the composite
    policy `split` adds. Nothing else removes a mention: one without a CUI stays, in the bucket `unmapped`.

    Args:
        spec: Settings of the corpus, as the workflow writes them.
        kb: Folder with names.parquet, xrefs.parquet and retired.parquet.
        out: Folder to write.

    Returns:
        The content of stats.json.

    Raises:
        UserError: Any error of the readers; duplicate documents that the policies do not allow; a split without documents or mentions; an
            entity type that never occurs; no training mention with a CUI.
    """
    started = time.monotonic()
    settings: Corpus = read_spec(spec, Corpus)
    name = json.loads(spec.read_text(encoding="utf-8")).get("name", out.name)
    scanned = scan(settings, name)
    n = sum(map(len, scanned.documents.values()))
    say(f"{name}: {n:,} documents read and compared in {time.monotonic() - started:.1f} s")
    replaced = read_id_map(Path(settings.id_map), settings.id_prefix) if settings.id_map else {}
    concepts = ConceptMap.load(kb, settings.ambiguity)
    ids = MappedIds(concepts, replaced)
    stats, buckets = Stats(ids), Buckets()
    inputs = {"spec": spec, "kb.names": kb / "names.parquet", "kb.xrefs": kb / "xrefs.parquet", "kb.retired": kb / "retired.parquet"}
    inputs |= {role: Path(path) for role, path in settings.paths().items()}
    stamp = provenance.stamp("corpora read", inputs, **provenance.versions("biosenter", "spacy", "datasketch"))
    range_starts = sorted(i for doc_ids in scanned.documents.values() for i in doc_ids)[_RANGE::_RANGE]
    document_table, mention_table = (tables.Writer(t, out / f"{t.name}.parquet", range_starts) for t in (tables.DOCUMENTS, tables.MENTIONS))
    removed: list[dict[str, Any]] = []
    added: Counter[str] = Counter()
    try:
        sentence_seconds = [0.0]
        for split, document, sentences in _with_sentences(name, _kept_documents(settings, scanned), n, sentence_seconds):
            gold = gold_mentions(document, split, settings.composite, removed)
            added[split] += sum(extra for _, extra in gold)
            long_forms = abbreviations.long_forms(document.text) if settings.abbreviations != "none" else {}
            document_table.add({"doc_id": document.doc_id, "split": split, "text": document.text, "sentences": _spans(sentences)})
            stats.add_document(split, sentences)
            for plain, _ in gold:
                g = replace(plain, expanded=abbreviations.expand(plain.surface, long_forms))
                mapped = [ids[i] for i in g.annotation.ids]
                cuis = sorted({cui for m in mapped for cui in m.cuis})
                bucket = buckets.add(text.normalize_surface(g.surface), cuis, split == "train")
                stats.add(g, cuis, bucket, sentences)
                mention_table.add(_row(g, cuis, ids, bucket))
            if split != "train" and not buckets.any_train:
                raise _no_concept(settings, name)
        if not buckets.any_train:
            raise _no_concept(settings, name)
        document_table.finish(stamp)
        mention_table.finish(stamp)
    finally:
        document_table.discard()
        mention_table.discard()
    id_checks = SanityChecks()
    for concept_id, times in stats.mentions_by_id():
        if concept_id and not ids[concept_id].cuis and not looks_like_id(concept_id) and not concepts.names(concept_id):
            id_checks.add_id(concept_id, times)
    for line in id_checks.warnings():
        say(f"{name}: {line}")
    counts = {
        "corpus": name,
        "kb": settings.kb,
        "policies": {key: value for key, value in settings.model_dump(mode="json").items() if key in _POLICIES},
        "provenance": stamp,
        "read": scanned.read,
        "repairs": scanned.repairs,
        "ids_of_no_known_form": {form: {"mentions": n, "example": example} for form, (n, example) in sorted(id_checks.forms.items())},
        "dropped": {"duplicate_documents": sorted(row["doc_id"] for row in scanned.duplicates if row["action"] == "dropped"), "duplicate_mentions": removed},
        "duplicates": duplicates.counts_by_kind(scanned.duplicates),
        "rows_added_by_composite_split": {split: added[split] for split in scanned.documents},
        "splits": stats.per_split(),
        "replaced_ids": {i: list(replaced[i]) for i in sorted(ids) if i in replaced},
        **stats.mapping_stats(),
    }
    duplicates.write_csv(out / "split.csv", ("doc_id", "split"), sorted(_split_rows(scanned), key=lambda row: (row["doc_id"], row["split"])))
    duplicates.write_csv(out / "duplicates.csv", duplicates.COLUMNS, scanned.duplicates)
    duplicates.write_csv(out / "unmapped.csv", UNMAPPED_COLUMNS, stats.unmapped_rows(bool(settings.licensed)))
    duplicates.write_csv(out / "skipped.csv", SKIPPED_COLUMNS, scanned.skipped)
    _write_json(out / "stats.json", counts)
    mentions, took = sum(s["mentions"] for s in counts["splits"].values()), time.monotonic() - started
    say(f"{name}: {n:,} documents, {mentions:,} mentions, written in {took:.1f} s, of which splitting into sentences took {sentence_seconds[0]:.1f} s")
    return counts


def scan(settings: Corpus, name: str) -> ScanResult:
    """First pass: read all splits, count, and compare each document with those before it.

    Raises:
        UserError: See `read_corpus`.
    """
    result = ScanResult()
    finder = duplicates.DuplicateFinder(settings)
    types: set[str] = set()
    mentions: dict[tuple[str, int], int] = {}
    ids: dict[str, list[str]] = {}
    for split in settings.split_names:
        tally, counts, checked = Tally(), Counter[str](), SanityChecks()
        ids[split] = []
        for number, document in enumerate(readers.stream(settings, split, tally)):
            finder.add(document, split, number)
            ids[split].append(document.doc_id)
            counts.update(documents=1, mentions=len(document.annotations))
            checked.add(document)
            for a in document.annotations:
                counts["mentions_without_id"] += not any(a.ids)
                counts["composite"] += a.composite
                types.update((a.entity_type, *a.entity_type.split(",")))
            mentions[split, number] = len(document.annotations)
        where = f"config: corpora.{name}.splits.{split}"
        if not counts["documents"]:
            raise UserError("empty split", where, "its files hold no document", "correct the path")
        if not counts["mentions"]:
            why = f"entity types asked for: {', '.join(settings.entity_types) or 'all'}"
            raise UserError("split without mentions", where, why, "correct entity_types or the path")
        result.read[split] = {key: counts[key] for key in ("documents", "mentions", "mentions_without_id", "composite")}
        result.read[split] |= {"skipped": dict(+tally.skipped), "handled": dict(+tally.handled), "surfaces_inside_words": checked.inside_words}
        result.skipped += skipped_rows(split, tally)
        if skipped := ", ".join(f"{kind}: {n:,}" for kind, n in sorted((+tally.skipped).items())):
            say(f"{name}: left out of {split}: {skipped}; see skipped.csv")
        for line in (*checked.warnings(f" of {split}"), *(f"{kind}: {n:,} ({split})" for kind, n in sorted((+tally.handled).items()) if kind in LOGGED_KINDS)):
            say(f"{name}: {line}")
        result.repairs += [{"split": split, **asdict(repair)} for repair in tally.repairs]
    if unknown := sorted(set(settings.entity_types) - types):
        raise UserError("unknown entity type", f"config: corpora.{name}.entity_types", f"{unknown[0]} never occurs", f"those kept: {', '.join(sorted(types))}")
    result.dropped, result.duplicates = finder.dropped, finder.rows
    for split_name, doc_ids in ids.items():
        result.documents[split_name] = sorted(doc_id for number, doc_id in enumerate(doc_ids) if (split_name, number) not in finder.dropped)
        result.read[split_name]["mentions_of_duplicate_documents"] = sum(mentions[s, number] for s, number in finder.dropped if s == split_name)
        if not result.documents[split_name]:
            where = f"config: corpora.{name}.splits.{split_name}"
            raise UserError("empty split", where, "all of its documents are duplicates", "see corpora.*.duplicates")
    for line in duplicates.messages(finder.rows):
        say(f"{name}: {line}")
    return result


LOGGED_KINDS = (COUNTS_LINE_FEEDS, COUNTS_CARRIAGE_RETURNS, COUNTS_FROM_PASSAGE, READ_NOTES, OTHER_NOTES)
"""Kinds of irregularities that are logged, because a reader could also have handled them in another way."""


def skipped_rows(split: str, tally: Tally) -> list[dict[str, Any]]:
    """Rows of skipped.csv of a split."""
    return [{"split": split, "kind": kind, "records": len(rows), "file": file, "rows": ranges(rows)} for (kind, file), rows in sorted(tally.skipped_at.items())]


def ranges(rows: Iterable[int]) -> str:
    """Distinct row numbers, ascending, with runs as FIRST-LAST; 0 stands for no row."""
    runs: list[list[int]] = []
    for row in sorted(set(rows) - {0}):
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


class MappedIds(dict[str, MappedId]):
    """CUIs by concept id, after the replacements of `id_map`. Each id is looked up once, at its first use."""

    def __init__(self, concepts: ConceptMap, replaced: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self._concepts, self._replaced = concepts, replaced

    def __missing__(self, concept_id: str) -> MappedId:
        """Look up an id; if several ids replace it, it maps to the CUIs of all of them."""
        mapped_ids = [self._concepts(i) for i in self._replaced.get(concept_id, (concept_id,))]
        first = next((m for m in mapped_ids if m.cuis), mapped_ids[0])
        cuis = tuple(sorted({cui for m in mapped_ids for cui in m.cuis}))
        self[concept_id] = replace(first, cuis=cuis, left_out=tuple(sorted({cui for m in mapped_ids for cui in m.left_out} - set(cuis))))
        return self[concept_id]


def _no_concept(settings: Corpus, name: str) -> UserError:
    where, fix = f"config: corpora.{name}", "check id_prefix and the kb, or see which ids are unknown to it"
    return UserError("training split with no concept", where, f"none of its ids maps to a CUI through the cross-references of {settings.kb}", fix)


def _kept_documents(settings: Corpus, scanned: ScanResult) -> Iterator[tuple[str, Document]]:
    """Second pass: (split, document) of the documents kept, in the order train, dev, test."""
    for split in settings.split_names:
        for number, document in enumerate(readers.stream(settings, split, Tally())):
            if (split, number) not in scanned.dropped:
                yield split, document


def _with_sentences(name: str, documents: Iterator[tuple[str, Document]], total: int, seconds: list[float]) -> Iterator[tuple[str, Document, list[Span]]]:
    """Documents with the spans of their sentences, which depend on the text alone; the time for splitting is added to `seconds[0]`."""
    with track(f"{name}: documents mapped and split into sentences", total) as tick:
        while batch := list(islice(documents, _BATCH)):
            started = time.monotonic()
            sentences_of = list(text.sentences(d.text for _, d in batch))
            seconds[0] += time.monotonic() - started
            for (split, document), sentences in zip(batch, sentences_of, strict=True):
                yield split, document, sentences
            tick(len(batch))


def gold_mentions(document: Document, split: str, composite: str, removed: list[dict[str, Any]]) -> list[tuple[MentionRow, int]]:
    """Rows of a document's mentions, each with 1 if the composite policy `split` added it, else 0. Mentions that repeat spans and ids go to `removed`.

    A mention id is DOCUMENT:START-END:N, where N numbers the mentions with the same start and end. With the policy `split` each concept of a
    composite mention is a row of its own, with the id DOCUMENT:START-END:N.K.
    """
    gold: list[tuple[MentionRow, int]] = []
    seen: set[tuple[tuple[Span, ...], tuple[str, ...]]] = set()
    numbers: Counter[Span] = Counter()
    for annotation in document.annotations:
        key = annotation.spans, annotation.ids
        if key in seen:
            removed.append({"split": split, "doc_id": document.doc_id, "spans": annotation.spans})
            continue
        seen.add(key)
        hull = annotation.spans[0][0], annotation.spans[-1][1]
        mention_id = f"{document.doc_id}:{hull[0]}-{hull[1]}:{numbers[hull]}"
        numbers[hull] += 1
        surface = annotation.surface(document.text)
        if composite == "split" and len(annotation.ids) > 1:
            rows = [(f"{mention_id}.{k}", replace(annotation, ids=(i,))) for k, i in enumerate(annotation.ids)]
        else:
            rows = [(mention_id, annotation)]
        gold += [(MentionRow(document.doc_id, row_id, split, row, surface), int(k > 0)) for k, (row_id, row) in enumerate(rows)]
    return gold


def _row(mention: MentionRow, cuis: Sequence[str], ids: Mapping[str, MappedId], bucket: str) -> dict[str, Any]:
    """A row of `tables.MENTIONS`."""
    return {
        "doc_id": mention.doc_id,
        "mention_id": mention.mention_id,
        "split": mention.split,
        "spans": _spans(mention.annotation.spans),
        "surface": mention.surface,
        "expanded": mention.expanded,
        "entity_type": mention.annotation.entity_type,
        "concept_ids": [i for i in mention.annotation.ids if i],
        "cuis": cuis,
        "concept_cuis": [list(ids[i].cuis) for i in mention.annotation.ids if i],
        "composite": mention.annotation.composite,
        "ood_bucket": bucket,
    }


def _split_rows(scanned: ScanResult) -> Iterator[dict[str, Any]]:
    for split, doc_ids in scanned.documents.items():
        for doc_id in doc_ids:
            yield {"doc_id": doc_id, "split": split}


def _spans(spans: Iterable[Span]) -> list[dict[str, int]]:
    return [{"start": start, "end": end} for start, end in spans]


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)
