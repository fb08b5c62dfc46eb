"""Fine-tuning: checkpoints and kills, held-out documents, several devices, curves."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkout import ROOT
from killing import Case, finish, kill_when
from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.generation import finetune

pytestmark = pytest.mark.slow  # all of them train


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    case = Case(tmp_path_factory.mktemp("case"), ROOT, updates=24)
    finish(case.finetune("whole"))
    return case


def test_a_fine_tuning_killed_twice_ends_with_the_adapter_of_an_uninterrupted_one(case):
    line, checkpoints = case.finetune("killed"), case.folder / "killed.checkpoints"
    assert kill_when(line, lambda: (checkpoints / "checkpoint-6" / finetune.COMPLETE).is_file())
    assert not (case.folder / "killed").exists()
    (checkpoints / "checkpoint-9").mkdir(exist_ok=True)  # as if the second kill came in the middle of writing it
    (checkpoints / "checkpoint-9" / finetune.COMPLETE).unlink(missing_ok=True)
    assert kill_when(line, lambda: (checkpoints / "checkpoint-15" / finetune.COMPLETE).is_file())
    said = finish(line)
    assert "going on after" in said and case.trained("killed") == case.trained("whole") and not checkpoints.exists()


def test_a_fine_tuning_killed_after_its_last_update_makes_no_further_one(case, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    job = (case.folder / "finetune.json", case.model, case.folder / "pairs.parquet", case.folder / "late", case.folder / "late.csv")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(finetune, "save_adapter", kill)
        finetune.finetune(*job)
    assert (case.folder / "late.checkpoints" / "checkpoint-24").is_dir() and not (case.folder / "late").exists()
    said = finish(case.finetune("late"))
    assert "going on after 21 updates" in said and case.trained("late") == case.trained("whole")


@pytest.mark.parametrize(("what", "moments"), [("shard", 8), ("finetune", 3)])
def test_kills_at_random_moments_change_nothing(what, moments):
    """A few moments with a tiny model; `make test-kills` tries 20 of each with the small one."""
    line = [sys.executable, ROOT / "tests" / "kills.py", "--what", what, "--moments", str(moments), "--notes", "24", "--updates", "12"]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == found["equal"] == moments


def test_checkpoints_of_another_job_are_not_used(case, monkeypatch):
    line, checkpoints = case.finetune("other"), case.folder / "other.checkpoints"
    assert kill_when(line, lambda: (checkpoints / "checkpoint-3" / finetune.COMPLETE).is_file())
    assert not list(checkpoints.rglob("*.bin")), "the trainer's pickle is not kept"
    import torch

    inputs = (case.folder / "finetune.json", case.model, case.folder / "pairs.parquet")
    before, other, gpu = (finetune._job(*inputs, kind, device) for kind, device in ((torch.float32, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "cuda")))
    assert gpu not in (before, other), "the random states in a checkpoint are those of one type of device"
    assert (checkpoints / "job").read_text() in (before, other) and before != other
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "number", {"generation.finetune": 99}.__getitem__)
        assert finetune._job(*inputs, torch.float32, "cpu") not in (before, other), "nor those of other code"
    job = (checkpoints / "job").read_text()
    assert finetune._resume_point(checkpoints, job) == checkpoints / "checkpoint-3"
    assert finetune._resume_point(checkpoints, "another") is None and not list(checkpoints.glob("checkpoint-*"))
    shutil.rmtree(checkpoints)


def test_the_loss_is_measured_on_documents_that_are_not_trained_on(case):
    pairs = tables.read(tables.PAIRS, case.folder / "pairs.parquet").to_pylist()
    learned, held = finetune.held_out(pairs, 0.3, 13)
    assert {p["doc_id"] for p in learned}.isdisjoint(p["doc_id"] for p in held) and len({p["doc_id"] for p in held}) == 2
    assert sorted(p["pair_id"] for p in learned + held) == sorted(p["pair_id"] for p in pairs)
    assert finetune.held_out(pairs[::-1], 0.3, 13)[1] == held[::-1] and finetune.held_out(pairs, 0.0, 13) == (pairs, [])
    assert len({tuple(p["pair_id"] for p in finetune.held_out(pairs, 0.3, seed)[1]) for seed in range(8)}) > 1
    with open(case.folder / "whole.csv", newline="") as source:
        rows = list(csv.DictReader(source))
    assert [int(r["step"]) for r in rows] == list(range(1, 25))
    assert {int(r["step"]) for r in rows if r["eval_loss"]} == {5, 10, 15, 20, 24}, "the last update is always measured"
    made = json.loads((case.folder / "whole/provenance.json").read_text())
    assert (made["pairs"], made["pairs_held_out"]) == (len(learned), len(held))
    assert (case.folder / "whole.svg").read_text().startswith("<svg")


def test_the_measured_loss_is_that_of_the_held_out_pairs(case):
    """Against the mean loss of completion tokens, computed pair by pair from the weights of the last measured checkpoint."""
    import torch
    from peft import PeftModel

    from mentionforge.generation import weights
    from mentionforge.generation.kinds.llm import LlmGenerator
    from mentionforge.specs import read_spec

    settings = read_spec(case.folder / "finetune.json", LlmGenerator).finetune.model_copy(update={"max_steps": 5, "checkpoint_steps": 5})
    held = finetune.held_out(tables.read(tables.PAIRS, case.folder / "pairs.parquet").to_pylist(), 0.3, settings.seed)
    tokenizer = weights.tokenizer(case.model, "chat")
    examples = [[weights.training_example(tokenizer, p["prompt"], p["completion"], "chat") for p in part] for part in held]
    base = weights.load_for_training(case.model, "nf4", torch.float32)
    trainer = finetune.make_trainer(base, tokenizer, examples[0], settings, str(case.folder / "scratch"), examples[1])
    trainer.train()
    [measured] = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    model = PeftModel.from_pretrained(weights.load_for_training(case.model, "nf4", torch.float32), str(case.folder / "scratch/checkpoint-5")).eval()
    total = count = 0
    for row in trainer.eval_dataset:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            chosen = model(ids).logits[0, :-1].log_softmax(-1)
        total -= sum(float(chosen[i, t]) for i, t in enumerate(labels.tolist()) if t != -100)
        count += int((labels != -100).sum())
    assert abs(measured - total / count) < 2e-3


def test_two_processes_share_the_updates_and_write_one_adapter(case, root):
    """On the CPU, with gloo: the same number of updates, each on twice the pairs."""
    spec = json.loads((case.folder / "finetune.json").read_text())
    spec["settings"]["finetune"] |= {"devices": 2, "max_steps": 4}
    (case.folder / "finetune2.json").write_text(json.dumps(spec))
    line = [part.replace("finetune.json", "finetune2.json") for part in case.finetune("both")]
    finish(line)
    with open(case.folder / "both.csv", newline="") as source, open(case.folder / "whole.csv", newline="") as single:
        both, alone = list(csv.DictReader(source)), list(csv.DictReader(single))
    assert [r["step"] for r in both] == ["1", "2", "3", "4"]
    assert float(both[-1]["num_tokens"]) == pytest.approx(2 * float(alone[3]["num_tokens"]), rel=0.15)
    assert (case.folder / "both/adapter_model.safetensors").is_file()


RANK = """
import os, shutil, signal, sys, time
from pathlib import Path

from mentionforge.generation import finetune
from trl import SFTTrainer

rank, job, dies = os.environ["RANK"], [Path(argument) for argument in sys.argv[1:6]], sys.argv[6:]
remove, train, started = shutil.rmtree, SFTTrainer.train, []

def slowly(path, *arguments, **more):
    if rank == "0" and "checkpoint" in Path(path).name and not started:
        time.sleep(3)
    remove(path, *arguments, **more)

def recorded(self, resume_from_checkpoint=None, **more):
    started.append(rank)
    if rank in dies:
        os.kill(os.getpid(), signal.SIGKILL)
    job[3].with_name(f"{job[3].name}.rank{rank}").write_text(Path(resume_from_checkpoint or "none").name)
    return train(self, resume_from_checkpoint=resume_from_checkpoint, **more)

shutil.rmtree, SFTTrainer.train = slowly, recorded
finetune.finetune(*job)
"""
"""A process of a user's own launcher: the first one is slow to clear a folder, and each writes down where it goes on from."""


def running(word: str) -> list[int]:
    """Processes whose command line holds a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


UPDATES = 45


class Pair:
    """A case trained by two processes, with checkpoints left behind by a start that was killed."""

    def __init__(self, folder):
        self.case = Case(folder, ROOT, updates=UPDATES)
        spec = json.loads((folder / "finetune.json").read_text())
        spec["settings"]["finetune"] |= {"devices": 2, "eval_share": 0.0}
        (folder / "finetune.json").write_text(json.dumps(spec))
        self.left, self.folder = folder / "left.checkpoints", folder
        self.killed = kill_when(self.case.finetune("left"), lambda: (self.left / "checkpoint-6" / finetune.COMPLETE).is_file(), limit_s=300)
        deadline = time.monotonic() + 30
        while running(str(folder / "left.csv")) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.over = not running(str(folder / "left.csv"))
        # With other work on the machine, the processes may go on for some updates before the kill takes effect.
        *earlier, self.newest = sorted(self.left.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
        self.whole = [path for path in earlier if (path / finetune.COMPLETE).is_file()][-1]

    def leave(self, name: str) -> Path:
        """Checkpoints of the killed start for another folder."""
        shutil.copytree(self.left, self.folder / f"{name}.checkpoints")
        return self.folder / f"{name}.checkpoints"

    def launched(self, name: str, *dies: str, limit_s: float = 300) -> subprocess.CompletedProcess:
        """Train under a launcher of the user's own."""
        (self.folder / "rank.py").write_text(RANK)
        job = [self.folder / "finetune.json", self.case.model, self.folder / "pairs.parquet", self.folder / name, self.folder / f"{name}.csv"]
        line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", self.folder / "rank.py", *job, *dies]
        return subprocess.run(list(map(str, line)), capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=limit_s)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Pair(tmp_path_factory.mktemp("pair"))


def test_processes_end_with_the_one_that_started_them(pair):
    assert pair.killed and pair.over and not (pair.folder / "left").exists()


@pytest.fixture(scope="module")
def anew(pair):
    """Trained with checkpoints of another job left behind, which the first process is slow to remove."""
    (pair.leave("anew") / "job").write_text("another")
    return pair.launched("anew")


def test_checkpoints_of_another_job_are_used_by_no_process(pair, anew):
    assert anew.returncode == 0, anew.stderr[-3000:]
    assert [(pair.folder / f"anew.rank{rank}").read_text() for rank in (0, 1)] == ["none", "none"]
    assert "starting anew" in anew.stderr and anew.stderr.count("starting anew") == 1
    with open(pair.folder / "anew.csv", newline="") as source:
        assert [int(row["step"]) for row in csv.DictReader(source)] == list(range(1, UPDATES + 1))


def test_all_processes_go_on_from_the_last_whole_checkpoint(pair, anew):
    """And end with the adapter of a training that was never interrupted."""
    left, whole = pair.leave("resumed"), pair.whole.name
    assert {path.name for path in (left / whole).glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    (left / pair.newest.name / finetune.COMPLETE).unlink(missing_ok=True)
    done = pair.launched("resumed")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(pair.folder / f"resumed.rank{rank}").read_text() for rank in (0, 1)] == [whole, whole]
    assert f"going on after {whole.partition('-')[2]} updates" in done.stderr and pair.case.trained("resumed") == pair.case.trained("anew")


def test_a_process_that_dies_ends_the_others(pair):
    done = pair.launched("dead", "1", limit_s=90)
    assert done.returncode != 0 and f"Signal {int(signal.SIGKILL)}" in done.stderr and not running(str(pair.folder / "dead.csv"))


def test_a_launcher_with_another_number_of_processes_is_a_users_error(pair, monkeypatch):
    job = [pair.folder / "finetune.json", pair.case.model, pair.folder / "pairs.parquet", pair.folder / "three", pair.folder / "three.csv"]
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="2 asked for, 3 started"):
        finetune.finetune(*job)


def test_a_users_error_on_several_devices_is_one_line(pair):
    """Said by the command itself, before any process is started."""
    spec = json.loads((pair.folder / "finetune.json").read_text())
    spec["settings"]["finetune"]["max_tokens"] = 16
    (pair.folder / "short.json").write_text(json.dumps(spec))
    line = [part.replace("finetune.json", "short.json") for part in pair.case.finetune("short")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode and "no usable pair" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_too_little_memory_is_one_line_with_the_ways_out(case, monkeypatch):
    import torch

    from mentionforge.generation import memory

    job = (case.folder / "finetune.json", case.model, case.folder / "pairs.parquet", case.folder / "small", case.folder / "small.csv")
    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"model too large.*are free on the CPU.*larger GPU or a smaller model"):
        patched.setattr(memory, "available_bytes", lambda free=False: 1_000)
        finetune.finetune(*job)

    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"out of memory.*config: generators.*finetune.*gradient_accumulation") as caught:
        patched.setattr("transformers.Trainer.training_step", no_room)
        patched.setattr("trl.SFTTrainer.training_step", no_room)
        finetune.finetune(*job)
    assert "\n" not in str(caught.value) and not (case.folder / "small").exists()
