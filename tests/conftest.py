"""Fixtures: fetched weights, and the real corpora where they are at hand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


def _stamp(name: str) -> Path:
    stamp = ROOT / "resources" / "models" / name / "fetched.json"
    if not stamp.is_file():
        pytest.skip(f"weights of {name} are not fetched; run `make models`")
    return stamp


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Stamp of the small encoder."""
    return _stamp("minilm")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Stamp of the small language model."""
    return _stamp("smollm2")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real corpora and ontologies: MENTIONFORGE_MIRROR, or ../shared/data."""
    folder = Path(os.environ.get("MENTIONFORGE_MIRROR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real corpora are not at hand; set MENTIONFORGE_MIRROR")
    return folder


BIN = Path(sys.executable).parent
MINI = ROOT / "tests" / "mini.yaml"


def snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the checkout; standard error joins standard output."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([BIN / "snakemake", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not check or done.returncode == 0, done.stdout[-4000:]
    return done


def copy_checkout(target: Path) -> Path:
    """A copy of what git would hold of the checkout, with the fetched weights linked in."""
    hidden = shutil.ignore_patterns(".venv", ".git", ".snakemake", "results", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "models", "downloads")
    shutil.copytree(ROOT, target, ignore=hidden)
    if (ROOT / "resources" / "models").is_dir():
        (target / "resources" / "models").symlink_to(ROOT / "resources" / "models")
    return target


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, minilm: Path, smollm2: Path) -> Path:
    """A checkout in which the mini experiment has run to its end."""
    folder = copy_checkout(tmp_path_factory.mktemp("finished") / "mentionforge")
    snakemake(folder, "--configfile", "tests/mini.yaml")
    return folder
