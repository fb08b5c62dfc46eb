"""Predictions of other systems in the DAG: one cell per corpus and system, before any job what is wrong with them, and what reruns."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from jobs import planned

from checkout import ROOT, copy_checkout, snakemake
from mentionforge.config import load_config
from mentionforge.config_files import merge

MINI = ("--configfile", "tests/mini.yaml", "peer.yaml")


def overlay(folder: Path, **more) -> None:
    """The mini experiment with a system that links, by a mapping, and one that recognizes, by a pattern; their files are empty tables."""
    (folder / "peer").mkdir(exist_ok=True)
    for name in ("ncbi.csv", "semeval.csv", "spans.demo_ncbi.jsonl"):
        (folder / "peer" / name).write_text("mention_id,concept\n")
    entry = {"kind": "external", "path": {"demo_ncbi": "peer/ncbi.csv", "demo_semeval": "peer/semeval.csv"}, **more}
    mini = yaml.safe_load((ROOT / "tests/mini.yaml").read_text())["experiment"]
    [normalization], [recognition] = mini["normalization"], mini["recognition"]
    data = {
        "linkers": {"peer": entry},
        "recognizers": {"found": {"kind": "external", "path": "peer/spans.{corpus}.jsonl"}},
        "experiment": {
            "normalization": [normalization | {"linkers": [*normalization["linkers"], "peer"]}],
            "recognition": [recognition | {"recognizers": [*recognition["recognizers"], "found"], "linkers": ["mention"], "indexes": ["kb"]}],
        },
    }
    (folder / "peer.yaml").write_text(yaml.safe_dump(data))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_checkout(tmp_path_factory.mktemp("external") / "checkout")
    overlay(folder)
    return folder


def test_one_job_per_system_and_corpus(checkout: Path) -> None:
    jobs = planned(checkout, *MINI)
    count = Counter(job.verb for job in jobs)
    without = Counter(job.verb for job in planned(checkout, "--configfile", "tests/mini.yaml"))
    added = count - without
    assert added.pop("spec") >= 2
    # Both recognition cells and the external one are linked end to end.
    assert added == {
        "external rankings": 2,
        "external spans": 1,
        "recognition mentions": 3,
        "normalization link-predicted": 3,
        "evaluation end-to-end": 1,
    }
    [one] = [j.command for j in jobs if j.verb == "external rankings" and "demo_ncbi" in j.command]
    assert "--path peer/ncbi.csv" in one and "--out results/normalization/demo_ncbi/none/none/peer/external/predictions.parquet" in one
    [spans] = [j.command for j in jobs if j.verb == "external spans"]
    assert "--path peer/spans.demo_ncbi.jsonl" in spans
    evaluation = next(j.command for j in jobs if j.verb == "evaluation normalization" and "demo_ncbi" in j.command)
    assert "normalization/demo_ncbi/none/none/peer/external/predictions.parquet" in evaluation


def test_what_is_missing_is_told_before_any_job(checkout: Path, tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "checkout")
    overlay(folder)
    (folder / "peer/semeval.csv").unlink()
    done = snakemake(folder, "-n", "--nocolor", *MINI, check=False)
    lines = [line for line in done.stdout.splitlines() if "error:" in line]
    assert done.returncode and "missing file in config: linkers.peer.path: peer/semeval.csv does not exist" in lines[0] and "peer.yaml" in lines[0]
    overlay(folder, path={"demo_ncbi": "peer/ncbi.csv"}, missing_corpora="skip")
    assert sum(job.verb == "external rankings" for job in planned(folder, *MINI)) == 1


def test_files_are_found_in_the_checkout_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    raw: dict = {}
    for file in ("config.yaml", "tests/mini.yaml"):
        merge(raw, yaml.safe_load((ROOT / file).read_text()))
    merge(raw, yaml.safe_load((checkout / "peer.yaml").read_text()))
    from mentionforge.config import resolve_input_paths

    config = load_config(resolve_input_paths(raw, tmp_path, checkout), root=tmp_path)
    assert config.linkers["peer"].path_for("demo_ncbi") == str(checkout / "peer/ncbi.csv")
    assert config.recognizers["found"].path_for("demo_ncbi") == str(checkout / "peer/spans.demo_ncbi.jsonl")
