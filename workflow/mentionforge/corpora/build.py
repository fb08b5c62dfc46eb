"""A corpus as two tables, documents and mentions, and stats.json, which counts everything read, changed and left out.

Two passes over the files, neither of which keeps texts: the first checks and counts what is read and finds duplicates, the second maps ids,
assigns buckets and writes. Per split, rows of `mentions` = mentions read - those of dropped duplicate documents - duplicate mentions + rows
that the composite policy `split` adds. Nothing else removes a mention: one without a CUI stays, in the bucket `unmapped`.
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
from mentionforge.corpora.checked import Checked
from mentionforge.corpora.concept_ids import looks_like_id
from mentionforge.corpora.concepts import ConceptMap, Mapped, read_id_map
from mentionforge.corpora.documents import Document, Tally
from mentionforge.corpora.formats.bioc import COUNTS_FROM_PART
from mentionforge.corpora.formats.brat import OTHER_NOTES, READ_NOTES
from mentionforge.corpora.formats.folders import COUNTS_CARRIAGE_RETURNS, COUNTS_LINE_FEEDS
from mentionforge.corpora.settings import Corpus
from mentionforge.corpora.stats import UNMAPPED_COLUMNS, Gold, Stats
from mentionforge.errors import UserError
from mentionforge.progress import say, track
from mentionforge.specs import read_spec
from mentionforge.text import Span

VERSION = 3
"""Of the part corpora.read: raise it where earlier results would be wrong (mentionforge.versions)."""

_BATCH = 100
"""Documents that are split into sentences at a time."""

_RANGE = 10_000
"""Documents that are sorted in memory at a time."""

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
class Scanned:
    """What the first pass found: counts of reading, document ids by split in rising order, and which documents a policy drops."""

    read: dict[str, dict[str, Any]] = field(default_factory=dict)
    repairs: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, list[str]] = field(default_factory=dict)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)


SKIPPED_COLUMNS = ("split", "kind", "records", "file", "rows")
"""Columns of skipped.csv: what a reader left out, by kind and file, and its rows there, as `3 7-9`; no rows: all of the file."""


def read_corpus(spec: Path, kb: Path, out: Path) -> dict[str, Any]:
    """Read a corpus, map its ids to CUIs, assign buckets, and write its tables and counts.

    Those are documents.parquet, mentions.parquet, split.csv, unmapped.csv, duplicates.csv, skipped.csv and stats.json.

    Args:
        spec: Settings of the corpus, as the workflow writes them.
        kb: Folder with names.parquet, xrefs.parquet and retired.parquet.
        out: Folder to write.

    Returns:
        The content of stats.json.

    Raises:
        UserError: Whatever the readers raise; duplicate documents that the policies do not allow; a split without documents or mentions; an
            entity type that never occurs; no training mention with a CUI.
    """
    begun = time.monotonic()
    settings = read_spec(spec, Corpus)
    if not isinstance(settings, Corpus):
        raise UserError("wrong spec", str(spec), "it is not that of a corpus")
    name = json.loads(spec.read_text(encoding="utf-8")).get("name", out.name)
    scanned = scan(settings, name)
    n = sum(map(len, scanned.documents.values()))
    say(f"{name}: {n:,} documents read and compared in {time.monotonic() - begun:.1f} s")
    replaced = read_id_map(Path(settings.id_map), settings.id_prefix) if settings.id_map else {}
    concepts = ConceptMap.load(kb, settings.ambiguity)
    ids = Ids(concepts, replaced)
    stats, buckets = Stats(ids), Buckets()
    inputs = {"spec": spec, "kb.names": kb / "names.parquet", "kb.xrefs": kb / "xrefs.parquet", "kb.retired": kb / "retired.parquet"}
    inputs |= {role: Path(path) for role, path in settings.paths().items()}
    stamp = provenance.stamp("corpora read", inputs, **provenance.versions("biosenter", "spacy", "datasketch"))
    firsts = sorted(i for found in scanned.documents.values() for i in found)[_RANGE::_RANGE]
    document_table, mention_table = (tables.Writer(t, out / f"{t.name}.parquet", firsts) for t in (tables.DOCUMENTS, tables.MENTIONS))
    removed: list[dict[str, Any]] = []
    added: Counter[str] = Counter()
    try:
        split_in = [0.0]
        for split, document, sentences in _with_sentences(name, _kept(settings, scanned), n, split_in):
            gold = gold_mentions(document, split, settings.composite, removed)
            added[split] += sum(extra for _, extra in gold)
            known = abbreviations.long_forms(document.text) if settings.abbreviations != "none" else {}
            document_table.add({"doc_id": document.doc_id, "split": split, "text": document.text, "sentences": _spans(sentences)})
            stats.add_document(split, sentences)
            for plain, _ in gold:
                g = replace(plain, expanded=abbreviations.expand(plain.surface, known))
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
    odd = Checked()
    for concept_id, times in stats.mentions_of():
        if concept_id and not ids[concept_id].cuis and not looks_like_id(concept_id) and not concepts.names(concept_id):
            odd.add_id(concept_id, times)
    for line in odd.told():
        say(f"{name}: {line}")
    counts = {
        "corpus": name,
        "kb": settings.kb,
        "policies": {key: value for key, value in settings.model_dump(mode="json").items() if key in _POLICIES},
        "provenance": stamp,
        "read": scanned.read,
        "repairs": scanned.repairs,
        "ids_of_no_known_form": {form: {"mentions": n, "example": example} for form, (n, example) in sorted(odd.forms.items())},
        "dropped": {"duplicate_documents": sorted(row["doc_id"] for row in scanned.duplicates if row["action"] == "dropped"), "duplicate_mentions": removed},
        "duplicates": duplicates.counted(scanned.duplicates),
        "rows_added_by_composite_split": {split: added[split] for split in scanned.documents},
        "splits": stats.per_split(),
        "replaced_ids": {i: list(replaced[i]) for i in sorted(ids) if i in replaced},
        **stats.of_mapping(),
    }
    duplicates.write_csv(out / "split.csv", ("doc_id", "split"), sorted(_split_rows(scanned), key=lambda row: (row["doc_id"], row["split"])))
    duplicates.write_csv(out / "duplicates.csv", duplicates.COLUMNS, scanned.duplicates)
    duplicates.write_csv(out / "unmapped.csv", UNMAPPED_COLUMNS, stats.unmapped_rows(bool(settings.licensed)))
    duplicates.write_csv(out / "skipped.csv", SKIPPED_COLUMNS, scanned.skipped)
    _write_json(out / "stats.json", counts)
    mentions, took = sum(s["mentions"] for s in counts["splits"].values()), time.monotonic() - begun
    say(f"{name}: {n:,} documents, {mentions:,} mentions, written in {took:.1f} s, of which splitting into sentences took {split_in[0]:.1f} s")
    return counts


def scan(settings: Corpus, name: str) -> Scanned:
    """The first pass: read all splits, count, and compare each document with those before it.

    Raises:
        UserError: See `read_corpus`.
    """
    found = Scanned()
    guard = duplicates.Guard(settings)
    types: set[str] = set()
    mentions: dict[tuple[str, int], int] = {}
    ids: dict[str, list[str]] = {}
    for split in settings.split_names:
        tally, counts, checked = Tally(), Counter[str](), Checked()
        ids[split] = []
        for number, document in enumerate(readers.stream(settings, split, tally)):
            guard.see(document, split, number)
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
            asked = f"entity types asked for: {', '.join(settings.entity_types) or 'all'}"
            raise UserError("split without mentions", where, asked, "correct entity_types or the path")
        found.read[split] = {key: counts[key] for key in ("documents", "mentions", "mentions_without_id", "composite")}
        found.read[split] |= {"skipped": dict(+tally.skipped), "handled": dict(+tally.handled), "surfaces_inside_words": checked.inside_words}
        found.skipped += skipped_rows(split, tally)
        if skipped := ", ".join(f"{kind}: {n:,}" for kind, n in sorted((+tally.skipped).items())):
            say(f"{name}: left out of {split}: {skipped}; see skipped.csv")
        for line in (*checked.told(f" of {split}"), *(f"{kind}: {n:,} ({split})" for kind, n in sorted((+tally.handled).items()) if kind in TOLD)):
            say(f"{name}: {line}")
        found.repairs += [{"split": split, **asdict(repair)} for repair in tally.repairs]
    if unknown := sorted(set(settings.entity_types) - types):
        raise UserError("unknown entity type", f"config: corpora.{name}.entity_types", f"{unknown[0]} never occurs", f"those kept: {', '.join(sorted(types))}")
    found.dropped, found.duplicates = guard.dropped, guard.rows
    for name_of_split, own in ids.items():
        found.documents[name_of_split] = sorted(doc_id for number, doc_id in enumerate(own) if (name_of_split, number) not in guard.dropped)
        found.read[name_of_split]["mentions_of_duplicate_documents"] = sum(mentions[s, number] for s, number in guard.dropped if s == name_of_split)
        if not found.documents[name_of_split]:
            where = f"config: corpora.{name}.splits.{name_of_split}"
            raise UserError("empty split", where, "all of its documents are duplicates", "see corpora.*.duplicates")
    for line in duplicates.told(guard.rows):
        say(f"{name}: {line}")
    return found


TOLD = (COUNTS_LINE_FEEDS, COUNTS_CARRIAGE_RETURNS, COUNTS_FROM_PART, READ_NOTES, OTHER_NOTES)
"""What readers handle in a way that the log should tell, because another way is possible."""


def skipped_rows(split: str, tally: Tally) -> list[dict[str, Any]]:
    """Rows of skipped.csv."""
    return [{"split": split, "kind": kind, "records": len(rows), "file": file, "rows": ranges(rows)} for (kind, file), rows in sorted(tally.places.items())]


def ranges(rows: Iterable[int]) -> str:
    """Row numbers in rising order, neighbours as FIRST-LAST; 0 stands for no row."""
    found: list[list[int]] = []
    for row in sorted(set(rows) - {0}):
        if found and row == found[-1][1] + 1:
            found[-1][1] = row
        else:
            found.append([row, row])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


class Ids(dict[str, Mapped]):
    """What each id maps to, after the replacements of `id_map`; asked for, it is looked up once."""

    def __init__(self, concepts: ConceptMap, replaced: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self._concepts, self._replaced = concepts, replaced

    def __missing__(self, concept_id: str) -> Mapped:
        """Look an id up; one that is replaced by several has the CUIs of all."""
        several = [self._concepts(i) for i in self._replaced.get(concept_id, (concept_id,))]
        first = next((m for m in several if m.cuis), several[0])
        cuis = tuple(sorted({cui for m in several for cui in m.cuis}))
        self[concept_id] = replace(first, cuis=cuis, left_out=tuple(sorted({cui for m in several for cui in m.left_out} - set(cuis))))
        return self[concept_id]


def _no_concept(settings: Corpus, name: str) -> UserError:
    where, fix = f"config: corpora.{name}", "check id_prefix and the kb, or see which ids are unknown to it"
    return UserError("training split with no concept", where, f"none of its ids maps to a CUI through the cross-references of {settings.kb}", fix)


def _kept(settings: Corpus, scanned: Scanned) -> Iterator[tuple[str, Document]]:
    """The second pass: split and document, without dropped ones, in the order train, dev, test."""
    for split in settings.split_names:
        for number, document in enumerate(readers.stream(settings, split, Tally())):
            if (split, number) not in scanned.dropped:
                yield split, document


def _with_sentences(name: str, documents: Iterator[tuple[str, Document]], total: int, seconds: list[float]) -> Iterator[tuple[str, Document, list[Span]]]:
    """Documents with their sentences, which are made from the text alone; what that takes is added to `seconds`."""
    with track(f"{name}: documents mapped and split into sentences", total) as tick:
        while batch := list(islice(documents, _BATCH)):
            begun = time.monotonic()
            found = list(text.sentences(d.text for _, d in batch))
            seconds[0] += time.monotonic() - begun
            for (split, document), sentences in zip(batch, found, strict=True):
                yield split, document, sentences
            tick(len(batch))


def gold_mentions(document: Document, split: str, composite: str, removed: list[dict[str, Any]]) -> list[tuple[Gold, int]]:
    """Mentions of a document with their ids, and how many rows each has more than its mention; those that repeat spans and ids go to `removed`.

    A mention id is DOCUMENT:START-END:N; N numbers the mentions between the same two offsets. With the policy `split` each concept of a
    composite mention is a row of its own, and .K follows.
    """
    gold: list[tuple[Gold, int]] = []
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
            parts = [(f"{mention_id}.{k}", replace(annotation, ids=(i,))) for k, i in enumerate(annotation.ids)]
        else:
            parts = [(mention_id, annotation)]
        gold += [(Gold(document.doc_id, part_id, split, part, surface), int(k > 0)) for k, (part_id, part) in enumerate(parts)]
    return gold


def _row(g: Gold, cuis: Sequence[str], ids: Mapping[str, Mapped], bucket: str) -> dict[str, Any]:
    """A row of tables.MENTIONS."""
    return {
        "doc_id": g.doc_id,
        "mention_id": g.mention_id,
        "split": g.split,
        "spans": _spans(g.annotation.spans),
        "surface": g.surface,
        "expanded": g.expanded,
        "entity_type": g.annotation.entity_type,
        "concept_ids": [i for i in g.annotation.ids if i],
        "cuis": cuis,
        "concept_cuis": [list(ids[i].cuis) for i in g.annotation.ids if i],
        "composite": g.annotation.composite,
        "ood_bucket": bucket,
    }


def _split_rows(scanned: Scanned) -> Iterator[dict[str, Any]]:
    for split, found in scanned.documents.items():
        for doc_id in found:
            yield {"doc_id": doc_id, "split": split}


def _spans(spans: Iterable[Span]) -> list[dict[str, int]]:
    return [{"start": start, "end": end} for start, end in spans]


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)
