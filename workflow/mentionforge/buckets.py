"""Out-of-distribution buckets of mentions, by surface and concepts of the training split (paper, out-of-distribution concepts).

In: surface and CUIs of a mention, and those of the training split. Out: name of its bucket. Knows nothing of files and scores.
"""

from __future__ import annotations

from collections.abc import Collection


class Buckets:
    """Assigns buckets to mentions; those of the training split must come first."""

    def __init__(self) -> None:
        self._pairs: set[tuple[str, str]] = set()
        self._cuis: set[str] = set()

    @property
    def any_train(self) -> bool:
        """Whether a training mention with a CUI has been added."""
        return bool(self._cuis)

    def add(self, surface: str, cuis: Collection[str], train: bool) -> str:
        """The bucket of a mention, one of `tables.BUCKETS`.

        Args:
            surface: Normalized surface form (`text.normalize_surface`).
            cuis: Its CUIs; any of a composite's or ambiguous id's CUIs counts.
            train: Whether the mention belongs to the training split.

        Returns:
            `unmapped` without a CUI; `unseen_concept` if no training mention has any of its CUIs; `seen_mention` if a training mention has
            the same surface and one of its CUIs; else `seen_concept`. Training mentions are compared with themselves too, so each is
            `seen_mention` or `unmapped`.
        """
        if train:
            self._pairs.update((surface, cui) for cui in cuis)
            self._cuis.update(cuis)
        if not cuis:
            return "unmapped"
        if self._cuis.isdisjoint(cuis):
            return "unseen_concept"
        return "seen_mention" if any((surface, cui) in self._pairs for cui in cuis) else "seen_concept"
