"""Fixtures: fetched weights, and the real corpora where they are at hand."""

import os
import shutil
from pathlib import Path

import pytest

from checkout import ROOT, copy_checkout, snakemake


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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, minilm: Path, smollm2: Path) -> Path:
    """A checkout in which the mini experiment has run to its end."""
    folder = copy_checkout(tmp_path_factory.mktemp("finished") / "mentionforge")
    snakemake(folder, "--configfile", "tests/mini.yaml")
    return folder


@pytest.fixture(scope="session")
def rich(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini experiment and what only some experiments have on top of it: seeds, a swept dose, other corpora, end to end."""
    folder = tmp_path_factory.mktemp("rich") / "mentionforge"
    shutil.copytree(finished, folder, symlinks=True)
    snakemake(folder, "--configfile", "tests/mini.yaml", "tests/rich.yaml")
    return folder
