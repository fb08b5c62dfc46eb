"""Holds the linear layers of a model in float16 on a CPU, and computes with them in float32.

In: a model in float32. Out: the same model, half as large, and faster on processors without fast bfloat16. A row has the same bits in a batch of any size, with
any number of threads. Knows nothing about prompts and notes.
"""

from __future__ import annotations

from typing import Any

# The matrix products are those of FBGEMM, part of torch's builds for x86. It reads its own arrangement of the weights, which spares the rearrangement in
# every product, and widens each weight to float32 in a register. FBGEMM computes rows in tiles of three to six, which add in one order. What is left at the
# end as a tile of one or two rows is added in another order (AVX2), so a product never ends with such a tile: see `MISSING`.

MISSING = {1: 2, 2: 1}
"""Rows to add, by the remainder of the rows divided by six, so that the last tile has at least three rows. `tests/unit/test_generation_packed.py` tries all."""


def available() -> bool:
    """Whether this build of torch, on this processor, has the matrix products."""
    import torch

    return torch.backends.quantized.engine in ("x86", "fbgemm") and torch.backends.cpu.get_cpu_capability() != "DEFAULT"


def pack(model: Any) -> Any:
    """The model with its linear layers packed. Weights that embeddings share with the output stay in float32 beside the packed ones."""
    import torch

    for name, child in list(model.named_children()):
        if type(child) is torch.nn.Linear:
            setattr(model, name, _packed(child))
        else:
            pack(child)
    return model


def _packed(linear: Any) -> Any:
    import torch

    class Packed(torch.nn.Module):
        """A linear layer with weights in float16."""

        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = linear.in_features, linear.out_features
            self.weights = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), linear.bias)

        def forward(self, x: Any) -> Any:
            """Product with the rows of x, [..., in_features]."""
            rows = x.reshape(-1, self.in_features)
            n = len(rows)
            rows = torch.nn.functional.pad(rows, (0, 0, 0, MISSING.get(n % 6, 0)))
            return torch.ops.quantized.linear_dynamic_fp16(rows, self.weights)[:n].view(*x.shape[:-1], self.out_features)

    return Packed()
