"""Augmentation strategies: select the synthetic notes that join a corpus' training split, by their concepts.

In: located notes (id and CUI) and the gold mentions of a corpus. Out: table `chosen`. A concept is in a split if a mention of the split has its CUI; a mention
may have several. Knows nothing about texts of notes and documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.entries import Entry
from mentionforge.provenance import digest

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
"""Version of the part augmentation.choose: raise it if earlier results would be wrong (mentionforge.versions)."""


class Strategy(Entry):
    """Which concepts' synthetic notes join a corpus' training split (paper, section on augmentation)."""

    part: ClassVar[str] = "augmentation.choose"

    keep: Literal["none", "all", "in_test", "not_in_train", "not_in_test"] = Field(description="Concepts whose notes are kept, against the corpus' splits.")
    notes_per_concept: int | None = Field(None, ge=0, examples=[2], description="At most this many located notes per concept (dose); none: all.")
    notes_per_mention: float | None = Field(
        None,
        ge=0,
        examples=[1.5],
        description="At most this many notes per mention of the training split that has a concept (mixing ratio synthetic : real); none: all.",
    )

    @property
    def avoids_test(self) -> bool:
        """Whether it keeps the test split's concepts out, so that a gain cannot come from their notes (the paper's ablation)."""
        return self.keep == "not_in_test"


def keeps(keep: str, cui: str, train: frozenset[str], test: frozenset[str]) -> bool:
    """Whether a strategy keeps the notes of a concept.

    Args:
        keep: none, all, in_test, not_in_train or not_in_test (paper: none, naive, ideal, supplemental, ablation).
        cui: Concept of the note.
        train: Concepts of the training split.
        test: Concepts of the test split.
    """
    return {"none": False, "all": True, "in_test": cui in test, "not_in_train": cui not in train, "not_in_test": cui not in test}[keep]


def choose(strategy: Strategy, notes: Sequence[tuple[str, str]], train: Iterable[str], test: Iterable[str], mentions: int = 0) -> list[tuple[str, str]]:
    """The (note_id, cui) pairs that the strategy keeps, by note_id.

    A dose (`notes_per_concept`) keeps the first notes of each concept by number. After it, a mixing ratio (`notes_per_mention`) keeps the first notes in an
    order that depends on their ids only. So a larger dose or ratio contains a smaller one.

    Args:
        strategy: The strategy.
        notes: The located notes (note_id, cui).
        train: Concepts of the training split.
        test: Concepts of the test split.
        mentions: Number of mentions of the training split that have a concept.
    """
    train_cuis, test_cuis = frozenset(train), frozenset(test)
    kept = [(note, cui) for note, cui in sorted(notes, key=_note_order) if keeps(strategy.keep, cui, train_cuis, test_cuis)]
    return sorted(_limited_by_ratio(_limited_by_dose(kept, strategy.notes_per_concept), strategy.notes_per_mention, mentions))


def _limited_by_ratio(kept: list[tuple[str, str]], ratio: float | None, mentions: int) -> list[tuple[str, str]]:
    """At most `ratio` notes per mention: the first by the digest of their ids."""
    if ratio is None:
        return kept
    return sorted(kept, key=lambda row: (digest(row[0]), row[0]))[: int(ratio * mentions)]


def _limited_by_dose(kept: list[tuple[str, str]], dose: int | None) -> list[tuple[str, str]]:
    """The first `dose` notes of each concept; the order stays."""
    if dose is None:
        return kept
    count: dict[str, int] = {}
    limited = []
    for note, cui in kept:
        count[cui] = count.get(cui, 0) + 1
        if count[cui] <= dose:
            limited.append((note, cui))
    return limited


def _note_order(row: tuple[str, str]) -> tuple[str, int, str]:
    """Sort key: the CUI and the number in a note id CUI-NUMBER."""
    stem, _, number = row[0].rpartition("-")
    return (stem, int(number), "") if number.isdigit() else (row[0], 0, "")


def concepts_of(mentions: pa.Table, split: str) -> set[str]:
    """CUIs of a split's mentions."""
    return {cui for row_split, cuis in zip(mentions["split"].to_pylist(), mentions["cuis"].to_pylist(), strict=True) if row_split == split for cui in cuis}


def choose_notes(spec: Path, located: Path, mentions: Path, out: Path) -> pa.Table:
    """Write the notes that a strategy adds to a corpus (tables.CHOSEN).

    Args:
        spec: Spec file of the strategy.
        located: Located notes of a generator (tables.LOCATED).
        mentions: Gold mentions of the corpus (tables.MENTIONS).
        out: Parquet file to write.
    """
    from mentionforge import tables
    from mentionforge.progress import say
    from mentionforge.provenance import stamp
    from mentionforge.specs import read_spec

    strategy: Strategy = read_spec(spec, Strategy)
    notes = tables.read(tables.LOCATED, located)
    gold = tables.read(tables.MENTIONS, mentions)
    train, test = concepts_of(gold, "train"), concepts_of(gold, "test")
    real = sum(split == "train" and bool(cuis) for split, cuis in zip(gold["split"].to_pylist(), gold["cuis"].to_pylist(), strict=True))
    kept = choose(strategy, list(zip(notes["note_id"].to_pylist(), notes["cui"].to_pylist(), strict=True)), train, test, real)
    counts = {"notes": len(notes), "kept": len(kept), "train_concepts": len(train), "test_concepts": len(test), "train_mentions": real}
    say(f"kept {len(kept):,} of {len(notes):,} notes ({strategy.keep}; {len(train):,} concepts in train, {len(test):,} in test)")
    provenance = stamp("augmentation choose", {"spec": spec, "located": located, "mentions": mentions}, counts=counts, strategy=strategy.model_dump())
    return tables.write(tables.CHOSEN, out, [{"note_id": note, "cui": cui} for note, cui in kept], provenance)
