"""Habits that a shared file system needs: few files, nothing left behind, no SQLite, scratch where $TMPDIR says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mentionforge.config import load_config, normalization_cells
from mentionforge.config_files import merge

WATCHED = """
import sys
sys.addaudithook(lambda event, given: print("scratch:", given[0], file=sys.stderr) if event in ("tempfile.mkdtemp", "tempfile.mkstemp") else None)
from mentionforge.cli import main
main()
"""
"""The program, which says where it makes temporary files and folders."""


def test_a_cell_is_two_files_a_job_two_more_and_nothing_is_left_behind(finished: Path) -> None:
    config = load_config(merge(yaml.safe_load((finished / "config.yaml").read_text()), yaml.safe_load((finished / "tests/mini.yaml").read_text())))
    cells = {f"{c.corpus}/{c.generator}/{c.strategy}/{c.linker}/{c.index}" for c in normalization_cells(config)}
    results = finished / "results"
    assert len(cells) > 50
    jobs = {cell.rpartition("/")[0] for cell in cells}  # one links all indexes
    assert len(jobs) == len(cells) / 3
    expected = {
        "": [f"{cell}/{file}" for cell in cells for file in ("calibration.parquet", "predictions.parquet")],
        "logs/": [f"{job}.log" for job in jobs],
        "benchmarks/": [f"{job}.tsv" for job in jobs],
    }
    for top, files in expected.items():
        below = [p.relative_to(results / f"{top}normalization") for p in (results / f"{top}normalization").rglob("*") if p.is_file()]
        assert sorted(map(str, below)) == sorted(files)
    assert not [p for p in results.rglob("*") if p.name.startswith(".") and p.name != ".snakemake_timestamp"], "no temporary file stays"


@pytest.mark.parametrize("profile", ["default", "gpu", "slurm", "cluster-generic", "kubernetes"])
def test_snakemake_looks_at_its_jobs_seldom(root: Path, profile: str) -> None:
    """Each look starts a timer of this timespan, and each timer ends in a look: with 1 s, as many looks a second as there were jobs."""
    settings = yaml.safe_load((root / "profiles" / profile / "config.yaml").read_text())
    assert settings["scheduler"] == "greedy"
    jobs, _, seconds = settings["max-jobs-per-timespan"].removesuffix("s").partition("/")
    assert int(seconds) >= 10 and int(jobs) / int(seconds) == 100, "as many submissions a second as by default"


def test_there_is_no_sqlite(finished: Path) -> None:
    """Locks of SQLite do not work on NFS: neither results nor Snakemake's own records may need them."""
    files = [p for top in ("results", ".snakemake") for p in (finished / top).rglob("*") if p.is_file()]
    assert len(files) > 500
    for path in files:
        with open(path, "rb") as handle:
            assert handle.read(15) != b"SQLite format 3", path


def test_scratch_files_lie_where_tmpdir_says(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch"), "PYTHONPATH": str(finished / "workflow")}
    line = [sys.executable, "-c", WATCHED, "kb", "extract", "--spec", "results/specs/kbs/demo.json", "--out", str(tmp_path / "kb")]
    done = subprocess.run(line, cwd=finished, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [said.removeprefix("scratch: ") for said in done.stderr.splitlines() if said.startswith("scratch: ")]
    assert made and all(Path(path).is_relative_to(tmp_path / "scratch") for path in made), made
    assert not list((tmp_path / "scratch").iterdir()), "and are removed"
    assert sorted(p.name for p in (tmp_path / "kb").iterdir()) == sorted(
        p.name for p in (finished / "results/kb/demo").iterdir() if p.name != "parents.parquet"
    )
