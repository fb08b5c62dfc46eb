"""Out-of-distribution buckets of mentions against the training split (paper, section on out-of-distribution concepts)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence

from mentionforge.text import Span


def ood_buckets(surfaces: Sequence[str], cuis: Sequence[Collection[str]], train: Sequence[bool]) -> list[str]:
    """The bucket of each mention, one of `tables.BUCKETS`; one pass over the training mentions, one over all.

    Args:
        surfaces: Normalized surface forms (`text.normalize_surface`).
        cuis: CUIs of each mention; any of a composite's or ambiguous id's CUIs counts.
        train: Whether the mention belongs to the training split.

    Returns:
        `unmapped` without a CUI; `unseen_concept` if no training mention has any of its CUIs; `seen_mention` if a training
        mention has the same surface and one of its CUIs; else `seen_concept`. Training mentions are compared with
        themselves too, so each is `seen_mention` or `unmapped`.
    """
    seen_pairs = {(surface, cui) for surface, own, is_train in zip(surfaces, cuis, train, strict=True) if is_train for cui in own}
    seen_cuis = {cui for _, cui in seen_pairs}

    def bucket(surface: str, own: Collection[str]) -> str:
        if not own:
            return "unmapped"
        if seen_cuis.isdisjoint(own):
            return "unseen_concept"
        return "seen_mention" if any((surface, cui) in seen_pairs for cui in own) else "seen_concept"

    return [bucket(surface, own) for surface, own in zip(surfaces, cuis, strict=True)]


def is_cut(spans: Sequence[Span], sentences: Sequence[Span]) -> bool:
    """Whether no sentence holds all pieces of a mention; `sentences` in rising order, not overlapping."""
    start, end = spans[0][0], spans[-1][1]
    i = bisect_right(sentences, start, key=lambda s: s[0]) - 1
    return i < 0 or end > sentences[i][1]
