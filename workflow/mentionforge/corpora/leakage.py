"""Leakage: whether the text that a generator learned from, or wrote, stands in the test documents that its notes are judged by.

Compared by word n-grams (case folded, punctuation left out), each text with each test document: `share` is the number of distinct n-grams that
both have, over that of the one with fewer. Texts of fewer than n words have none. Compared are the pairs that a model is fine-tuned on, the
notes, and, document by document, the training split of the fine-tuning corpus; of the last, an id that is a test document's too is a leak
whatever the text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.corpora.duplicates import write_csv
from mentionforge.corpora.settings import LeakageGuard
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.text import normalize_surface

VERSION = 1
"""Of the part corpora.leakage: raise it where earlier results would be wrong (mentionforge.versions)."""

COLUMNS = ("kind", "id", "doc_id", "shared", "ngrams", "share", "same_id", "leak")
"""Columns of the list: kind (`document`, `pair`, `note`), id of the text, test document, n-grams in common, n-grams of the shorter, …"""

BELOW = 20
"""Texts listed below the threshold, those with the greatest shares."""

FIRST = 5
"""Pairs of ids that an error names."""


@dataclass(frozen=True)
class Match:
    """A text and the test document that it shares most with."""

    kind: str
    id: str
    doc_id: str
    shared: int
    ngrams: int
    same_id: bool
    leak: bool

    @property
    def share(self) -> float:
        """Shared n-grams over those of the shorter text."""
        return _share(self.shared, self.ngrams)


class KnownDocuments:
    """Test documents by their word n-grams."""

    def __init__(self, documents: Iterable[tuple[str, str]], settings: LeakageGuard) -> None:
        """`documents`: ids and texts."""
        self._settings = settings
        self._sizes: dict[str, int] = {}
        self._owners: dict[str, list[str]] = defaultdict(list)
        for doc_id, text in documents:
            grams = ngrams(text, settings.n)
            self._sizes[doc_id] = len(grams)
            for gram in grams:
                self._owners[gram].append(doc_id)

    def match(self, kind: str, text_id: str, text: str, doc_id: str | None = None) -> Match | None:
        """The test document that a text shares most with, by share, then by id; None if there is none.

        Args:
            kind: What the text is.
            text_id: Its id.
            text: The text.
            doc_id: Its document's id in its own corpus; equal ids match whatever the text.
        """
        grams = ngrams(text, self._settings.n)
        shared = Counter(owner for gram in grams for owner in self._owners.get(gram, ()))
        if doc_id in self._sizes:
            return Match(kind, text_id, doc_id, shared[doc_id], min(len(grams), self._sizes[doc_id]), same_id=True, leak=True)
        found = []
        for owner, count in shared.items():
            size = min(len(grams), self._sizes[owner])
            leak = count >= self._settings.min_shared and _share(count, size) > self._settings.max_share
            found.append(Match(kind, text_id, owner, count, size, same_id=False, leak=leak))
        return min(found, key=lambda m: (not m.leak, -m.share, -m.shared, m.doc_id), default=None)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def ngrams(text: str, n: int) -> set[str]:
    """Distinct word n-grams of a text, none if it is shorter."""
    words = normalize_surface(text).split()
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


def check(corpus: Path, settings: LeakageGuard, out: Path, notes: Path | None = None, pairs: Path | None = None, finetuned_on: Path | None = None) -> None:
    """Compare a generator's texts with the test documents of a corpus, and list those that share most.

    Args:
        corpus: Folder with tables.DOCUMENTS, whose test split is compared.
        settings: Length of the n-grams, threshold, and what to do.
        out: CSV file to write.
        notes: tables.LOCATED of the generator.
        pairs: tables.PAIRS, if it is fine-tuned.
        finetuned_on: Folder of the corpus that the pairs are from.

    Raises:
        UserError: A leak, if the settings say so; it names the first pairs of ids. Overlap of documents of two corpora alone is told, unless
            `across_corpora` says otherwise.
    """
    documents = tables.read(tables.DOCUMENTS, corpus / "documents.parquet")
    test = documents.filter(pc.equal(documents["split"], "test"))
    known = KnownDocuments(zip(test["doc_id"].to_pylist(), test["text"].to_pylist(), strict=True), settings)
    same_corpus = finetuned_on is not None and finetuned_on.resolve() == corpus.resolve()
    matches = [match for source in _sources(known, notes, pairs, finetuned_on, same_corpus) for match in source if match]
    leaks = [m for m in matches if m.leak]
    listed = leaks + sorted((m for m in matches if not m.leak), key=lambda m: (-m.share, m.kind, m.id))[:BELOW]
    rows: list[dict[str, Any]] = [{c: getattr(m, c) for c in COLUMNS} for m in sorted(listed, key=lambda m: (m.kind, not m.leak, -m.share, m.id))]
    for kind in ("document", "pair", "note"):
        of_kind = [m for m in matches if m.kind == kind]
        if of_kind:
            n = sum(m.leak for m in of_kind)
            say(
                f"{corpus.name}: {len(of_kind):,} {kind}s share {settings.n}-grams with test documents, at most {max(m.share for m in of_kind):.0%}; {n:,} leaks"
            )
    for kinds, action in ((("note",), settings.action), (("document", "pair"), settings.action if same_corpus else settings.across_corpora)):
        found = [m for m in leaks if m.kind in kinds]
        if not found:
            continue
        first = ", ".join(f"{m.kind} {m.id} and {m.doc_id} ({'same id' if m.same_id else f'{m.share:.0%}'})" for m in found[:FIRST])
        why = f"{len(found):,} texts share at least {settings.min_shared} {settings.n}-grams and over {settings.max_share:.0%} with a test document, or its id: {first}"
        if action == "error":
            raise UserError(
                "leakage",
                f"test split of {corpus.name}",
                why,
                "filter or remove these texts (generators.*.filters.leakage, corpora.*.duplicates), or set leakage.action or leakage.across_corpora to report",
            )
        say(f"WARNING: leakage in the test split of {corpus.name}: {why}")
    write_csv(out, COLUMNS, rows)


def _sources(known: KnownDocuments, notes: Path | None, pairs: Path | None, finetuned_on: Path | None, same: bool) -> Iterator[Iterator[Match | None]]:
    """Matches of each kind of text; ids of the same corpus are told apart by its splits already."""
    if finetuned_on:
        documents = tables.read(tables.DOCUMENTS, finetuned_on / "documents.parquet")
        train = documents.filter(pc.equal(documents["split"], "train"))
        ids = train["doc_id"].to_pylist()
        yield (known.match("document", i, text, None if same else i) for i, text in zip(ids, train["text"].to_pylist(), strict=True))
    if pairs:
        table = tables.read(tables.PAIRS, pairs)
        yield (known.match("pair", i, text) for i, text in zip(table["pair_id"].to_pylist(), table["completion"].to_pylist(), strict=True))
    if notes:
        table = tables.read(tables.LOCATED, notes)
        yield (known.match("note", i, text) for i, text in zip(table["note_id"].to_pylist(), table["text"].to_pylist(), strict=True))
