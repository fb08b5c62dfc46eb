"""The benchmarks of generation run from end to end, at their smallest; what they measure is another matter."""

import os
import re
import subprocess
import sys

import pytest

from checkout import ROOT
from tiny import tiny_model


def run(script, *arguments):
    line = [sys.executable, ROOT / "tests" / "benchmarks" / script, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return [re.split(r" *\| *", row)[1:-1] for row in done.stdout.splitlines() if row.startswith("| ")]


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_with_a_tiny_shape():
    rows = run("gpu.py", "--shape", "tiny", "--device", "cpu", "--lengths", 64, "--updates", 3, "--batches", 1, 2, "--prompt-tokens", 24, "--tokens", 8)
    training, made = rows[:2], rows[2:]
    assert training[0][0] == "tokens per pair" and training[1][:2] == ["64", "4"] and float(training[1][2]) > 0
    expected = [(kind, backend, n) for kind in ("nf4", "bf16") for backend in ("transformers", "continuous") for n in ("1", "2")]
    assert [tuple(r[:3]) for r in made[1:]] == expected
    for row in made[1:]:
        notes, tokens = float(row[3]), float(row[4].replace(",", ""))
        # Tokens per second are whole numbers: on a slow machine half a one is much.
        assert notes > 0 and (tokens + 0.5) / notes > 2 and (tokens - 0.5) / notes <= 8.5, "notes of eight tokens, if no random one ends them"
    assert made[0][-1] == "hours" and abs(float(made[1][-1].replace(",", "")) - 48_000 * 3 / float(made[1][3]) / 3600) < 1


@pytest.mark.slow
def test_the_gpu_benchmark_without_a_gpu_is_one_line():
    import torch

    if torch.cuda.is_available():
        return
    done = subprocess.run([sys.executable, ROOT / "tests/benchmarks/gpu.py"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: no GPU here")


@pytest.mark.slow
def test_the_benchmark_of_backends_runs(tmp_path):
    rows = run("generation.py", "--model", tiny_model(tmp_path), "--concepts", 2, "--notes", 2, "--tokens", 4, "--turns", 1, "--batch", 4, "--no-server")
    assert [r[0] for r in rows] == ["backend", "one note at a time", "transformers by `generate`", "transformers", "continuous"] and all(
        float(r[1]) > 0 for r in rows[1:]
    )
