"""Online mining of hard pairs in a training batch.

In: vectors of a batch, and the concepts of each string. Out: hard positive and hard negative pairs for the loss.
Knows nothing of encoders and losses. Two strings that share a concept are never a negative pair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

# A positive pair (anchor, positive) is two strings drawn for the same concept. A negative pair (anchor, negative) is two strings without a common
# concept. Example: the strings and the concepts they were drawn for are
#
#     diabetes mellitus (C1)    DM (C1)    dermatomyositis (C2)
#
# and "DM" is a name of both C1 and C2. Then diabetes mellitus/DM is positive and diabetes mellitus/dermatomyositis is negative. DM/dermatomyositis is
# neither: drawn for different concepts, but C2 is common to both, so they must not be pushed apart.
#
# A pair is hard if some pair of the other sign at the same anchor violates a margin:
#
# - `triplet`: the negative is at most `margin` farther from the anchor than the positive, by Euclidean distance. With the margin 0.2, a positive
#   at 0.5 and negatives at 0.6 and 0.9, the pairs at 0.5 and 0.6 are hard and the one at 0.9 is not. These are the pairs of all triplets that
#   SapBERT's published code mines (`TripletMarginMiner`, margin 0.2, all triplets).
# - `multi_similarity`: the cosine of the negative is less than `margin` below that of the positive (`MultiSimilarityMiner`).


HardPairs = tuple[Any, Any, Any, Any]
"""Indices of anchors and positives, then of anchors and negatives, as the losses of pytorch-metric-learning read them."""


def share_concept(concepts: Sequence[Collection[str]]) -> np.ndarray:
    """Whether two strings share a concept, bool [strings, strings].

    Args:
        concepts: All concepts of each string.
    """
    common = np.zeros((len(concepts), len(concepts)), bool)
    bearers: dict[str, list[int]] = {}
    for place, cuis in enumerate(concepts):
        for cui in cuis:
            bearers.setdefault(cui, []).append(place)
    for places in bearers.values():
        common[np.ix_(places, places)] = True
    return common


def hard_pairs(vectors: Any, labels: Any, common: Any, miner: Literal["triplet", "multi_similarity"], margin: float) -> HardPairs:
    """The hard pairs of a batch.

    Args:
        vectors: float [strings, dimensions], a tensor.
        labels: Concept that each string was drawn for, int64 [strings].
        common: Whether two strings share a concept, bool [strings, strings].
        miner: Definition of a hard pair; see the top of the module.
        margin: Margin of the miner.
    """
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity, LpDistance

    with torch.no_grad():
        # Distances for both miners, [anchors, strings]: a negative is hard if it is not much farther than some positive.
        apart = LpDistance()(vectors) if miner == "triplet" else -CosineSimilarity()(vectors)
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        negative = ~same & ~common
        far = torch.finfo(apart.dtype).max
        nearest_negative = torch.where(negative, apart, far).amin(1, keepdim=True)
        farthest_positive = torch.where(positive, apart, -far).amax(1, keepdim=True)
        if miner == "triplet":
            positive &= nearest_negative - apart <= margin
            negative &= apart - farthest_positive <= margin
        else:
            positive &= apart + margin > nearest_negative
            negative &= apart - margin < farthest_positive
        # An anchor without a pair of the other sign has no hard pair: no distance reaches its limit.
        anchors, positives = torch.where(positive)
        others, negatives = torch.where(negative)
        return anchors, positives, others, negatives
