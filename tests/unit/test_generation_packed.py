"""Weights in float16 on a CPU: products against those in float64, and equal bits in batches of every size."""

import os
import subprocess
import sys

import pytest
import torch

from mentionforge.generation import packed, weights
from tiny import tiny_model

pytestmark = pytest.mark.skipif(not packed.available(), reason="this build of torch has no matrix products with weights in float16")


def test_a_packed_layer_multiplies_with_weights_rounded_to_float16():
    torch.manual_seed(2)
    linear = torch.nn.Linear(70, 45)
    x = torch.randn(2, 7, 70)
    exact = x.double() @ linear.weight.half().double().T + linear.bias.double()
    with torch.no_grad():
        found = packed.pack(torch.nn.Sequential(linear))(x)
    assert found.shape == (2, 7, 45) and float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())


ROWS_OF_ANY_BATCH = """
import torch
from mentionforge.generation import packed
torch.manual_seed(4)
layer = packed.pack(torch.nn.Sequential(torch.nn.Linear(96, 64, bias=False)))
x = torch.randn(140, 96)
with torch.no_grad():
    alone = torch.cat([layer(row[None]) for row in x])
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert [n for n in range(1, 141) if not torch.equal(layer(x[:n]), alone[:n])] == [], threads
"""


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["default", "AVX2"])
def test_a_row_has_the_same_bits_in_a_batch_of_any_size(root, instructions):
    older = {"ATEN_CPU_CAPABILITY": "avx2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"} if instructions == "AVX2" else {}
    done = subprocess.run([sys.executable, "-c", ROWS_OF_ANY_BATCH], cwd=root, env=os.environ | older, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_in_float16_writes_logits_like_those_in_float32_and_its_embeddings_stay(tmp_path):
    stamp = tiny_model(tmp_path / "tiny")
    full, half = (weights.load_for_sampling(stamp, None, dtype) for dtype in (torch.float32, torch.float16))
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        a, b = full(ids).logits, half(ids).logits
    assert b.dtype == half.dtype == torch.float32 and 0 < float((a - b).abs().max()) < 2e-2 * float(a.abs().max())
    assert torch.equal(half.get_input_embeddings().weight, full.get_input_embeddings().weight)
    assert not any(type(module) is torch.nn.Linear for module in half.modules())
