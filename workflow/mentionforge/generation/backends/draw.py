"""Draws tokens. Each note has its own stream of uniform numbers, turned into tokens by the inverse of the cumulative distribution.

In: scores (logits) and uniform numbers. Out: token ids. The sampling is exact and independent of the other notes in the batch. Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CANDIDATES = 128
"""Number of likeliest tokens in which the nucleus is searched first, then among `WIDER` times as many, and so on; sorting the whole vocabulary costs as much as
a small model's step."""

WIDER = 8


def uniform_stream(seed: int, steps: int) -> Any:
    """The first `steps` uniform numbers of a note, float32 in [0, 1 - 2^-24]; made on the CPU, so that they are the same on every device.

    A number times a float64 sum stays below that sum.
    """
    import torch

    return torch.rand(steps, generator=torch.Generator().manual_seed(seed))


def draw_tokens(scores: Any, uniform: Any, top_p: float) -> Any:
    """Token ids [rows, 1], from scores [rows, vocabulary] after temperature and one uniform number per row [rows].

    Args:
        scores: Logits.
        uniform: Numbers in [0, 1).
        top_p: Tokens are drawn from the smallest set of likeliest tokens with at least this probability (the nucleus).
    """
    uniform = uniform.to(scores.device).double()
    if top_p < 1:
        # A CUDA graph cannot branch on data, so on a GPU the whole vocabulary is sorted at once.
        return _from_nucleus(scores, uniform, top_p, scores.shape[-1] if scores.is_cuda else CANDIDATES)
    cumulative = scores.double().softmax(-1).cumsum(-1)
    return _first_past(cumulative, uniform * cumulative[:, -1])


def keep_only(scores: Any, tokens: Any) -> Any:
    """Scores that are 0 at each row's token and -inf elsewhere, so that arg-max returns that token."""
    import torch

    return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)


def _from_nucleus(scores: Any, uniform: Any, top_p: float, candidates: int) -> Any:
    """Tokens [rows, 1] from the likeliest candidates; rows whose nucleus is larger search more of the vocabulary.

    Each row decides for itself. The order of equal scores depends on the number of candidates, so a row that used more of them because of a neighbour
    could draw another token.
    """
    vocabulary = scores.shape[-1]
    top, tokens = scores.topk(min(candidates, vocabulary))
    probability = (top - scores.logsumexp(-1, keepdim=True)).double().exp()
    cumulative = probability.cumsum(-1)
    inside = (cumulative - probability) < top_p  # the likeliest token always is
    mass = cumulative.gather(-1, inside.sum(-1, keepdim=True) - 1).squeeze(-1)
    drawn = tokens.gather(-1, _first_past(cumulative, uniform * mass))
    if candidates < vocabulary and bool((wider := cumulative[:, -1] < top_p).any()):
        drawn[wider] = _from_nucleus(scores[wider], uniform[wider], top_p, candidates * WIDER)
    return drawn


def _first_past(cumulative: Any, numbers: Any) -> Any:
    """Index [rows, 1] of each row's first sum above its number."""
    return (cumulative > numbers[:, None]).int().argmax(-1, keepdim=True)


class Draw:
    """A logits processor for `generate` that leaves one token per row, drawn with that row's own numbers; to be used with arg-max.

    Args:
        seeds: Seed of each row.
        width: Length of the padded prompts, in tokens.
        steps: Most tokens of a note.
        top_p: See `draw_tokens`.
    """

    def __init__(self, seeds: Sequence[int], width: int, steps: int, top_p: float = 1.0) -> None:
        import torch

        self.width, self.top_p = width, top_p
        self.uniform = torch.stack([uniform_stream(seed, steps) for seed in seeds])  # [rows, steps]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Set the scores [rows, vocabulary] to 0 at the drawn token and to -inf elsewhere."""
        return keep_only(scores, draw_tokens(scores, self.uniform[:, input_ids.shape[1] - self.width], self.top_p))
