"""What a dry-run would do, job by job."""

import re
from pathlib import Path
from typing import NamedTuple

from checkout import snakemake

ALL_OF_DEMO_NCBI = {
    "corpora read": 1,
    "corpora leakage": 2,
    "corpora cards": 1,
    "augmentation choose": 4,
    "normalization embed-corpus": 2,
    "normalization search-kb": 2,
    "normalization link": 10,
    "recognition train": 2,
    "evaluation normalization": 1,
    "evaluation recognition": 1,
    "evaluation compare": 2,
    "report summary": 1,
    "report tidy": 1,
    "report page": 1,
}
"""Jobs of the mini experiment that read the corpus demo_ncbi, or what is made of it: nothing of the other corpus, the generators or the knowledge base."""


class Job(NamedTuple):
    """A planned job: `stage verb` (or `spec`), and its whole command."""

    verb: str
    command: str


def planned(folder: Path, *arguments: str) -> list[Job]:
    """Jobs of a dry-run in the order printed, `rule all` left out; asserts that the job count Snakemake states is met."""
    text = snakemake(folder, "-n", "-p", "--nocolor", *arguments).stdout
    # `all` has no command.
    commands = [command for command in re.findall(r"^Shell command: (.*)$", text, re.M) if command != "None"]
    stated = re.search(r"^total\s+(\d+)$", text, re.M)
    whole = bool(re.search(r"^all\s+1$", text, re.M))
    assert len(commands) == (int(stated.group(1)) - whole if stated else 0), text
    jobs = []
    for command in commands:
        words = command.split()
        jobs.append(Job("spec" if words[0] == "printf" else " ".join(words[1:3]), command))
    return jobs
