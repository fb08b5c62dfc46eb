"""Count the documents and mentions of a corpus.

In: mentions with their CUIs and buckets, one by one. Out: the counts of stats.json and the rows of unmapped.csv.
Keeps only distinct ids, CUIs and surfaces in memory. Knows nothing of files and formats.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mentionforge import tables, text
from mentionforge.corpora.buckets import is_cut
from mentionforge.corpora.concepts import MappedId
from mentionforge.corpora.documents import Annotation
from mentionforge.text import Span

LENGTHS = (1, 2, 3, 4, 5)
"""Lengths of mentions in words that are counted separately; longer ones are counted together."""

SHOWN = 5
"""Surfaces listed for a combination of unmapped ids, unless the corpus is licensed."""

UNMAPPED_COLUMNS = ("ids", "reason", *tables.SPLITS, "surfaces")
"""Columns of unmapped.csv: ids as annotated, the reason why they have no CUI, mentions per split, and the most frequent surfaces."""


@dataclass(frozen=True)
class MentionRow:
    """One row of `tables.MENTIONS`, before its ids are mapped."""

    doc_id: str
    mention_id: str
    split: str
    annotation: Annotation
    surface: str
    expanded: str | None = None


@dataclass
class Stats:
    """Counts per split and overall. Splits must be added in the order train, dev, test, because the others are compared with train."""

    mapped: Mapping[str, MappedId]
    splits: dict[str, Counter[str]] = field(default_factory=dict)
    _unmapped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _distinct: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    _mentions_by_id: Counter[str] = field(default_factory=Counter)
    _retired: Counter[str] = field(default_factory=Counter)
    _mentions_by_map: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _unmapped_by_split: dict[tuple[tuple[str, ...], str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _unmapped_surfaces: dict[tuple[tuple[str, ...], str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add_document(self, split: str, sentences: Sequence[Span]) -> None:
        """Count a document of the corpus."""
        self._split(split)["documents"] += 1
        self.splits[split]["sentences"] += len(sentences)

    def add(self, mention: MentionRow, cuis: Sequence[str], bucket: str, sentences: Sequence[Span]) -> None:
        """Count a mention of the corpus."""
        counts, ids = self._split(mention.split), [i for i in mention.annotation.ids if i]
        mapped = [self.mapped[i] for i in mention.annotation.ids]
        counts["mentions"] += 1
        counts[f"bucket {bucket}"] += 1
        counts["partly_mapped"] += bool(cuis) and not all(m.cuis for m in mapped)
        counts["ambiguous"] += any(m.ambiguous for m in mapped)
        counts["composite"] += mention.annotation.composite
        counts["discontinuous"] += len(mention.annotation.spans) > 1
        counts["abbreviations_expanded"] += mention.expanded is not None
        counts["cut_by_sentence_boundary"] += is_cut(mention.annotation.spans, sentences)
        length = len(text.words(mention.surface))
        counts["words"] += length
        counts["characters"] += len(mention.surface)
        counts[f"length {min(length, LENGTHS[-1] + 1)}"] += 1
        seen_in_train, normalized = self._distinct.get("train", {}), text.normalize_surface(mention.surface)
        if mention.split != "train":
            counts["unseen_ids"] += bool(ids) and seen_in_train.get("ids", set()).isdisjoint(ids)
            counts["unseen_lower"] += mention.surface.lower() not in seen_in_train.get("lower", ())
            counts["unseen_normalized"] += normalized not in seen_in_train.get("normalized", ())
        distinct = self._distinct[mention.split]
        distinct["ids"].update(ids)
        distinct["cuis"].update(cuis)
        distinct["surfaces"].add(mention.surface)
        distinct["lower"].add(mention.surface.lower())
        distinct["normalized"].add(normalized)
        self._mentions_by_id.update(mention.annotation.ids)
        if not cuis:
            reason = reason_of(mention.annotation.ids, self.mapped)
            self._unmapped[mention.split][reason] += 1
            self._unmapped_by_split[tuple(ids), reason][mention.split] += 1
            self._unmapped_surfaces[tuple(ids), reason][normalized] += 1
        if key := next((m.retired for m in mapped if m.retired), ""):
            self._retired[key] += 1
        if key := next((m.via for m in mapped if m.via), ""):
            self._mentions_by_map[mention.split][key] += 1

    def per_split(self) -> dict[str, Any]:
        """Counts per split.

        `unseen_ids` counts mentions with ids, none of which occurs in training: out-of-distribution mentions by MeSH and OMIM id.
        `cut_by_sentence_boundary` counts mentions that no single sentence contains.
        """
        stats = {}
        for split, c in self.splits.items():
            distinct, n = self._distinct[split], c["mentions"]
            stats[split] = {
                "documents": c["documents"],
                "sentences": c["sentences"],
                "mentions": n,
                "mapped": n - c["bucket unmapped"],
                "unmapped": dict(self._unmapped[split]),
                **{
                    key: c[key]
                    for key in (
                        "partly_mapped",
                        "ambiguous",
                        "composite",
                        "discontinuous",
                        "abbreviations_expanded",
                        "cut_by_sentence_boundary",
                    )
                },
                "buckets": {bucket: c[f"bucket {bucket}"] for bucket in tables.BUCKETS},
                "unseen_ids": c["unseen_ids"],
                "unique_ids": len(distinct["ids"]),
                "unique_cuis": len(distinct["cuis"]),
                "unique_surfaces": len(distinct["surfaces"]),
                "surface_unseen_in_train": {
                    "lower_case": c["unseen_lower"],
                    "normalized": c["unseen_normalized"],
                    "share_lower_case": _share(c["unseen_lower"], n),
                    "share_normalized": _share(c["unseen_normalized"], n),
                },
                "mean_words": _share(c["words"], n),
                "mean_characters": _share(c["characters"], n),
                "words": {f"{k}{'+' if k > LENGTHS[-1] else ''}": c[f"length {k}"] for k in (*LENGTHS, LENGTHS[-1] + 1)},
            }
        return stats

    def mapping_stats(self) -> dict[str, Any]:
        """Ids without a CUI by reason, with several CUIs, or with a retired CUI, each with its number of mentions; and mentions by map of their CUIs."""
        ids_by_reason: dict[str, dict[str, int]] = defaultdict(dict)
        n = self._mentions_by_id
        for i, m in sorted(self.mapped.items()):
            if m.reason and i:
                ids_by_reason[m.reason][i] = n[i]
        return {
            "unmapped": dict(sum(self._unmapped.values(), Counter[str]())),
            "unmapped_ids": dict(ids_by_reason),
            "ambiguous_ids": {
                i: {"cuis": list(m.cuis), "mentions": n[i]} | ({"left_out": list(m.left_out)} if m.left_out else {})
                for i, m in self.mapped.items()
                if m.ambiguous
            },
            "retired_ids": {i: {"cuis": list(m.cuis), "relation": m.retired, "mentions": n[i]} for i, m in self.mapped.items() if m.retired},
            "retired_mentions_by_relation": dict(sorted(self._retired.items())),
            "mapped_mentions_by_map": {split: dict(sorted(self._mentions_by_map[split].items())) for split in sorted(self.splits)},
        }

    def mentions_by_id(self) -> list[tuple[str, int]]:
        """(id, number of mentions), sorted by id."""
        return sorted(self._mentions_by_id.items())

    def unmapped_rows(self, licensed: bool) -> list[dict[str, Any]]:
        """Rows of unmapped.csv, most frequent first; without surfaces if the corpus is licensed."""
        rows = []
        for key, counts in self._unmapped_by_split.items():
            shown = [] if licensed else sorted(self._unmapped_surfaces[key].items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
            row = {"ids": "|".join(key[0]), "reason": key[1], "surfaces": "; ".join(surface for surface, _ in shown)}
            rows.append(row | {split: counts[split] for split in tables.SPLITS})
        return sorted(rows, key=lambda row: (-sum(row[s] for s in tables.SPLITS), row["ids"], row["reason"]))

    def _split(self, split: str) -> Counter[str]:
        if split not in self.splits:
            self.splits[split] = Counter()
            self._distinct[split] = {key: set() for key in ("ids", "cuis", "surfaces", "lower", "normalized")}
        return self.splits[split]


def reason_of(ids: Iterable[str], mapped: Mapping[str, MappedId]) -> str:
    """Why a mention has no CUI: the reason of its first id, or `no_id` if it has no id."""
    return next((mapped[i].reason for i in ids if i), "no_id")


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0
