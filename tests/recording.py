"""What jobs ask for: a cluster that takes none of them, but writes down what it is asked, and dry-runs that tell each job's resources."""

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

import warm
from checkout import BIN
from mentionforge.planning.plan import Job

DRY = """
import json, os, sys
from snakemake import cli
from snakemake.executors import dryrun
from snakemake.workflow import Workflow

class Named:
    def __init__(self, plugin):
        self.plugin, self.name = plugin, os.environ["EXECUTOR"]

    def __getattr__(self, name):
        return getattr(self.plugin, name)

def run_job(self, job, really=dryrun.Executor.run_job):
    for one in job.jobs if job.is_group() else [job]:
        plain = {key: value for key, value in one.resources.items() if type(value) in (int, str)}
        print("told\\t" + json.dumps([one.rule.name.partition("_together")[0], str(one.output[0]) if one.output else "", one.is_local, plain]))
    really(self, job)

Workflow.executor_plugin = property(lambda self: self._executor_plugin and Named(self._executor_plugin))
dryrun.Executor.run_job = run_job
cli.main(sys.argv[1:])
"""
"""Snakemake, which in a dry-run tells the resources of each job as the executor that is meant would see them."""

SBATCH = """#!/bin/sh
tab=$(printf '\\t')
for word in "$@"; do
    case "$word" in --wrap=*) break ;; esac
    line="$line$word$tab"
done
printf '%s\\n' "$line" >> "$RECORDED"  # at once: several may be submitted side by side
exit 1
"""
OTHERS = ("sacct", "squeue", "scancel", "sinfo", "scontrol", "sacctmgr", "sshare")


class Told(NamedTuple):
    """A job of a dry-run: its rule, its first output, whether it runs where Snakemake does, and its resources."""

    rule: str
    output: str
    local: bool
    resources: dict[str, int | str]


class Asked(NamedTuple):
    """What one submission asks for; nothing is None."""

    name: str
    mem_mb: int
    minutes: int
    cpus: int
    gpus: str | None
    gres: str | None
    nodes: int | None
    partition: str | None


def commands(folder: Path) -> Path:
    """Write the commands to a folder, which belongs first on the PATH."""
    folder.mkdir()
    for name in ("sbatch", *OTHERS):
        (folder / name).write_text(SBATCH if name == "sbatch" else "#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def make_up(folder: Path, jobs: Iterable[Job], sizes: dict[str, int] | None = None) -> None:
    """Write a file or folder for every output of a plan, of the given bytes or empty, all of one age: nothing is left to be done.

    Args:
        folder: The checkout.
        jobs: The plan.
        sizes: Bytes of some files, by the end of their paths; they are holes, and take no room.
    """
    for job in jobs:
        for output in job.outputs:
            path = folder / output
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if output in job.folders:
                path.mkdir()
                (path / ".snakemake_timestamp").touch()
            else:
                with open(path, "wb") as file:
                    file.truncate(next((size for end, size in (sizes or {}).items() if output.endswith(end)), 0))
    for top in ("results", "resources"):
        for path in (folder / top).rglob("*"):
            os.utime(path, (10**9, 10**9), follow_symlinks=False)


def asked(folder: Path, scratch: Path, targets: Iterable[str], *arguments: str, profile: dict | None = None, **environment: str) -> list[Asked]:
    """Run Snakemake on that cluster, with a profile of the user's; returns every submission in its order.

    Args:
        folder: The checkout.
        scratch: A folder that is not there yet.
        targets: Files to make.
        arguments: Further ones of Snakemake.
        profile: What the user's profile holds besides partition and account.
        environment: Further variables.
    """
    scratch.mkdir(parents=True)
    (scratch / "user").mkdir()
    settings = {"default-resources": {"slurm_partition": "mine", "slurm_account": "ours"}, "latency-wait": 0, "slurm-init-seconds-before-status-checks": 1}
    (scratch / "user/config.yaml").write_text(yaml.safe_dump(settings | (profile or {})))
    seen = {key: value for key, value in os.environ.items() if key != "MENTIONFORGE_GPU"}
    seen |= {"PATH": f"{commands(scratch / 'bin')}:{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder / "workflow"), "HF_HUB_OFFLINE": "1"}
    seen |= {"RECORDED": str(scratch / "recorded"), **environment}
    line = [warm.folder(seen) / "snakemake", *targets, "--nocolor", "--rerun-triggers", "mtime", *arguments]
    line += ["--profile", scratch / "user", "--workflow-profile", "profiles/slurm"]
    done = subprocess.run(line, cwd=folder, env=seen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (scratch / "recorded").is_file(), done.stdout[-3000:]
    return [_read(words) for words in (scratch / "recorded").read_text().splitlines()]


def _read(words: str) -> Asked:
    text = words.replace("\t", " ")

    def value(pattern: str) -> str | None:
        found = re.search(rf"(?:^| ){pattern}[= ](\S+)", text)
        return found.group(1) if found else None

    number = {name: value(pattern) for name, pattern in (("mem", "--mem"), ("time", "-t"), ("cpus", "--cpus-per-task"), ("nodes", "--nodes"))}
    name = re.search(r"--comment (?:rule_|group_)?(\S+)", text)
    assert name and number["mem"] and number["time"] and number["cpus"], text
    nodes = int(number["nodes"]) if number["nodes"] else None
    return Asked(name.group(1), int(number["mem"]), int(number["time"]), int(number["cpus"]), value("--gpus"), value("--gres"), nodes, value("-p"))


def told(folder: Path, *arguments: str, executor: str = "local", **environment: str) -> list[Told]:
    """Every job of a dry-run with its resources, `all` left out."""
    seen = {key: value for key, value in os.environ.items() if key != "MENTIONFORGE_GPU"}
    seen |= {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder / "workflow"), "HF_HUB_OFFLINE": "1", "EXECUTOR": executor, **environment}
    line = [warm.folder(seen) / "python", "-c", DRY, "-n", *arguments]
    done = subprocess.run(line, cwd=folder, env=seen, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    jobs = [Told(*json.loads(line.partition("\t")[2])) for line in done.stdout.splitlines() if line.startswith("told\t")]
    return [job for job in jobs if job.rule != "all"]
