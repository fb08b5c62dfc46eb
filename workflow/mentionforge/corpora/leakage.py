"""Detect leakage: generated notes, or texts that a generator was fine-tuned on, that overlap with test documents.

In: a corpus, and a generator's notes, fine-tuning pairs and fine-tuning corpus. Out: a CSV list of overlaps; a UserError or a warning at a leak.
Texts are compared by word n-grams (case folded, without punctuation). Knows nothing of how texts are generated.
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
"""Version of the part corpora.leakage; raise it if earlier results would be wrong (mentionforge.versions)."""

COLUMNS = ("kind", "id", "doc_id", "shared", "ngrams", "share", "same_id", "leak")
"""Columns of the list: kind (`document`, `pair`, `note`), id of the text, test document, shared n-grams, n-grams of the shorter text, …"""

LISTED_BELOW = 20
"""Texts below the threshold that are listed: those with the greatest shares."""

EXAMPLES = 5
"""Pairs of ids that a message names."""


@dataclass(frozen=True)
class Match:
    """A text and the test document with which it shares most n-grams."""

    kind: str
    id: str
    doc_id: str
    shared: int
    ngrams: int
    same_id: bool
    leak: bool

    @property
    def share(self) -> float:
        """Shared n-grams as a share of those of the shorter text."""
        return _share(self.shared, self.ngrams)


class NgramIndex:
    """Index of test documents by their word n-grams."""

    def __init__(self, documents: Iterable[tuple[str, str]], settings: LeakageGuard) -> None:
        """`documents`: (id, text) pairs."""
        self._settings = settings
        self._sizes: dict[str, int] = {}
        self._owners: dict[str, list[str]] = defaultdict(list)
        for doc_id, text in documents:
            grams = ngrams(text, settings.n)
            self._sizes[doc_id] = len(grams)
            for gram in grams:
                self._owners[gram].append(doc_id)

    def match(self, kind: str, text_id: str, text: str, doc_id: str | None = None) -> Match | None:
        """The test document with the greatest share of n-grams, ties by id; None if no document shares any.

        Args:
            kind: `document`, `pair` or `note`.
            text_id: Id of the text.
            text: The text.
            doc_id: Id of the document in its own corpus; an equal id of a test document is a leak, whatever the text.
        """
        grams = ngrams(text, self._settings.n)
        shared = Counter(owner for gram in grams for owner in self._owners.get(gram, ()))
        if doc_id in self._sizes:
            return Match(kind, text_id, doc_id, shared[doc_id], min(len(grams), self._sizes[doc_id]), same_id=True, leak=True)
        matches = []
        for owner, count in shared.items():
            size = min(len(grams), self._sizes[owner])
            leak = count >= self._settings.min_shared and _share(count, size) > self._settings.max_share
            matches.append(Match(kind, text_id, owner, count, size, same_id=False, leak=leak))
        return min(matches, key=lambda m: (not m.leak, -m.share, -m.shared, m.doc_id), default=None)


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0


def ngrams(text: str, n: int) -> set[str]:
    """Distinct word n-grams of a text; none if it has fewer than n words."""
    words = normalize_surface(text).split()
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


def check(corpus: Path, settings: LeakageGuard, out: Path, notes: Path | None = None, pairs: Path | None = None, finetuned_on: Path | None = None) -> None:
    """Compare a generator's texts with the test documents of a corpus, and list those with the greatest overlap.

    Args:
        corpus: Folder with `tables.DOCUMENTS`; its test split is compared.
        settings: Length of the n-grams, threshold, and action.
        out: CSV file to write.
        notes: `tables.LOCATED` of the generator.
        pairs: `tables.PAIRS`, if it is fine-tuned.
        finetuned_on: Folder of the corpus of the pairs.

    Raises:
        UserError: A leak, and the action is `error`; the message names the first pairs of ids. For fine-tuning texts of another corpus, the
            action is `across_corpora`.
    """
    documents = tables.read(tables.DOCUMENTS, corpus / "documents.parquet")
    test = documents.filter(pc.equal(documents["split"], "test"))
    index = NgramIndex(zip(test["doc_id"].to_pylist(), test["text"].to_pylist(), strict=True), settings)
    same_corpus = finetuned_on is not None and finetuned_on.resolve() == corpus.resolve()
    matches = [match for source in _sources(index, notes, pairs, finetuned_on, same_corpus) for match in source if match]
    leaks = [m for m in matches if m.leak]
    listed = leaks + sorted((m for m in matches if not m.leak), key=lambda m: (-m.share, m.kind, m.id))[:LISTED_BELOW]
    rows: list[dict[str, Any]] = [{c: getattr(m, c) for c in COLUMNS} for m in sorted(listed, key=lambda m: (m.kind, not m.leak, -m.share, m.id))]
    for kind in ("document", "pair", "note"):
        of_kind = [m for m in matches if m.kind == kind]
        if of_kind:
            n = sum(m.leak for m in of_kind)
            say(
                f"{corpus.name}: {len(of_kind):,} {kind}s share {settings.n}-grams with test documents, at most {max(m.share for m in of_kind):.0%}; {n:,} leaks"
            )
    for kinds, action in ((("note",), settings.action), (("document", "pair"), settings.action if same_corpus else settings.across_corpora)):
        leaks_of_kinds = [m for m in leaks if m.kind in kinds]
        if not leaks_of_kinds:
            continue
        first = ", ".join(f"{m.kind} {m.id} and {m.doc_id} ({'same id' if m.same_id else f'{m.share:.0%}'})" for m in leaks_of_kinds[:EXAMPLES])
        why = f"{len(leaks_of_kinds):,} texts share at least {settings.min_shared} {settings.n}-grams and over {settings.max_share:.0%} with a test document, or its id: {first}"
        if action == "error":
            raise UserError(
                "leakage",
                f"test split of {corpus.name}",
                why,
                "filter or remove these texts (generators.*.filters.leakage, corpora.*.duplicates), or set leakage.action or leakage.across_corpora to report",
            )
        say(f"WARNING: leakage in the test split of {corpus.name}: {why}")
    write_csv(out, COLUMNS, rows)


def _sources(index: NgramIndex, notes: Path | None, pairs: Path | None, finetuned_on: Path | None, same: bool) -> Iterator[Iterator[Match | None]]:
    """Matches of each kind of text. Within one corpus ids are not compared: its splits are already disjoint by id."""
    if finetuned_on:
        documents = tables.read(tables.DOCUMENTS, finetuned_on / "documents.parquet")
        train = documents.filter(pc.equal(documents["split"], "train"))
        ids = train["doc_id"].to_pylist()
        yield (index.match("document", i, text, None if same else i) for i, text in zip(ids, train["text"].to_pylist(), strict=True))
    if pairs:
        table = tables.read(tables.PAIRS, pairs)
        yield (index.match("pair", i, text) for i, text in zip(table["pair_id"].to_pylist(), table["completion"].to_pylist(), strict=True))
    if notes:
        table = tables.read(tables.LOCATED, notes)
        yield (index.match("note", i, text) for i, text in zip(table["note_id"].to_pylist(), table["text"].to_pylist(), strict=True))
