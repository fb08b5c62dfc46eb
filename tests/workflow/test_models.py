"""Where weights and inputs come from, on the DAG: files of a model that change at the same path, and runs in another folder than the checkout."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from jobs import planned

from checkout import ROOT, copy_checkout, snakemake
from published import biobert, sapbert

ENTRIES = "results/embeddings/mention/corpus.demo_ncbi/entries.parquet"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which mentions were embedded by an encoder in a local folder, encoder/."""
    folder = copy_checkout(tmp_path_factory.mktemp("local") / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)
    sapbert(folder / "encoder")
    # Nothing but the path: config.yaml names a wheel.
    (folder / "local.yaml").write_text(yaml.safe_dump({"models": {"minilm": {"path": "encoder"}}}))
    snakemake(folder, ENTRIES, "--configfile", "local.yaml")
    return folder


def plan(folder: Path, *arguments: str) -> Counter:
    return Counter(job.verb for job in planned(folder, ENTRIES, "--configfile", "local.yaml", *arguments))


FETCHED = {"resources fetch-model": 1, "normalization embed-corpus": 1}


def test_other_weights_at_the_same_path_rerun_what_reads_them(embedded: Path) -> None:
    """Whatever their time; equal files rerun nothing, whatever theirs."""
    assert plan(embedded) == {}
    weights, stamp = embedded / "encoder/model.safetensors", embedded / "resources/models/minilm/fetched.json"
    first, vectors = stamp.read_bytes(), (embedded / ENTRIES).with_name("vectors.npy")
    before = vectors.read_bytes()
    # Touched, copied anew, with something beside them: no change.
    weights.touch()
    (embedded / "encoder/README.md").write_text("beside\n")
    shutil.copyfile(weights, embedded / "copy")
    (embedded / "copy").replace(weights)
    assert plan(embedded) == {} and stamp.read_bytes() == first
    # Other weights of the same size, with the time that the old ones had; put back, nothing is to be done; then for good, with an older time.
    times = weights.stat()
    other = bytearray(weights.read_bytes())
    other[-400_000::2] = bytes(len(other[-400_000::2]))
    shutil.copy2(weights, embedded / "kept")
    weights.write_bytes(other)
    os.utime(weights, ns=(times.st_mtime_ns, times.st_mtime_ns))
    assert plan(embedded) == FETCHED
    shutil.copy2(embedded / "kept", weights)
    assert plan(embedded) == {}
    weights.write_bytes(other)
    os.utime(weights, ns=(0, 0))
    snakemake(embedded, ENTRIES, "--configfile", "local.yaml")
    assert stamp.read_bytes() != first and vectors.read_bytes() != before
    assert plan(embedded) == {}
    # Another model at the same path, in a form that has to be converted, and then none.
    shutil.rmtree(embedded / "encoder")
    biobert(embedded / "encoder")
    snakemake(embedded, ENTRIES, "--configfile", "local.yaml")
    assert plan(embedded) == {} and (embedded / "resources/models/minilm/weights/model.safetensors").is_file()
    shutil.rmtree(embedded / "encoder")
    done = snakemake(embedded, ENTRIES, "--configfile", "local.yaml", "--nocolor", check=False)
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "error: missing model in config: models.minilm.path: encoder does not exist; correct the path" in done.stdout


def test_another_folder_than_the_checkout(tmp_path: Path) -> None:
    """`--directory`: results, weights and downloads go there, config.yaml and the demo's files come from the checkout."""
    target = "results/kb/demo/concepts.parquet"
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)
    there = planned(folder, "--directory", str(tmp_path / "there"))
    assert Counter(job.verb for job in there) == Counter(job.verb for job in planned(folder))
    paper = planned(ROOT, "results/paper/kb/umls/concepts.parquet", "--directory", str(tmp_path / "there"), "--configfile", "config/paper.yaml")
    assert "kb extract" in {job.verb for job in paper}
    snakemake(tmp_path / "checkout", target, "--directory", str(tmp_path / "there"))
    assert (tmp_path / "there" / target).is_file() and not (tmp_path / "checkout/results").exists()
    assert planned(tmp_path / "checkout", target, "--directory", str(tmp_path / "there")) == []
    # A config.yaml and input files of that folder come first.
    own = tmp_path / "own"
    shutil.copytree(ROOT / "resources/demo/umls", own / "resources/demo/umls")
    own.joinpath("config.yaml").write_text((ROOT / "config.yaml").read_text().replace("results: results\n", "results: elsewhere\n"))
    job = next(job for job in planned(tmp_path / "checkout", "elsewhere/kb/demo/concepts.parquet", "--directory", str(own)) if job.verb == "kb extract")
    assert str(tmp_path / "checkout") not in job.command and "--out elsewhere/kb/demo" in job.command


def test_weights_of_another_source_in_a_shared_folder_are_refused(tmp_path: Path) -> None:
    """Snakemake has no record of a stamp that another checkout made, and would take it for this configuration's."""
    folder = copy_checkout(tmp_path / "checkout")
    shared = folder / "resources" / "models"
    shared.unlink(missing_ok=True)
    (shared / "minilm").mkdir(parents=True)
    stamp = shared / "minilm" / "fetched.json"
    (folder / "other.yaml").write_text(yaml.safe_dump({"models": {"minilm": {"path": "encoder"}}}))
    stamp.write_text(json.dumps({"folder": "/elsewhere", "revision": "r", "sha256": "", "reference": {"hub": "org/encoder"}}))
    done = snakemake(folder, "-n", ENTRIES, "--configfile", "other.yaml", check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert done.returncode and len(lines) == 1 and "Traceback" not in done.stdout
    assert lines[0].startswith("error: other weights in resources/models/minilm/fetched.json: it is of org/encoder") and "delete it" in lines[0]
    # The entry's own source, whatever else is said of it: taken as it is.
    stamp.write_text(json.dumps({"folder": "/elsewhere", "revision": "local:1", "sha256": "", "reference": {"path": "encoder", "licence": "mine"}}))
    assert snakemake(folder, "-n", ENTRIES, "--configfile", "other.yaml", check=False).returncode == 0
