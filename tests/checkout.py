"""The checkout under test: where it is, copies of it, and Snakemake runs in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import warm

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MINI = ROOT / "tests" / "mini.yaml"
CORES = ("--cores", "1") if "PYTEST_XDIST_WORKER" in os.environ else ()
"""Beside another process of `pytest -n`, one core: with `cores: all`, four threads would wait for two cores."""


def snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the checkout; standard error joins standard output. It ends after three seconds of waiting for timers instead of ten."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    commands = warm.folder(environment)
    environment["PATH"] = f"{commands}:{BIN}:{os.environ['PATH']}"
    command = [commands / "snakemake", "--max-jobs-per-timespan", "1000/3s", *CORES, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not check or done.returncode == 0, done.stdout[-4000:]
    return done


def copy_checkout(target: Path) -> Path:
    """A copy of what git would hold of the checkout, with the fetched weights linked in."""
    hidden = shutil.ignore_patterns(".venv*", ".git", ".snakemake", "results", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "models", "downloads")
    shutil.copytree(ROOT, target, ignore=hidden)
    if (ROOT / "resources" / "models").is_dir():
        (target / "resources" / "models").symlink_to(ROOT / "resources" / "models")
    return target
