"""GPUs are claimed by processes that really run at the same time; the GPUs are names, which is all that a claim deals with."""

import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from checkout import ROOT
from mentionforge.config import LlmGenerator
from mentionforge.devices import visible

JOB = """
import os, sys, time
from mentionforge.devices import claim
claim(int(sys.argv[1]))
begun = time.time()
time.sleep(float(sys.argv[2]))
print(os.environ["CUDA_VISIBLE_DEVICES"], begun, time.time(), flush=True)
"""


def start(tmp: Path, names: str, count: int, seconds: float, **more: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "SLURM_JOB_ID")}
    environment |= {"CUDA_VISIBLE_DEVICES": names, "TMPDIR": str(tmp), **more}
    return subprocess.Popen([sys.executable, "-c", JOB, str(count), str(seconds)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(jobs: list[subprocess.Popen[str]]) -> list[tuple[list[str], float, float]]:
    found = []
    for job in jobs:
        said, wrong = job.communicate(timeout=60)
        assert job.returncode == 0, wrong
        names, begun, end = said.split()
        found.append((names.split(","), float(begun), float(end)))
    return found


@pytest.mark.parametrize("needs", [[1] * 6, [2, 1, 2, 1, 1]])
def test_no_two_jobs_have_a_gpu_at_the_same_time(needs: list[int], tmp_path: Path) -> None:
    spans = ended([start(tmp_path, "3,5", need, 0.4) for need in needs])
    assert sorted(len(names) for names, _, _ in spans) == sorted(needs)
    for gpu in ("3", "5"):
        taken = sorted((begun, end) for names, begun, end in spans if gpu in names)
        assert len(taken) >= 2, "both are used"
        assert all(first[1] <= second[0] for first, second in pairwise(taken)), (gpu, taken)


def test_a_killed_job_leaves_its_gpu_to_the_next(tmp_path: Path) -> None:
    holders = [start(tmp_path, "0,1", 1, 600) for _ in range(2)]
    for holder in holders:
        assert "on GPU" in holder.stderr.readline()
    waiting = start(tmp_path, "0,1", 1, 0)
    assert "all 2 GPUs are taken" in waiting.stderr.readline()
    time.sleep(1.2)
    assert waiting.poll() is None, "it waits"
    holders[0].send_signal(signal.SIGKILL)
    [(got, _, _)] = ended([waiting])
    holders[1].send_signal(signal.SIGKILL)
    for holder in holders:
        holder.communicate()
    assert len(got) == 1 and got[0] in ("0", "1")


def test_nothing_is_claimed_where_nothing_is_to_share(tmp_path: Path) -> None:
    assert ended([start(tmp_path, "7", 1, 0)])[0][0] == ["7"], "one GPU"
    assert ended([start(tmp_path, "0,1", 0, 0)])[0][0] == ["0", "1"], "a server has the GPU"
    assert ended([start(tmp_path, "0,1", 1, 0, LOCAL_RANK="1")])[0][0] == ["0", "1"], "one process of a training on several"
    assert not list(tmp_path.glob("mentionforge-gpus-*"))


def test_jobs_of_a_scheduler_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Two jobs on one node, each with two GPUs that both call 0 and 1."""
    begun = time.monotonic()
    jobs = [start(tmp_path, "0,1", 1, 3, SLURM_JOB_ID=str(job)) for job in (11, 11, 12, 12)]
    assert sorted(names[0] for names, _, _ in ended(jobs)) == ["0", "0", "1", "1"]
    assert time.monotonic() - begun < 5.9, "side by side"


def test_gpus_are_found_without_cuda(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible({}, tmp_path) == ["0", "1"]
    assert visible({"CUDA_VISIBLE_DEVICES": "GPU-8ab, MIG-1"}, tmp_path) == ["GPU-8ab", " MIG-1"]
    assert visible({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []


def commands_with_a_gpu() -> list[tuple[str, str]]:
    """Stage and verb of each rule to which profiles/gpu gives a GPU."""
    rules = yaml.safe_load((ROOT / "profiles/gpu/config.yaml").read_text())["set-resources"]
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    found = set()
    for rule in rules:
        rule = {"sample_vllm": "sample"}.get(rule, rule)  # the same command
        body = re.search(rf"^rule {rule}:.*?shell:\n.*?(?:mentionforge|params.program}}) (\S+) (\S+)", text, re.M | re.S)
        assert body, rule
        found.add((body.group(1), body.group(2)))
    return sorted(found)


@pytest.mark.parametrize(("stage", "verb"), commands_with_a_gpu())
def test_every_command_with_a_gpu_claims_it(stage: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else, in particular before torch can look at the GPUs."""
    module = importlib.import_module(f"mentionforge.{stage}.commands")

    def stop(count: int = 1) -> None:
        raise KeyError(f"claimed {count}")

    monkeypatch.setattr(module, "claim", stop)
    if stage == "generation":
        monkeypatch.setattr(
            module, "_read", lambda spec: LlmGenerator.model_validate({"kind": "llm", "kb": "k", "model": "m", "finetune": {"corpus": "c", "devices": 3}})
        )
    [command] = [c for c in module.app.registered_commands if c.name == verb]
    line = [verb]
    for name, parameter in inspect.signature(command.callback).parameters.items():
        if parameter.default.default is ... or name == "model":
            line += [f"--{name.replace('_', '-')}", {"schedule": "real_only", "seed": "1"}.get(name, str(tmp_path / "x"))]
    done = CliRunner().invoke(module.app, line)
    assert repr(done.exception) == repr(KeyError(f"claimed {3 if verb == 'finetune' else 1}")), (done.exception, done.output)
