"""Fine-tuning: checkpoints and kills, held-out documents, several devices, curves."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from checkout import ROOT
from killing import Case, finish, kill_when
from mentionforge import tables
from mentionforge.generation import finetune


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


def test_checkpoints_of_another_job_are_not_used(case):
    line, checkpoints = case.finetune("other"), case.folder / "other.checkpoints"
    assert kill_when(line, lambda: (checkpoints / "checkpoint-3" / finetune.COMPLETE).is_file())
    assert not list(checkpoints.rglob("*.bin")), "the trainer's pickle is not kept"
    before = finetune._job(case.folder / "finetune.json", case.model, case.folder / "pairs.parquet")
    assert (checkpoints / "job").read_text() == before
    assert finetune._resume_point(checkpoints, before, True) == checkpoints / "checkpoint-3"
    assert finetune._resume_point(checkpoints, "another", True) is None and not list(checkpoints.glob("checkpoint-*"))
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

    from mentionforge.config import read_spec
    from mentionforge.generation import weights

    settings = read_spec(case.folder / "finetune.json").finetune.model_copy(update={"max_steps": 5, "checkpoint_steps": 5})
    held = finetune.held_out(tables.read(tables.PAIRS, case.folder / "pairs.parquet").to_pylist(), 0.3, settings.seed)
    tokenizer = weights.tokenizer(case.model, "chat")
    examples = [[weights.training_example(p["prompt"], p["completion"], "chat") for p in part] for part in held]
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
