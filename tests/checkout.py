"""The checkout under test: where it is, copies of it, and Snakemake runs in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MINI = ROOT / "tests" / "mini.yaml"


def snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the checkout; standard error joins standard output. It ends after three seconds of waiting for timers instead of ten."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    command = [BIN / "snakemake", "--max-jobs-per-timespan", "1000/3s", *arguments]
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
