"""GPUs are claimed by processes that really run at the same time; the GPUs are names, which is all that a claim deals with."""

import ast
import importlib
import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from checkout import ROOT
from claims import claiming, commands, rules_of
from mentionforge.devices import visible
from mentionforge.entries import Entry
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.needs import gpu_rules

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


@pytest.mark.slow
@pytest.mark.parametrize("needs", [[1] * 6, [2, 1, 2, 1, 1], [2, 2, 2, 2]])
def test_no_two_jobs_have_a_gpu_at_the_same_time(needs: list[int], tmp_path: Path) -> None:
    spans = ended([start(tmp_path, "3,5", need, 0.4) for need in needs])
    assert sorted(len(names) for names, _, _ in spans) == sorted(needs)
    for gpu in ("3", "5"):
        taken = sorted((begun, end) for names, begun, end in spans if gpu in names)
        assert len(taken) >= 2, "both are used"
        assert all(first[1] <= second[0] for first, second in pairwise(taken)), (gpu, taken)


@pytest.mark.slow
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


@pytest.mark.slow
def test_several_gpus_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    """A command that needs all of them has its turn, though others that need one keep coming."""
    first = start(tmp_path, "0,1", 1, 1.5)
    assert "on GPU" in first.stderr.readline()
    both = start(tmp_path, "0,1", 2, 0.1)
    assert "waiting for 2 of them" in both.stderr.readline()
    later = [start(tmp_path, "0,1", 1, 1.5) for _ in range(3)]
    [(names, begun, _)] = ended([both])
    assert names == ["0", "1"] and all(begun < other for _, other, _ in ended(later))
    ended([first])


def test_fewer_gpus_than_asked_for_is_one_clear_line(tmp_path: Path) -> None:
    for names in ("0,1", "7"):
        job = start(tmp_path, names, 3, 0)
        assert "too few GPUs" in job.communicate(timeout=60)[1] and job.returncode
    assert visible({"CUDA_VISIBLE_DEVICES": "-1"}) == visible({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}) == []


def test_nothing_is_claimed_where_nothing_is_to_share(tmp_path: Path) -> None:
    assert ended([start(tmp_path, "7", 1, 0)])[0][0] == ["7"], "one GPU"
    assert ended([start(tmp_path, "0,1", 0, 0)])[0][0] == ["0", "1"], "a server has the GPU"
    assert ended([start(tmp_path, "0,1", 1, 0, LOCAL_RANK="1")])[0][0] == ["0", "1"], "one process of a training on several"
    assert not list(tmp_path.glob("mentionforge-gpus-*"))


@pytest.mark.slow
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


def configuration_modules() -> set[str]:
    """Modules of the package that the configuration loads, found by a process that loads nothing else."""
    code = "import sys, mentionforge.config; print(*(name for name in sys.modules if name.startswith('mentionforge')))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def are_settings(thing: object) -> bool:
    """Whether a name stands for a class of settings, or for a union of such classes."""
    return (isinstance(thing, type) and issubclass(thing, Entry)) or any(map(are_settings, get_args(thing)))


def imported(tree: ast.AST, modules: Iterable[str], with_settings: Iterable[str] = ()) -> set[str]:
    """Modules of the package that a piece of code imports, anywhere in it.

    Args:
        tree: The code.
        modules: The package's modules.
        with_settings: Modules that have settings beside code; an import that takes only settings from one is left out.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            home = importlib.import_module(node.module) if node.module in with_settings else None
            taken = [name.name for name in node.names if not (home and are_settings(getattr(home, name.name, None)))]
            names |= {*([node.module] if taken else []), *(f"{node.module}.{name}" for name in taken)}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    return names & set(modules)


def test_every_command_that_comes_near_a_gpu_claims_it() -> None:
    """Commands whose imports lead to a module that asks for CUDA: all but those that are known not to compute there, or to be no jobs.

    A kind's file has its settings, and code that imports libraries and models where it works. The configuration carries the settings of all kinds and runs none of
    their code (the next test looks at what it loads), so the walk ends there, and goes past imports that take a kind's settings alone. Example: `filtering`
    imports `FILTERS`, which are functions, so `generation filter` comes near a GPU; `prompts` imports `LlmGenerator`, so `generation prompts` does not.
    """
    package = ROOT / "workflow/mentionforge"
    paths = {".".join(("mentionforge", *p.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): p for p in package.rglob("*.py")}
    trees = {name: ast.parse(path.read_text()) for name, path in paths.items()}
    configuration = {name for name in paths if f"{name}.".startswith("mentionforge.config.")}
    kinds = configuration_modules() - configuration
    # `generation.filters` looks up the functions beside the settings that it imports: there, settings lead on to code.
    looking_up = {name for name, path in paths.items() if "import_module" in path.read_text()}
    assert "mentionforge.generation.filters" in looking_up
    onward = {name: set() if name in configuration else imported(tree, paths, set() if name in looking_up else kinds) for name, tree in trees.items()}
    near = {name for name, path in paths.items() if "cuda" in path.read_text() and name != "mentionforge.devices"}
    reaching = set()
    for key, body in commands().items():
        seen, ahead = set(), imported(body, paths, kinds)
        while ahead:
            seen |= ahead
            ahead = set().union(*(onward[name] for name in ahead)) - seen
        reaching |= {key} if seen & near else set()
    idle = {("generation", "gather"), ("report", "document")}
    by_hand = {("annotate", verb) for verb in ("annotate", "bundle", "serve")}
    assert reaching - idle - by_hand == set(claiming())
    assert not rules_of(by_hand)


def test_the_configuration_loads_settings_alone() -> None:
    """Neither a library that computes, nor one that reads tables or speaks to a server: kinds import them where they work."""
    heavy = {"torch", "transformers", "tokenizers", "peft", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "duckdb", "faiss", "openai", "vllm"}
    code = f"import sys, mentionforge.config; print(*sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    assert configuration_modules().isdisjoint(
        {"mentionforge.devices", "mentionforge.encoders", "mentionforge.models", "mentionforge.generation.weights", "mentionforge.tables"}
    )


def test_rules_whose_commands_claim_a_gpu_are_those_that_get_one() -> None:
    assert len(claiming()) >= 12
    assert rules_of(claiming()) == gpu_rules()


@pytest.mark.parametrize(("stage", "verb"), claiming())
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
        if parameter.default.default is ... or name in ("model", "encoder"):
            flag = (parameter.default.param_decls or [f"--{name.replace('_', '-')}"])[0]
            line += [flag, {"schedule": "real_only", "seed": "1"}.get(name, str(tmp_path / "x"))]
    done = CliRunner().invoke(module.app, line)
    assert repr(done.exception) == repr(KeyError(f"claimed {3 if verb == 'finetune' else 1}")), (done.exception, done.output)
