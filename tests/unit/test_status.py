"""Status and cleaning, on plans written by hand."""

import base64
from pathlib import Path

import pytest

from mentionforge import status
from mentionforge.errors import UserError
from mentionforge.planning import Job


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
    found = {stage.rule: stage for stage in status.stages(jobs, tmp_path)}
    assert (found["sample"].done, found["sample"].stale, found["sample"].missing) == (1, 1, 1)
    assert found["sample"].seconds == pytest.approx(15 + (15 + 45) / 2) and found["sample"].gpu
    assert found["notes"].seconds is None and not found["notes"].gpu and found["spec"].seconds == 0 and "all" not in found
    text = status.show(jobs, tmp_path)
    assert "1 jobs done, 4 to do" in text and "about 45 s one after another, 45 s of them" in text and "never run here: notes" in text


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
    found = status.leftovers(jobs, Path("results"), metadata, tmp_path)
    gone = ["generation/g/shards/0-of-4.parquet", "generation/gone/notes.parquet", "logs/generation/gone/notes.log"]
    assert [str(path.relative_to(tmp_path / "results")) for path in found] == gone
    assert status.clean(found, tmp_path / "results") == 30
    assert not (tmp_path / "results/generation/gone").exists() and (tmp_path / "results/generation/g/shards/0-of-2.parquet").exists()
    assert status.leftovers(jobs, Path("results"), metadata, tmp_path) == []


def test_nothing_is_cleaned_while_a_workflow_runs(tmp_path: Path) -> None:
    status.refuse_while_locked(tmp_path)
    write(tmp_path, ".snakemake/locks/0.output.lock")
    with pytest.raises(UserError, match="--unlock"):
        status.refuse_while_locked(tmp_path)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (2_500_000, "2 MB"), (3e12, "3.0 TB")])
def test_sizes(size: float, text: str) -> None:
    assert status.human(size) == text
