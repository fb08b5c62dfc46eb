"""A corpus as two tables, documents and mentions, and stats.json, which counts everything read, changed and left out.

Per split, rows of `mentions` = mentions read - those of dropped duplicate documents - duplicate mentions + rows that the composite policy
`split` adds. Nothing else removes a mention: one without a CUI stays, in the bucket `unmapped`.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mentionforge import abbreviations, provenance, tables, text
from mentionforge.config import Corpus, read_spec
from mentionforge.corpora import readers
from mentionforge.corpora.buckets import is_cut, ood_buckets
from mentionforge.corpora.concepts import ConceptMap, Mapped
from mentionforge.corpora.published import Annotation, Document, Reading
from mentionforge.errors import UserError
from mentionforge.progress import say, track
from mentionforge.text import Span

_BATCH = 100
"""Documents between two signs of progress."""

_LEAK = "a leak between splits makes results worthless; remove one"


@dataclass(frozen=True)
class Gold:
    """One row of the mentions table before its bucket is known."""

    doc_id: str
    mention_id: str
    split: str
    annotation: Annotation
    surface: str
    expanded: str | None = None


@dataclass
class Collected:
    """Documents of all splits, each id once, with the counts of reading."""

    documents: dict[str, list[Document]]
    read: dict[str, dict[str, Any]]
    duplicate_documents: list[str]
    repairs: list[dict[str, Any]]


def read_corpus(spec: Path, kb: Path, out: Path) -> dict[str, Any]:
    """Read a corpus, map its ids to CUIs, assign buckets, and write documents.parquet, mentions.parquet, split.csv and stats.json.

    Args:
        spec: Settings of the corpus, as the workflow writes them.
        kb: Folder with names.parquet, xrefs.parquet and retired.parquet.
        out: Folder to write.

    Returns:
        The content of stats.json.

    Raises:
        UserError: Whatever the readers raise; a document id or a text in two splits; differing documents of one id; a split without
            documents or mentions; an entity type that never occurs; no training mention with a CUI.
    """
    begun = time.monotonic()
    settings = read_spec(spec)
    if not isinstance(settings, Corpus):
        raise UserError("wrong spec", str(spec), "it is not that of a corpus")
    name = json.loads(spec.read_text(encoding="utf-8")).get("name", out.name)
    collected = collect(settings, name)
    concepts = ConceptMap.load(kb)
    gold, removed, added = gold_mentions(collected.documents, settings.composite)
    gold = spell_out(gold, collected.documents, settings.abbreviations)
    mapped = {i: concepts(i) for i in sorted({i for g in gold for i in g.annotation.ids})}
    cuis = [sorted({cui for i in g.annotation.ids for cui in mapped[i].cuis}) for g in gold]
    train = [g.split == "train" for g in gold]
    if not any(own for own, is_train in zip(cuis, train, strict=True) if is_train):
        where, fix = f"config: corpora.{name}", "check id_prefix and the kb, or see which ids are unknown to it"
        raise UserError("training split with no concept", where, f"none of its ids maps to a CUI through the cross-references of {settings.kb}", fix)
    buckets = ood_buckets([text.normalize_surface(g.surface) for g in gold], cuis, train)
    say(f"{name}: {len(gold):,} mentions read and mapped in {time.monotonic() - begun:.1f} s")
    sentences = split_sentences(name, collected.documents)

    inputs = {"spec": spec, "kb.names": kb / "names.parquet", "kb.xrefs": kb / "xrefs.parquet", "kb.retired": kb / "retired.parquet"}
    inputs |= {role: Path(path) for role, path in settings.paths().items()}
    stamp = provenance.stamp("corpora read", inputs, **provenance.versions("biosenter", "spacy"))
    stats = {
        "corpus": name,
        "kb": settings.kb,
        "policies": {
            key: getattr(settings, key) for key in ("reader", "entity_types", "id_prefix", "text", "composite", "discontinuous", "duplicates", "abbreviations")
        },
        "provenance": stamp,
        "read": collected.read,
        "repairs": collected.repairs,
        "dropped": {"duplicate_documents": collected.duplicate_documents, "duplicate_mentions": removed},
        "rows_added_by_composite_split": {split: added[split] for split in collected.documents},
        "splits": split_stats(collected.documents, sentences, gold, cuis, buckets, mapped),
        **mapping_stats(gold, mapped),
    }
    document_rows = [
        {"doc_id": d.doc_id, "split": split, "text": d.text, "sentences": _spans(sentences[d.doc_id])}
        for split, documents in collected.documents.items()
        for d in documents
    ]
    mention_rows = [
        {
            "doc_id": g.doc_id,
            "mention_id": g.mention_id,
            "split": g.split,
            "spans": _spans(g.annotation.spans),
            "surface": g.surface,
            "expanded": g.expanded,
            "entity_type": g.annotation.entity_type,
            "concept_ids": [i for i in g.annotation.ids if i],
            "cuis": own,
            "concept_cuis": [list(mapped[i].cuis) for i in g.annotation.ids if i],
            "composite": g.annotation.composite,
            "ood_bucket": bucket,
        }
        for g, own, bucket in zip(gold, cuis, buckets, strict=True)
    ]
    tables.write(tables.DOCUMENTS, out / "documents.parquet", document_rows, stamp)
    tables.write(tables.MENTIONS, out / "mentions.parquet", mention_rows, stamp)
    write_split(out / "split.csv", collected.documents)
    _write_json(out / "stats.json", stats)
    say(f"{name}: written in {time.monotonic() - begun:.1f} s, sentences included")
    return stats


def collect(settings: Corpus, name: str) -> Collected:
    """Read all splits, and see to it that each document id is there once.

    Raises:
        UserError: See `read_corpus`.
    """
    documents: dict[str, list[Document]] = {}
    read: dict[str, dict[str, Any]] = {}
    duplicates: list[str] = []
    repairs: list[dict[str, Any]] = []
    first: dict[str, tuple[str, Document]] = {}
    texts: dict[str, tuple[str, str]] = {}
    for split in settings.split_names:
        reading = readers.read(settings, split)
        found = reading.documents
        read[split] = _reading_stats(reading)
        documents[split] = []
        for document in found:
            if document.doc_id not in first:
                _check_leak(document, split, texts)
                first[document.doc_id] = split, document
                documents[split].append(document)
                continue
            _check_duplicate(document, split, *first[document.doc_id], settings)
            duplicates.append(document.doc_id)
            read[split]["mentions_of_duplicate_documents"] += len(document.annotations)
        if not found:
            raise UserError("empty split", f"config: corpora.{name}.splits.{split}", "its files hold no document", "correct the path")
        if not any(d.annotations for d in documents[split]):
            where = f"config: corpora.{name}.splits.{split}"
            raise UserError(
                "split without mentions", where, f"entity types asked for: {', '.join(settings.entity_types) or 'all'}", "correct entity_types or the path"
            )
        repairs += [{"split": split, **asdict(repair)} for repair in reading.repairs]
    types = {t for found in documents.values() for d in found for a in d.annotations for t in (a.entity_type, *a.entity_type.split(","))}
    if unknown := sorted(set(settings.entity_types) - types):
        raise UserError("unknown entity type", f"config: corpora.{name}.entity_types", f"{unknown[0]} never occurs", f"those kept: {', '.join(sorted(types))}")
    return Collected(documents, read, sorted(duplicates), repairs)


def _check_leak(document: Document, split: str, texts: dict[str, tuple[str, str]]) -> None:
    """Raise a UserError if the same text is in another split under another id; `texts` remembers split and id of each."""
    first_split, first_id = texts.setdefault(document.text, (split, document.doc_id))
    if first_split != split and document.text.strip():
        raise UserError("text in two splits", document.where, f"{document.doc_id} of {split} is {first_id} of {first_split}", _LEAK)


def _check_duplicate(document: Document, split: str, first_split: str, first: Document, settings: Corpus) -> None:
    if split != first_split:
        raise UserError("document in two splits", document.where, f"{document.doc_id} of {split} is in {first_split} too", _LEAK)
    if settings.duplicates == "error":
        raise UserError("document given twice", document.where, f"{document.doc_id}, first in {first.where}", "remove one, or set `duplicates: drop`")
    if not document.same_as(first):
        raise UserError("document given twice, and differing", document.where, f"{document.doc_id}, first in {first.where}", "remove the wrong one")


def gold_mentions(documents: Mapping[str, Sequence[Document]], composite: str) -> tuple[list[Gold], list[dict[str, Any]], Counter[str]]:
    """Mentions of all splits with their ids, those left out because span and concept ids repeat, and rows added per split.

    A mention id is DOCUMENT:START-END:N; N numbers the mentions between the same two offsets. With the policy `split` each concept of a
    composite mention is a row of its own, and .K follows.
    """
    gold: list[Gold] = []
    removed: list[dict[str, Any]] = []
    added: Counter[str] = Counter()
    for split, found in documents.items():
        for document in found:
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
                gold += [Gold(document.doc_id, part_id, split, part, surface) for part_id, part in parts]
                added[split] += len(parts) - 1
    return gold, removed, added


def spell_out(gold: Sequence[Gold], documents: Mapping[str, Sequence[Document]], policy: str) -> list[Gold]:
    """Mentions with the abbreviations that their document defines spelled out; with the policy `none`, as they are."""
    if policy == "none":
        return list(gold)
    known = {d.doc_id: abbreviations.long_forms(d.text) for found in documents.values() for d in found}
    return [replace(g, expanded=abbreviations.expand(g.surface, known[g.doc_id])) for g in gold]


def split_sentences(name: str, documents: Mapping[str, Sequence[Document]]) -> dict[str, list[Span]]:
    """Sentences of each document, from its text alone."""
    flat = [d for found in documents.values() for d in found]
    sentences: dict[str, list[Span]] = {}
    with track(f"{name}: sentences of documents", len(flat)) as tick:
        for i in range(0, len(flat), _BATCH):
            batch = flat[i : i + _BATCH]
            sentences.update(zip((d.doc_id for d in batch), text.sentences(d.text for d in batch), strict=True))
            tick(len(batch))
    return sentences


def _reading_stats(reading: Reading) -> dict[str, Any]:
    """Counts of a split as published, before any policy."""
    annotations = [a for d in reading.documents for a in d.annotations]
    return {
        "documents": len(reading.documents),
        "mentions": len(annotations),
        "mentions_without_id": sum(not any(a.ids) for a in annotations),
        "composite": sum(a.composite for a in annotations),
        "mentions_of_duplicate_documents": 0,
        "skipped": dict(+reading.skipped),
        "handled": dict(+reading.handled),
    }


def split_stats(
    documents: Mapping[str, Sequence[Document]],
    sentences: Mapping[str, Sequence[Span]],
    gold: Sequence[Gold],
    cuis: Sequence[Sequence[str]],
    buckets: Sequence[str],
    mapped: Mapping[str, Mapped],
) -> dict[str, Any]:
    """Counts per split of what is written.

    `unseen_ids` counts mentions with at least one id, none of which a training mention has: the out-of-distribution count by MeSH and OMIM id.
    """
    rows = defaultdict(list)
    for g, own, bucket in zip(gold, cuis, buckets, strict=True):
        rows[g.split].append((g, own, bucket))
    train_ids = {i for g, _, _ in rows["train"] for i in g.annotation.ids if i}
    train_lower = {g.surface.lower() for g, _, _ in rows["train"]}
    train_normalized = {text.normalize_surface(g.surface) for g, _, _ in rows["train"]}
    stats = {}
    for split, found in documents.items():
        own_rows = rows[split]
        mentions = [g.annotation for g, _, _ in own_rows]
        surfaces = [g.surface for g, _, _ in own_rows]
        ids = [{i for i in a.ids if i} for a in mentions]
        by_bucket = Counter(bucket for _, _, bucket in own_rows)
        unseen_lower = sum(s.lower() not in train_lower for s in surfaces)
        unseen_normalized = sum(text.normalize_surface(s) not in train_normalized for s in surfaces)
        stats[split] = {
            "documents": len(found),
            "sentences": sum(len(sentences[d.doc_id]) for d in found),
            "mentions": len(own_rows),
            "mapped": len(own_rows) - by_bucket["unmapped"],
            "unmapped": dict(Counter(_reason(a.ids, mapped) for a, (_, own, _) in zip(mentions, own_rows, strict=True) if not own)),
            "partly_mapped": sum(bool(own) and not all(mapped[i].cuis for i in a.ids) for a, (_, own, _) in zip(mentions, own_rows, strict=True)),
            "ambiguous": sum(any(len(mapped[i].cuis) > 1 for i in a.ids) for a in mentions),
            "composite": sum(a.composite for a in mentions),
            "discontinuous": sum(len(a.spans) > 1 for a in mentions),
            "abbreviations_expanded": sum(g.expanded is not None for g, _, _ in own_rows),
            "cut_by_sentence_boundary": sum(is_cut(g.annotation.spans, sentences[g.doc_id]) for g, _, _ in own_rows),
            "buckets": {bucket: by_bucket[bucket] for bucket in tables.BUCKETS},
            "unseen_ids": sum(bool(own_ids) and train_ids.isdisjoint(own_ids) for own_ids in ids),
            "unique_ids": len(set().union(*ids)),
            "unique_cuis": len({cui for _, own, _ in own_rows for cui in own}),
            "unique_surfaces": len(set(surfaces)),
            "surface_unseen_in_train": {
                "lower_case": unseen_lower,
                "normalized": unseen_normalized,
                "share_lower_case": round(unseen_lower / len(surfaces), 4),
                "share_normalized": round(unseen_normalized / len(surfaces), 4),
            },
        }
    return stats


def mapping_stats(gold: Sequence[Gold], mapped: Mapping[str, Mapped]) -> dict[str, Any]:
    """Which ids have no CUI and why, several CUIs, or a retired CUI, each with its number of mentions; and which map gave the mentions their CUIs."""
    mentions = Counter(i for g in gold for i in g.annotation.ids)
    listed: dict[str, dict[str, int]] = defaultdict(dict)
    for i, m in mapped.items():
        if m.reason and i:
            listed[m.reason][i] = mentions[i]
    return {
        "unmapped": dict(Counter(_reason(g.annotation.ids, mapped) for g in gold if not any(mapped[i].cuis for i in g.annotation.ids))),
        "unmapped_ids": dict(listed),
        "ambiguous_ids": {i: {"cuis": list(m.cuis), "mentions": mentions[i]} for i, m in mapped.items() if len(m.cuis) > 1},
        "retired_ids": {i: {"cuis": list(m.cuis), "relation": m.retired, "mentions": mentions[i]} for i, m in mapped.items() if m.retired},
        "retired_mentions_by_relation": _mentions_by(gold, {i: m.retired for i, m in mapped.items()}),
        "mapped_mentions_by_map": {
            split: _mentions_by([g for g in gold if g.split == split], {i: m.via for i, m in mapped.items()}) for split in sorted({g.split for g in gold})
        },
    }


def _mentions_by(gold: Iterable[Gold], way: Mapping[str, str]) -> dict[str, int]:
    """Mentions with a CUI by what gave it: that of the first id for which there is one."""
    return dict(sorted(Counter(first for g in gold if (first := next((way[i] for i in g.annotation.ids if way[i]), ""))).items()))


def _reason(ids: Iterable[str], mapped: Mapping[str, Mapped]) -> str:
    """Why a mention has no CUI: the reason of its first id, and `no_id` only if it has none at all."""
    return next((mapped[i].reason for i in ids if i), "no_id")


def _spans(spans: Iterable[Span]) -> list[dict[str, int]]:
    return [{"start": start, "end": end} for start, end in spans]


def write_split(path: Path, documents: Mapping[str, Sequence[Document]]) -> None:
    """Write down which split each document is in: columns doc_id and split, by id."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("doc_id", "split"))
        writer.writerows(sorted((d.doc_id, split) for split, found in documents.items() for d in found))
    os.replace(temporary, path)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)
