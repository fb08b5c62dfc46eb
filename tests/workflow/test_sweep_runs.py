"""Sweeps as they are run: a failed cell hides no other, one cell alone by its path, settings on the command line, large grids."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from jobs import planned

from checkout import BIN, copy_checkout, snakemake
from mentionforge.planning.plan import plan

SMALL = {
    "strategies": {"naive": {"notes_per_concept": {"sweep": [1, 2]}}},
    "generators": {"template": {"concepts": {"max": 40}, "notes_per_concept": 2}},
    "linkers": {"exact": {"steps": {"sweep": {"all": ["plural", "numerals", "order"], "none": []}}}},
    "indexes": {"coded": {"sources": ["train"], "prefer_xrefs": ["MSH"]}},
    "experiment": {
        "normalization": [
            {"corpora": ["demo_ncbi"], "generators": ["template"], "strategies": ["none", "naive"], "linkers": ["exact"], "indexes": ["train", "coded"]}
        ],
        "recognition": [],
    },
}
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)
"""
"""A command, then its seconds of CPU and its peak MiB: in a small process of its own, since a child counts the memory of its parent too."""
DOSE, STEPS = "strategies.naive.notes_per_concept", "linkers.exact.steps"


def test_a_failed_cell_is_shown_as_failed_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout whose linking breaks in one cell; then it is mended, and the rest is run."""
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SMALL))
    monkeypatch.setenv("PYTHONPATH", str(folder / "workflow"))
    code = folder / "workflow/mentionforge/normalization/linking.py"
    whole = code.read_text()
    begin = "import sys\nif any('notes_per_concept=2/exact~steps=none' in a for a in sys.argv):\n    raise SystemExit('error: broken here')\n"
    place = whole.index("from __future__ import annotations\n") + len("from __future__ import annotations\n")
    code.write_text(whole[:place] + begin + whole[place:])
    done = snakemake(folder, "--configfile", "sweep.yaml", check=False)
    assert done.returncode != 0
    rows = pd.read_csv(folder / "results/sweeps/sweeps.csv", dtype=str, keep_default_na=False)
    assert rows["state"].value_counts().to_dict() == {"done": 10, "failed": 2}, done.stdout[-3000:]
    for _, failed in rows[rows["state"] == "failed"].iterrows():  # both indexes: one job links them
        assert (failed[DOSE], failed[STEPS], failed["error"], failed["all acc@1"]) == ("2", "none", "error: broken here", "")
    assert all(0 < float(score) < 1 for score in rows[rows["state"] == "done"]["all acc@1"]), "the others are scored"
    assert "## Failed cells" in (folder / "results/sweeps/sweeps.md").read_text()

    # One cell alone, by its path.
    code.write_text(whole)
    cell = "results/normalization/demo_ncbi/template/naive~notes_per_concept=2/exact~steps=none/train/predictions.parquet"
    assert [job.rule for job in plan([cell, "--configfile", "sweep.yaml"], folder) if job.pending] == ["link_augmented"]
    snakemake(folder, "--configfile", "sweep.yaml")
    rows = pd.read_csv(folder / "results/sweeps/sweeps.csv", dtype=str, keep_default_na=False)
    assert set(rows["state"]) == {"done"} and planned(folder, "--configfile", "sweep.yaml") == []
    summary = pd.read_csv(folder / "results/summary/normalization.csv", dtype=str, keep_default_na=False).set_index(["strategy", "linker", "index"])[
        "test.all.acc@1"
    ]
    for row in rows.itertuples():
        assert float(row[rows.columns.get_loc("all acc@1") + 1]) == pytest.approx(float(summary[row.strategy, row.system, row.variant]), abs=1e-3)
    assert (folder / f"results/sweeps/{DOSE}.svg").is_file() and (folder / f"results/sweeps/{STEPS}.svg").is_file()


def test_settings_on_the_command_line(tmp_path: Path) -> None:
    """--config lays over all files, nested settings and sweeps too."""
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SMALL))
    jobs = planned(folder, "--configfile", "sweep.yaml", "--config", "strategies={naive: {notes_per_concept: {sweep: [3, 4, 5]}}}", "results=results/other")
    chosen = [job.command for job in jobs if job.verb == "augmentation choose"]
    assert len(chosen) == 3 and all("results/other/augmentation/demo_ncbi/template/naive~notes_per_concept=" in command for command in chosen)


def test_five_thousand_cells_are_planned_in_a_minute_and_two_gigabytes(tmp_path: Path) -> None:
    """CPU time and memory of `snakemake -n`, so that other load on the machine does not count."""
    folder = copy_checkout(tmp_path / "checkout")
    doses = list(range(1, 21))
    overlay = {
        "strategies": {"naive": {"notes_per_concept": {"sweep": doses}}, "supplemental": {"notes_per_concept": {"sweep": doses}}},
        "linkers": {"mention": {"max_tokens": {"sweep": [16, 25]}}},
        "experiment": {
            "normalization": [
                {
                    "corpora": ["demo_semeval", "demo_ncbi", "demo_bc5cdr"],
                    "generators": ["smollm2", "template", "names"],
                    "strategies": ["none", "naive", "supplemental"],
                    "linkers": ["mention", "context", "tfidf", "exact"],
                    "indexes": ["train", "kb", "train+kb"],
                }
            ],
            "recognition": [],
        },
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(overlay))
    arguments = [str(BIN / "snakemake"), "-n", "--quiet", "rules", "--nocolor", "--configfile", "grid.yaml"]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    seconds, mebibytes = map(float, done.stdout.splitlines()[-1].split())
    pairs = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    counts = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    assert counts["link_baseline_together"] + counts["link_augmented_together"] == 3 * (1 + 3 * 40) * 5 == 5445 / 3, "three indexes in each"
    print(f"{seconds:.1f} s of CPU, {mebibytes:.0f} MiB", file=sys.stderr)
    assert seconds < 60 and mebibytes < 2048
