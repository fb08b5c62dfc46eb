"""Counts of a corpus, gathered mention by mention, so that no more than distinct ids, CUIs and surfaces is kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mentionforge import tables, text
from mentionforge.corpora.buckets import is_cut
from mentionforge.corpora.concepts import Mapped
from mentionforge.corpora.documents import Annotation
from mentionforge.text import Span

LENGTHS = (1, 2, 3, 4, 5)
"""Words of a mention; longer ones are counted together."""

SHOWN = 5
"""Surfaces shown for a combination of unmapped ids, if the corpus is not licensed."""

UNMAPPED_COLUMNS = ("ids", "reason", *tables.SPLITS, "surfaces")
"""Columns of unmapped.csv: ids as annotated, why they have no CUI, mentions per split, and the most frequent surfaces."""


@dataclass(frozen=True)
class Gold:
    """One row of the mentions table."""

    doc_id: str
    mention_id: str
    split: str
    annotation: Annotation
    surface: str
    expanded: str | None = None


@dataclass
class Stats:
    """Counts per split and over all; `add` in the order train, dev, test, because the others are compared with train."""

    mapped: Mapping[str, Mapped]
    splits: dict[str, Counter[str]] = field(default_factory=dict)
    _unmapped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _distinct: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    _mentions_of: Counter[str] = field(default_factory=Counter)
    _retired: Counter[str] = field(default_factory=Counter)
    _ways: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _listed: dict[tuple[tuple[str, ...], str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _surfaces: dict[tuple[tuple[str, ...], str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add_document(self, split: str, sentences: Sequence[Span]) -> None:
        """Count a document that is written."""
        self._split(split)["documents"] += 1
        self.splits[split]["sentences"] += len(sentences)

    def add(self, g: Gold, cuis: Sequence[str], bucket: str, sentences: Sequence[Span]) -> None:
        """Count a mention that is written."""
        counts, ids = self._split(g.split), [i for i in g.annotation.ids if i]
        mapped = [self.mapped[i] for i in g.annotation.ids]
        counts["mentions"] += 1
        counts[f"bucket {bucket}"] += 1
        counts["partly_mapped"] += bool(cuis) and not all(m.cuis for m in mapped)
        counts["ambiguous"] += any(m.ambiguous for m in mapped)
        counts["composite"] += g.annotation.composite
        counts["discontinuous"] += len(g.annotation.spans) > 1
        counts["abbreviations_expanded"] += g.expanded is not None
        counts["cut_by_sentence_boundary"] += is_cut(g.annotation.spans, sentences)
        length = len(text.words(g.surface))
        counts["words"] += length
        counts["characters"] += len(g.surface)
        counts[f"length {min(length, LENGTHS[-1] + 1)}"] += 1
        known, normalized = self._distinct.get("train", {}), text.normalize_surface(g.surface)
        if g.split != "train":
            counts["unseen_ids"] += bool(ids) and known.get("ids", set()).isdisjoint(ids)
            counts["unseen_lower"] += g.surface.lower() not in known.get("lower", ())
            counts["unseen_normalized"] += normalized not in known.get("normalized", ())
        own = self._distinct[g.split]
        own["ids"].update(ids)
        own["cuis"].update(cuis)
        own["surfaces"].add(g.surface)
        own["lower"].add(g.surface.lower())
        own["normalized"].add(normalized)
        self._mentions_of.update(g.annotation.ids)
        if not cuis:
            reason = reason_of(g.annotation.ids, self.mapped)
            self._unmapped[g.split][reason] += 1
            self._listed[tuple(ids), reason][g.split] += 1
            self._surfaces[tuple(ids), reason][normalized] += 1
        if way := next((m.retired for m in mapped if m.retired), ""):
            self._retired[way] += 1
        if way := next((m.via for m in mapped if m.via), ""):
            self._ways[g.split][way] += 1

    def per_split(self) -> dict[str, Any]:
        """Counts per split.

        `unseen_ids` counts mentions with at least one id, none of which a training mention has: the out-of-distribution count by MeSH and
        OMIM id. `cut_by_sentence_boundary`: mentions that no sentence holds wholly.
        """
        stats = {}
        for split, c in self.splits.items():
            own, n = self._distinct[split], c["mentions"]
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
                "unique_ids": len(own["ids"]),
                "unique_cuis": len(own["cuis"]),
                "unique_surfaces": len(own["surfaces"]),
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

    def of_mapping(self) -> dict[str, Any]:
        """Which ids have no CUI and why, several CUIs, or a retired CUI, each with its number of mentions; and which map gave mentions their CUIs."""
        listed: dict[str, dict[str, int]] = defaultdict(dict)
        n = self._mentions_of
        for i, m in sorted(self.mapped.items()):
            if m.reason and i:
                listed[m.reason][i] = n[i]
        return {
            "unmapped": dict(sum(self._unmapped.values(), Counter[str]())),
            "unmapped_ids": dict(listed),
            "ambiguous_ids": {
                i: {"cuis": list(m.cuis), "mentions": n[i]} | ({"left_out": list(m.left_out)} if m.left_out else {})
                for i, m in self.mapped.items()
                if m.ambiguous
            },
            "retired_ids": {i: {"cuis": list(m.cuis), "relation": m.retired, "mentions": n[i]} for i, m in self.mapped.items() if m.retired},
            "retired_mentions_by_relation": dict(sorted(self._retired.items())),
            "mapped_mentions_by_map": {split: dict(sorted(self._ways[split].items())) for split in sorted(self.splits)},
        }

    def mentions_of(self) -> list[tuple[str, int]]:
        """Each id, and how many mentions have it."""
        return sorted(self._mentions_of.items())

    def unmapped_rows(self, licensed: bool) -> list[dict[str, Any]]:
        """Rows of unmapped.csv, the most frequent first; of a licensed corpus without surfaces."""
        rows = []
        for key, counts in self._listed.items():
            shown = [] if licensed else sorted(self._surfaces[key].items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
            row = {"ids": "|".join(key[0]), "reason": key[1], "surfaces": "; ".join(surface for surface, _ in shown)}
            rows.append(row | {split: counts[split] for split in tables.SPLITS})
        return sorted(rows, key=lambda row: (-sum(row[s] for s in tables.SPLITS), row["ids"], row["reason"]))

    def _split(self, split: str) -> Counter[str]:
        if split not in self.splits:
            self.splits[split] = Counter()
            self._distinct[split] = {key: set() for key in ("ids", "cuis", "surfaces", "lower", "normalized")}
        return self.splits[split]


def reason_of(ids: Iterable[str], mapped: Mapping[str, Mapped]) -> str:
    """Why a mention has no CUI: the reason of its first id, and `no_id` only if it has none at all."""
    return next((mapped[i].reason for i in ids if i), "no_id")


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
