"""Linear layers that compute in 8-bit integers on a CPU.

In: a model in float32. Out: the same model, its linear layers replaced. Faster, and nearly the same: a vector has an error of about one per cent.
The result of a row does not depend on the other rows. Knows nothing of tags and texts.
"""

# y = W x + b, with x and each row of W as integers times a scale. Weights: -63 to 63, one scale per row, rounded once. Inputs: -127 to 127, shifted
# by 128 to be unsigned, one scale per input vector, found when it comes (dynamic). So two products fit in the 16 bits that processors with AVX2 add
# them in (2 * 255 * 63 < 32,768); with 127 for both, they would be cut off there, and right on newer processors only.

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LARGEST_WEIGHT, LARGEST_INPUT, SHIFT = 63, 127, 128

ROWS = 128
"""Rows that are converted at a time, so that they stay in the cache of the processor."""


class Int8Linear(nn.Module):
    """A linear layer in integers."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.data.float()
        self.scale = weight.abs().amax(1).clamp(min=1e-8) / LARGEST_WEIGHT
        codes = torch.round(weight / self.scale[:, None]).to(torch.int8)
        self.zeros = torch.zeros(len(codes), dtype=torch.int32)
        self.bias = torch.zeros(len(codes)) if linear.bias is None else linear.bias.data.float()
        self.packed = torch.ops.onednn.qlinear_prepack(codes, [1024, codes.shape[1]])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Float32 [..., in] to float32 [..., out]."""
        x = inputs.reshape(-1, inputs.shape[-1])
        codes = torch.empty(x.shape, dtype=torch.uint8)
        largest = torch.empty(len(x), 1)
        for i in range(0, len(x), ROWS):
            part = x[i : i + ROWS]
            top = torch.amax(part.abs(), 1, keepdim=True, out=largest[i : i + ROWS]).clamp_(min=1e-8)
            codes[i : i + ROWS] = (part * (LARGEST_INPUT / top)).add_(SHIFT + 0.5)  # the conversion cuts off: this rounds
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, 1 / LARGEST_INPUT, SHIFT, self.packed, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        for i in range(0, len(y), ROWS):
            y[i : i + ROWS].mul_(largest[i : i + ROWS]).add_(self.bias)
        return y.view(*inputs.shape[:-1], y.shape[-1])


def in_int8(model: Any) -> Any:
    """The model, with all of its linear layers in integers; it can no longer be trained."""
    for name, child in list(model.named_children()):
        if type(child) is nn.Linear:
            setattr(model, name, Int8Linear(child))
        else:
            in_int8(child)
    return model
