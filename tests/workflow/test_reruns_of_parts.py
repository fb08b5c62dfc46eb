"""What reruns when the version of a part of the code is raised: one test for each part, on the plan of tests/parts.yaml, in which every part makes something.

Nothing is computed: the results are empty files that Snakemake has been told to take for finished. The version is raised in the sources of the copy.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from checkout import ROOT, copy_checkout, snakemake
from mentionforge import versions
from mentionforge.planning import Job, plan

PARTS = ("--configfile", "tests/parts.yaml")


def planned(folder: Path) -> list[Job]:
    """The plan by the sources of the copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "workflow"))
        return plan(PARTS, folder)


@pytest.fixture(scope="module")
def touched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which the experiment seems to have run to its end."""
    folder = copy_checkout(tmp_path_factory.mktemp("parts") / "mentionforge")
    (folder / "resources/models").unlink(missing_ok=True)
    jobs = planned(folder)
    snakemake(folder, *(path for job in jobs if job.rule == "spec" for path in job.outputs), *PARTS)
    for job in jobs:
        for path in job.outputs if job.rule != "spec" else ():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).mkdir(exist_ok=True) if path in job.folders else (folder / path).write_text("{}")
    snakemake(folder, "--touch", *PARTS)
    assert not [job for job in planned(folder) if job.pending and job.outputs]
    return folder


def raised(folder: Path, part: str) -> list[Job]:
    """Jobs that rerun with the version of a part raised by one; its source is put back."""
    package = folder / "workflow/mentionforge"
    kept = {path: path.read_bytes() for path in (package / versions.PARTS[part].code[0].partition(":")[0], package / versions.CONFIRMED) if path.exists()}
    try:
        assert versions.raise_version(part, package) == versions.number(part) + 1
        return [job for job in planned(folder) if job.pending and job.outputs]
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
