"""Snakemake's plan of a configuration as data.

In: arguments of Snakemake. Out: a `Job` for each job of the DAG, and the merged configuration. `plan` starts `python -m mentionforge.planning.plan`, which is
Snakemake with a --summary that prints one JSON object per job. Runs no job, takes no lock, and knows nothing of what jobs compute.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge.errors import UserError
from mentionforge.layout import index_in
from mentionforge.needs import SEVERAL

MARK = "job\t"
"""Prefix of lines that describe a job; Snakemake prints other lines, too."""

CONFIGURED = "config\t"
"""Prefix of the line with the configuration: config.yaml and its overlays, as merged by Snakemake."""


@dataclass(frozen=True)
class Job:
    """One job of the DAG.

    Attributes:
        rule: Name of the rule; a job of several indexes has the name of the rule for one.
        outputs: Files and folders that it writes.
        folders: Outputs that are folders.
        log: Log files.
        benchmark: File with its times, if the rule has one.
        pending: Whether a run would start it.
        reasons: Why a run would start it, in Snakemake's words; empty if it only follows other jobs.
        missing: Outputs that do not exist.
        incomplete: Outputs of a job that was interrupted.
        changed: Inputs that changed and that no pending job writes.
        resources: Its resources, without those that depend on files that do not exist yet.
        wildcards: Values of its wildcards; several indexes are joined by commas.
    """

    rule: str
    outputs: tuple[str, ...]
    folders: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    benchmark: str | None = None
    pending: bool = False
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    resources: Mapping[str, str | int] = field(default_factory=dict, hash=False)
    wildcards: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def state(self) -> str:
        """`done`, `missing` (an output does not exist), or `stale` (all outputs exist, but a run would write them again)."""
        return "done" if not self.pending else "missing" if self.missing else "stale"


FOLLOWS = "input files updated by another job"
"""Snakemake's reason for a job that only follows other jobs."""


def plan(arguments: Sequence[str] = (), folder: Path | None = None) -> list[Job]:
    """All jobs of the DAG, in Snakemake's order; see `plan_and_config`."""
    return plan_and_config(arguments, folder)[0]


def plan_and_config(arguments: Sequence[str] = (), folder: Path | None = None) -> tuple[list[Job], dict[str, Any]]:
    """All jobs of the DAG, in Snakemake's order, and the raw configuration of the plan.

    Args:
        arguments: Arguments of Snakemake: targets, --configfile, --config and the like.
        folder: The checkout; none: the working folder.

    Raises:
        UserError: There is no Snakefile; or Snakemake fails, with its own message.
    """
    if not ((folder or Path.cwd()) / "Snakefile").is_file():
        raise UserError("no workflow", str(folder or Path.cwd()), "there is no Snakefile", "start it in the folder of the workflow")
    command = [sys.executable, "-m", "mentionforge.planning.plan", *arguments, "--summary", "--nocolor"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if process.returncode:
        output = [line for line in (process.stdout + process.stderr).splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in output if line.startswith("error: ")]
        raise UserError("no plan", "snakemake", errors[0] if errors else output[-1] if output else "it ended without a word", "see `snakemake -n`")
    lines = process.stdout.splitlines()
    jobs = [_as_job(json.loads(line.removeprefix(MARK))) for line in lines if line.startswith(MARK)]
    raw: dict[str, Any] = next((json.loads(line.removeprefix(CONFIGURED)) for line in lines if line.startswith(CONFIGURED)), {})
    return jobs, raw


def _as_job(data: dict[str, Any]) -> Job:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Job(**fields)


async def _lines(dag: Any, detailed: bool = False) -> AsyncIterator[str]:
    """Replace Snakemake's own summary by one line per job. `detailed` is part of Snakemake's signature, and ignored."""
    yield CONFIGURED + json.dumps(dag.workflow.globals["config"])
    for job in dag.jobs:
        reason = dag.reason(job)
        names = [name for name in reason.get_names() if name != FOLLOWS]
        yield MARK + json.dumps(
            {
                "rule": job.rule.name.partition(SEVERAL)[0],
                "outputs": [str(f) for f in job.output],
                "folders": [str(f) for f in job.output if f.is_directory],
                "log": [str(f) for f in job.log],
                "benchmark": str(job.benchmark) if job.benchmark else None,
                "pending": bool(reason),
                "reasons": names,
                "missing": [str(f) for f in job.output if not await f.exists()],
                "incomplete": sorted(map(str, reason.incomplete_output)),
                "resources": {key: value for key, value in job.resources.items() if type(value) in (int, str) and not key.startswith("_")},
                "changed": sorted(map(str, reason.updated_input)),
                "wildcards": _wildcards(job),
            }
        )


def _wildcards(job: Any) -> dict[str, str]:
    """Values of a job's wildcards; a job of several indexes has them all as its index, joined by commas."""
    values = dict(job.wildcards_dict)
    if SEVERAL in job.rule.name:
        values["index"] = ",".join(dict.fromkeys(index_in(Path(path)) for path in job.output))
    return values


def main() -> None:
    """Snakemake's command line with another summary."""
    from snakemake import cli
    from snakemake.dag import DAG

    DAG.summary = _lines
    cli.main(sys.argv[1:])


if __name__ == "__main__":
    main()
