"""Drawing tokens: each note has a stream of uniform numbers of its own, turned into tokens by the inverse of the cumulative distribution.

That is exact sampling, and independent of what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CANDIDATES = 1024
"""Tokens among which the nucleus is looked for first: sorting the whole vocabulary costs as much as a small model's step."""


def stream(seed: int, steps: int) -> Any:
    """`steps` numbers of a note, float32 in [0, 1 - 2^-24]: times a sum in float64 each stays below that sum. Made on the CPU: the same on every device."""
    import torch

    return torch.rand(steps, generator=torch.Generator().manual_seed(seed))


def drawn(scores: Any, uniform: Any, top_p: float) -> Any:
    """Token ids [rows, 1], from scores [rows, vocabulary] after temperature and one uniform number per row [rows].

    Args:
        scores: Logits.
        uniform: Numbers in [0, 1).
        top_p: The fewest most likely tokens that together have this probability are drawn from.
    """
    uniform = uniform.to(scores.device).double()
    if top_p < 1:
        # A graph of a GPU's work holds no decisions: there the whole vocabulary is sorted at once.
        return _from_nucleus(scores, uniform, top_p, scores.shape[-1] if scores.is_cuda else CANDIDATES)
    cumulative = scores.double().softmax(-1).cumsum(-1)
    return _first_past(cumulative, uniform * cumulative[:, -1])


def only(scores: Any, tokens: Any) -> Any:
    """Scores that are 0 at each row's token and -inf elsewhere, so that arg-max takes it."""
    import torch

    return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)


def _from_nucleus(scores: Any, uniform: Any, top_p: float, candidates: int) -> Any:
    """Tokens [rows, 1] from the likeliest ones; rows whose nucleus is wider than the candidates look at the whole vocabulary.

    Each row decides for itself: the order of equal scores depends on the number of candidates, so a row that took more because a
    neighbour needs them would draw another of its tokens.
    """
    vocabulary = scores.shape[-1]
    top, tokens = scores.topk(min(candidates, vocabulary))
    probability = (top - scores.logsumexp(-1, keepdim=True)).double().exp()
    cumulative = probability.cumsum(-1)
    inside = (cumulative - probability) < top_p  # the likeliest token always is
    mass = cumulative.gather(-1, inside.sum(-1, keepdim=True) - 1).squeeze(-1)
    found = tokens.gather(-1, _first_past(cumulative, uniform * mass))
    if candidates < vocabulary and bool((wider := cumulative[:, -1] < top_p).any()):
        found[wider] = _from_nucleus(scores[wider], uniform[wider], top_p, vocabulary)
    return found


def _first_past(cumulative: Any, numbers: Any) -> Any:
    """Place [rows, 1] of each row's first sum above its number."""
    return (cumulative > numbers[:, None]).int().argmax(-1, keepdim=True)


class Draw:
    """A logits processor for `generate` that leaves one token per row, drawn with that row's own numbers; to be used with arg-max.

    Args:
        seeds: One per row.
        width: Tokens of the (padded) prompt.
        steps: Most tokens written.
        top_p: See `drawn`.
    """

    def __init__(self, seeds: Sequence[int], width: int, steps: int, top_p: float = 1.0) -> None:
        import torch

        self.width, self.top_p = width, top_p
        self.uniform = torch.stack([stream(seed, steps) for seed in seeds])  # [rows, steps]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores [rows, vocabulary] become 0 at the token drawn and -inf elsewhere."""
        return only(scores, drawn(scores, self.uniform[:, input_ids.shape[1] - self.width], self.top_p))
