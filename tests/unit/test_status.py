"""Status and cleaning, on plans written by hand."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mentionforge import architectures, ran
from mentionforge.config import load_config, spec_text
from mentionforge.config_files import merge
from mentionforge.errors import UserError
from mentionforge.planning import estimates, leftovers, reference_devices, status, workload
from mentionforge.planning.plan import Job


def job(rule: str, *outputs: str, **state: object) -> Job:
    return Job(rule, outputs, log=(f"results/logs/{rule}.log",), benchmark=f"results/benchmarks/{outputs[0]}.tsv", **state)


def past(folder: Path, output: str, *seconds: float) -> None:
    file = folder / f"results/benchmarks/{output}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("s\th:m:s\tmax_rss\n" + "".join(f"{s}\t0:00:01\t100\n" for s in seconds))


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x" * 10)


def ran_with(folder: Path, job: Job, seconds: float, record: str | None) -> None:
    """Times of a job, and what its log says at its end."""
    past(folder, job.outputs[0], seconds)
    file = folder / job.log[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("notes: 40 of 40 in 30 s\n" + (f"{record}\n" if record else ""))


def named(rule: str, output: str, wildcards: dict[str, str], **state: object) -> Job:
    return Job(rule, (output,), log=(f"results/logs/{output}.log",), benchmark=f"results/benchmarks/{output}.tsv", wildcards=wildcards, **state)


TODO = {"pending": True, "missing": ("x",)}
LLAMA, BERT = architectures.KNOWN["llama-2-13b"].weights, architectures.BERT_BASE.weights


def arithmetic(folder: Path, **more: object) -> estimates.Arithmetic:
    """Of the embedded experiment with the paper's models in the place of the small ones."""
    raw = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
    raw["models"] = {
        "smollm2": {"hub": "meta-llama/Llama-2-13b-chat-hf"},
        "minilm": {"hub": "dmis-lab/biobert-base-cased-v1.1"},
        "sapbert": {"hub": "cambridgeltl/SapBERT-from-PubMedBERT-fulltext"},
    }
    for linker in ("mention", "context"):
        raw["linkers"][linker]["model"] = "sapbert"
    config = load_config(merge(raw, more))
    return estimates.Arithmetic(config, workload.sizes(config, folder), reference_devices.device("A100-80GB"), folder)


def settings(guess: estimates.Arithmetic, kind: str, entry: str) -> str:
    return ran.settings_digest(spec_text(guess.config, kind, entry))


def stage(jobs: list[Job], folder: Path, guess: estimates.Arithmetic) -> status.RuleState:
    (found,) = status.rule_states(jobs, folder, guess)
    return found


def test_estimates_are_a_jobs_own_time_or_the_mean_of_its_rule(tmp_path: Path) -> None:
    past(tmp_path, "a", 10.0, 20.0)  # repeated: 15 s
    past(tmp_path, "b", 45.0)
    jobs = [
        job("sample", "a", pending=True, reasons=("params have changed since last execution",)),
        job("sample", "b"),
        job("sample", "c", pending=True, missing=("c",)),
        job("notes", "d", pending=True, missing=("d",)),
        Job("spec", ("results/specs/x.json",), pending=True, missing=("results/specs/x.json",)),
        Job("all", (), pending=True),
    ]
    found = {stage.rule: stage for stage in status.rule_states(jobs, tmp_path)}
    assert (found["sample"].done, found["sample"].stale, found["sample"].missing) == (1, 1, 1)
    assert found["sample"].seconds == pytest.approx(15 + (15 + 45) / 2) and found["sample"].gpu
    assert found["notes"].seconds is None and not found["notes"].gpu and found["spec"].seconds == 0 and "all" not in found
    text = status.show(jobs, tmp_path)
    assert (
        "1 jobs done, 4 to do" in text
        and "about 45 s one after another, 45 s of them" in text
        and "never run here, and nothing tells their size: notes" in text
    )
    assert "measured on an unknown device: sample" in text


def test_times_of_small_runs_on_a_cpu_do_not_stand_for_the_papers_models(tmp_path: Path) -> None:
    guess = arithmetic(tmp_path)
    of_training, of_sampling = settings(guess, "generators", "smollm2/finetune"), settings(guess, "generators", "smollm2/sampling")
    tune = named("finetune", "adapter", {"generator": "smollm2"}, pending=True)
    shard = named("sample", "0-of-2", {"generator": "smollm2", "shard": "0", "shards": "2"}, pending=True)
    cell = {"corpus": "demo_ncbi", "generator": "none", "strategy": "none", "recognizer": "minilm", "schedule": "real_only", "seed": "1"}
    ran_with(tmp_path, tune, 7200, f"ran on: cpu (Some Processor), 2 threads; weights: 134,515,008; settings: {of_training}")  # another model
    ran_with(tmp_path, shard, 60, f"ran on: cpu (Some Processor), 2 threads; weights: {LLAMA:,}; settings: 0123456789ab")  # other settings
    old = named("recognize_real", "predictions", cell, pending=True)
    ran_with(tmp_path, old, 300, None)  # before there were records
    for one, why in ((tune, "another"), (shard, "another"), (old, "no record")):
        found = stage([one], tmp_path, guess)
        assert found.seconds is None and found.unused == {why: 1} and found.arithmetic > 30, one.rule
    text = status.show([tune, shard, old], tmp_path, arithmetic=guess)
    assert "by arithmetic on A100-80GB" in text and "not measured" in text and "one after another" not in text
    assert "not used, since of an unknown device and model (their logs do not say): 1 of the times of earlier jobs (recognize_real)" in text
    assert "not used, since of another model or other settings: 2 of the times of earlier jobs (finetune, sample)" in text
    assert "assumed: " in text and "312 TFLOP/s" in text
    # The same model by the same settings: its time stands, and its device is said.
    ran_with(tmp_path, shard, 4321, f"ran on: 1 x NVIDIA A100-SXM4-80GB; weights: {LLAMA:,}; settings: {of_sampling}")
    found = stage([shard], tmp_path, guess)
    assert found.seconds == 4321 and found.arithmetic == 0 and found.devices == ("1 x NVIDIA A100-SXM4-80GB",)
    assert "  measured on 1 x NVIDIA A100-SXM4-80GB: sample" in status.show([shard], tmp_path, arithmetic=guess)


def test_the_time_of_one_linker_does_not_stand_for_another(tmp_path: Path) -> None:
    guess = arithmetic(tmp_path)
    done = named("embed_kb", "mention", {"encoder": "mention", "kb": "demo"})
    ran_with(tmp_path, done, 50, f"ran on: 1 x GPU; weights: {BERT:,}; settings: {settings(guess, 'linkers', 'mention')}")
    left = named("embed_kb", "context", {"encoder": "context", "kb": "demo"}, **TODO)
    found = stage([done, left], tmp_path, guess)
    assert found.seconds is None and found.parts["embedding"].jobs == 1


def test_the_time_of_one_corpus_is_scaled_to_another_and_that_is_said(tmp_path: Path) -> None:
    guess = arithmetic(tmp_path)
    counts = {"demo_ncbi": workload.CorpusSize(1_000_000, 1000, 1, 1), "demo_bc5cdr": workload.CorpusSize(2_000_000, 1000, 1, 1)}
    guess = replace(guess, sizes=replace(guess.sizes, corpora=counts), _works={})
    cells = [{"corpus": c, "generator": "none", "strategy": "none", "recognizer": "minilm", "schedule": "real_only", "seed": "1"} for c in counts]
    done, left = named("recognize_real", "ncbi", cells[0]), named("recognize_real", "bc5cdr", cells[1], **TODO)
    weights = architectures.KNOWN["biobert-base"].weights
    ran_with(tmp_path, done, 1000, f"ran on: cpu (A), 2 threads; weights: {weights:,}; settings: {settings(guess, 'recognizers', 'minilm')}")
    found = stage([done, left], tmp_path, guess)
    assert found.seconds == pytest.approx(2000, rel=0.05) and found.scaled == 1 and not found.parts, "twice the sentences, twice the time"
    text = status.show([done, left], tmp_path, arithmetic=guess)
    assert "measured on cpu (A), 2 threads: recognize_real" in text and "schedule or number of notes: the times of 1 of these jobs" in text


def test_the_data_say_the_same(tmp_path: Path) -> None:
    guess = arithmetic(tmp_path)
    tune = named("finetune", "adapter", {"generator": "smollm2"}, **TODO)
    data = json.loads(json.dumps(status.as_data([tune], tmp_path, guess)))
    assert data["arithmetic"]["device"]["name"] == "A100-80GB" and data["arithmetic"]["assumed"]
    part = data["arithmetic"]["parts"]["fine-tuning"]
    assert part["jobs"] == 1 and part["gpu"] and data["arithmetic"]["gpu_hours"] == pytest.approx(part["seconds"] / 3600)
    (rule,) = data["rules"]
    assert rule["seconds"] is None and rule["arithmetic"] == part["seconds"] and rule["parts"]["fine-tuning"] == part and rule["devices"] == []
    assert "arithmetic" not in status.as_data([tune], tmp_path)


def test_what_a_job_ran_with_is_what_status_reads_back(tmp_path: Path) -> None:
    model, spec = tmp_path / "weights", tmp_path / "spec.json"
    model.mkdir()
    shape = {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "vocab_size": 32000,
    }
    (model / "config.json").write_text(json.dumps(shape))
    (tmp_path / "fetched.json").write_text(json.dumps({"folder": "weights"}))
    spec.write_text('{"b": 1,\n "a": 2}')
    line = ran.line(["generation", "sample", "--spec", str(spec), "--model", str(tmp_path / "fetched.json"), "--shard", "0"])
    (tmp_path / "job.log").write_text(f"loading\n{line}\n")
    found = ran.record(tmp_path / "job.log")
    assert found and found.weights == LLAMA and found.settings == ran.settings_digest('{"a": 2, "b": 1}') and found.device
    assert ran.line(["recognition", "predict", "--model", str(model)]).endswith(f"weights: {LLAMA:,}")
    assert ran.record(tmp_path / "none.log") is None and ran.record(spec) is None


def test_commands_leave_it_in_their_log(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    config = load_config(yaml.safe_load((root / "config.yaml").read_text()))
    (tmp_path / "spec.json").write_text(spec_text(config, "kbs", "demo"))
    command = [sys.executable, "-m", "mentionforge.cli", "kb", "extract", "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path / "kb")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    (tmp_path / "job.log").write_text(done.stderr)
    found = ran.record(tmp_path / "job.log")
    assert found and found.settings == ran.settings_digest(spec_text(config, "kbs", "demo")) and found.weights is None and found.device
    failed = subprocess.run([*command, "--unknown"], cwd=root, capture_output=True, text=True, check=False)
    assert failed.returncode and "ran on" not in failed.stderr


def test_causes_are_told_and_consequences_are_not() -> None:
    jobs = [
        Job("spec", ("results/specs/linkers/a.json",), pending=True, reasons=("params have changed since last execution",)),
        Job("link", ("x",), pending=True),  # follows
        Job("read", ("y",), pending=True, reasons=("updated input files",), changed=("corpus.txt",)),
        Job("train", ("z", "z2"), pending=True, missing=("z2",), reasons=("output files have to be generated",)),
        Job("new", ("n",), pending=True, missing=("n",), reasons=("output files have to be generated",)),
        Job("sample", ("s",), pending=True, incomplete=("s",), reasons=("incomplete output files",)),
        Job("fine", ("f",)),
    ]
    assert status.causes(jobs) == [
        ("input changed: corpus.txt", 1, ["y"]),
        ("interrupted while it was written", 1, ["s"]),
        ("settings changed", 1, ["results/specs/linkers/a.json"]),
        ("some of a job's outputs are missing", 1, ["z2"]),
    ]
    assert [j.state for j in jobs] == ["stale", "stale", "stale", "missing", "missing", "stale", "done"]
    corrected = Job("spec", ("results/specs/parts/filter.length.json",), pending=True, missing=("results/specs/parts/filter.length.json",))
    assert status.causes([corrected, replace(jobs[0], missing=jobs[0].outputs)]) == [], "nothing was there"
    assert ("our code corrected: its version was raised", 1, [*corrected.outputs]) in status.causes([corrected, *jobs])


def test_left_over_is_what_no_job_writes_and_nothing_else(tmp_path: Path) -> None:
    write(
        tmp_path,
        "results/generation/g/shards/0-of-2.parquet",
        "results/generation/g/shards/0-of-4.parquet",  # of another number of shards: recorded, and no longer asked for
        "results/generation/g/shards/1-of-2.parquet.partial.jsonl",  # of an interrupted job
        "results/generation/g/adapter.checkpoints/checkpoint-3/state",  # likewise
        "results/generation/g/adapter/model.safetensors",
        "results/generation/g/beside.csv",
        "results/generation/gone/notes.parquet",
        "results/logs/generation/gone/notes.log",
        "results/logs/sample.log",
        "results/mine/thoughts.txt",
        "results/readme.txt",
    )
    jobs = [
        Job("sample", ("results/generation/g/shards/0-of-2.parquet",), log=("results/logs/sample.log",)),
        Job("finetune", ("results/generation/g/adapter",), folders=("results/generation/g/adapter",), log=("results/logs/finetune.log",)),
    ]
    metadata = tmp_path / ".snakemake/metadata"
    metadata.mkdir(parents=True)
    for name in ("results/generation/g/shards/0-of-4.parquet", "results/generation/g/shards/0-of-2.parquet"):
        (metadata / base64.b64encode(name.encode(), altchars=b"-_").decode()).write_text("{}")
    found = leftovers.leftovers(jobs, Path("results"), metadata, tmp_path)
    gone = ["generation/g/shards/0-of-4.parquet", "generation/gone/notes.parquet", "logs/generation/gone/notes.log"]
    assert [str(path.relative_to(tmp_path / "results")) for path in found] == gone
    assert leftovers.clean(found, tmp_path / "results") == 30
    assert not (tmp_path / "results/generation/gone").exists() and (tmp_path / "results/generation/g/shards/0-of-2.parquet").exists()
    assert leftovers.leftovers(jobs, Path("results"), metadata, tmp_path) == []


def test_nothing_is_cleaned_while_a_workflow_runs(tmp_path: Path) -> None:
    leftovers.refuse_while_locked(tmp_path)
    write(tmp_path, ".snakemake/locks/0.output.lock")
    with pytest.raises(UserError, match="--unlock"):
        leftovers.refuse_while_locked(tmp_path)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (2_500_000, "2 MB"), (3e12, "3.0 TB")])
def test_sizes(size: float, text: str) -> None:
    assert status.human(size) == text


def test_overlays_are_given_as_to_snakemake() -> None:
    """`--configfile A B` and `--configfile A --configfile B` are the same; a target is none of them."""
    from mentionforge.cli import _planned

    wanted = ["report", "--configfile", "a.yaml", "b.yaml"]
    assert _planned([Path("a.yaml")], [], ["b.yaml", "report"]) == _planned([Path("a.yaml"), Path("b.yaml")], [], ["report"]) == wanted
    assert _planned([], [], ["b.yaml"]) == ["b.yaml"]
