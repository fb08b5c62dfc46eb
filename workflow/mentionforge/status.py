"""The state of a results folder against a configuration: what is done, stale and why, missing, and what a run would cost; and what is left over."""

from __future__ import annotations

import base64
import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge import needs
from mentionforge.errors import UserError
from mentionforge.planning import Job

OWNED = (
    "alignment", "augmentation", "benchmarks", "corpora", "embeddings", "end_to_end", "evaluation", "generation", "kb", "leakage", "logs", "missing",
    "normalization", "recognition", "report", "reranking", "retrieval", "specs", "statistics", "sweeps", "summary",
)  # fmt: skip
"""Folders of a results folder that the workflow writes; whatever lies elsewhere is somebody else's."""


@dataclass(frozen=True)
class Stage:
    """Jobs of one rule: how many in each state, bytes of what is there, and estimated seconds of what is to be done.

    Attributes:
        rule: Name of the rule.
        done: Jobs whose outputs are up to date.
        stale: Jobs whose outputs are there, and would be made anew.
        missing: Jobs whose outputs are not there.
        size: Bytes of the outputs that are there.
        seconds: Estimated from past runs of the same job, or else of the rule; none: the rule has never run here.
        gpu: Whether the rule runs on a GPU where there is one.
    """

    rule: str
    done: int
    stale: int
    missing: int
    size: int
    seconds: float | None
    gpu: bool


def stages(jobs: Iterable[Job], folder: Path = Path()) -> list[Stage]:
    """Jobs by rule, in the order of the plan from its last job to its first.

    Args:
        jobs: The plan.
        folder: What the paths of the plan refer to.
    """
    by_rule: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.outputs:
            by_rule[job.rule].append(job)
    gpu = gpu_rules()
    found = []
    for rule, some in by_rule.items():
        states = Counter(job.state for job in some)
        past = {job.outputs: seconds for job in some if job.benchmark and (seconds := measured(folder / job.benchmark)) is not None}
        typical = statistics.mean(past.values()) if past else None
        left = [job for job in some if job.pending]
        estimates = [past.get(job.outputs, typical) for job in left]
        seconds = 0.0 if not left or all(job.benchmark is None for job in left) else None if typical is None else sum(e for e in estimates if e is not None)
        size = sum(size_of(folder / path) for job in some for path in job.outputs)
        found.append(Stage(rule, states["done"], states["stale"], states["missing"], size, seconds, rule in gpu))
    return found


def measured(benchmark: Path) -> float | None:
    """Seconds of a job by its benchmark file, the mean of its repetitions; none where there is no such file."""
    try:
        with open(benchmark, newline="", encoding="utf-8") as source:
            seconds = [float(row["s"]) for row in csv.DictReader(source, delimiter="\t")]
    except (OSError, KeyError, ValueError):
        return None
    return statistics.mean(seconds) if seconds else None


def gpu_rules() -> set[str]:
    """Rules whose commands compute on a GPU where there is one."""
    return needs.gpu_rules()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is none."""
    try:
        if path.is_dir():
            return sum(size_of(below) for below in path.iterdir())
        return path.stat().st_size
    except OSError:
        return 0


def causes(jobs: Iterable[Job]) -> list[tuple[str, int, list[str]]]:
    """Why finished work is stale: what has changed, how many jobs it concerns directly, and some of their outputs.

    Jobs that only follow others are not listed: they are stale because of these. Neither are jobs whose outputs are missing,
    unless a job that is done is to be made anew because of them.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for job in jobs:
        if not job.pending or not job.outputs:
            continue
        if job.incomplete:
            found["interrupted while it was written"].append(job.incomplete[0])
        elif job.missing and len(job.missing) < len(job.outputs):
            found["some of a job's outputs are missing"].append(job.missing[0])
        elif not job.missing and job.rule == "spec":
            found["settings changed"].append(job.outputs[0])
        elif not job.missing:
            for path in job.changed:
                found[f"input changed: {path}"].append(job.outputs[0])
            for reason in job.reasons:
                if not (reason == "updated input files" and job.changed):
                    found[reason].append(job.outputs[0])
    return sorted((why, len(paths), sorted(paths)) for why, paths in found.items())


def leftovers(jobs: Iterable[Job], results: Path, metadata: Path, folder: Path = Path()) -> list[Path]:
    """Files of a results folder that no job of the plan writes any more, sorted.

    A file is left over if Snakemake has recorded it as an output (then it is the output of a job that is no longer asked for), or if
    it lies in a folder in which no job of the plan writes. Files that jobs write beside their outputs stay with these; so do partial
    files of interrupted jobs.

    Args:
        jobs: The plan of everything that uses the folder.
        results: The results folder, relative to `folder`.
        metadata: Snakemake's records, `.snakemake/metadata`.
        folder: What the paths of the plan refer to.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for job in jobs:
        files.update(set(job.outputs) - set(job.folders))
        files.update(job.log)
        files.update([job.benchmark] if job.benchmark else [])
        folders.update(job.folders)
    homes = {str(Path(path).parent) for path in files | folders}
    recorded = recorded_outputs(metadata)
    found = []
    for top in OWNED:
        for path in sorted((folder / results / top).rglob("*")):
            name = str(path.relative_to(folder))
            if (path.is_dir() and not path.is_symlink()) or name in files:
                continue
            parents = [str(parent) for parent in Path(name).parents]
            if any(parent in folders for parent in parents):
                continue
            if name in recorded or any(parent in recorded for parent in parents) or not any(home in homes for home in _homes(name, parents)):
                found.append(path)
    return found


def _homes(name: str, parents: Sequence[str]) -> list[str]:
    """Folders whose outputs a file belongs to: its own, and for checkpoints in NAME.checkpoints/ that of NAME."""
    return [parents[0], *(str(Path(parent).parent) for parent in parents if parent.endswith((".checkpoints", ".merged")))]


def recorded_outputs(metadata: Path) -> set[str]:
    """Paths of which Snakemake has recorded that a job wrote them; the names of its files are their Base64, long ones cut into folders."""
    found = set()
    for record in metadata.rglob("*") if metadata.is_dir() else ():
        if not record.is_file():
            continue
        text = "".join(part.removeprefix("@") for part in record.relative_to(metadata).parts)
        try:
            found.add(base64.b64decode(text, altchars=b"-_").decode())
        except ValueError:
            continue
    return found


def clean(paths: Iterable[Path], results: Path) -> int:
    """Delete files, and folders that are empty then; returns the bytes freed."""
    freed = 0
    above: set[Path] = set()
    for path in paths:
        freed += size_of(path)
        path.unlink(missing_ok=True)
        above.update(parent for parent in path.parents if results in parent.parents)
    for parent in sorted(above, key=lambda p: -len(p.parts)):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return freed


def refuse_while_locked(folder: Path) -> None:
    """Stop where a workflow runs in this folder.

    Raises:
        UserError: It does, or was killed.
    """
    if any((folder / ".snakemake" / "locks").glob("*")):
        raise UserError("locked", str(folder / ".snakemake" / "locks"), "a workflow runs here, or was killed", "wait for it; if none runs: snakemake --unlock")


def human(size: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def hours(seconds: float) -> str:
    """Seconds as hours and minutes."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.0f} min" if seconds >= 60 else f"{seconds:,.0f} s"


def show(jobs: Sequence[Job], folder: Path = Path(), examples: int = 3) -> str:
    """The report that `mentionforge status` prints."""
    rows = stages(jobs, folder)
    lines = [f"{'rule':24}{'done':>7}{'stale':>7}{'missing':>9}{'size':>10}{'to do':>10}"]
    for row in sorted(rows, key=lambda r: r.rule):
        left = row.stale + row.missing
        cost = "" if not left else "?" if row.seconds is None else hours(row.seconds) + (" GPU" if row.gpu else "")
        lines.append(f"{row.rule:24}{row.done:>7,}{row.stale:>7,}{row.missing:>9,}{human(row.size):>10}{cost:>14}")
    left = sum(row.stale + row.missing for row in rows)
    unknown = [row.rule for row in rows if row.stale + row.missing and row.seconds is None]
    total, gpu = (sum(row.seconds or 0 for row in rows if row.gpu or not only_gpu) for only_gpu in (False, True))
    lines += ["", f"{sum(row.done for row in rows):,} jobs done, {left:,} to do; {human(sum(row.size for row in rows))} of results"]
    if left:
        guess = f"about {hours(total)} one after another, {hours(gpu)} of them of rules that use a GPU; from the times of earlier jobs here"
        lines.append(guess if len(unknown) < len({row.rule for row in rows if row.stale + row.missing}) else "no job of these rules has run here: no estimate")
        if unknown and lines[-1] == guess:
            lines.append(f"not in it, since they have never run here: {', '.join(sorted(unknown))}")
    why = causes(jobs)
    if why:
        lines += ["", "Why finished work would be made anew (what follows from it is not listed):"]
        for cause, n, paths in why:
            more = f", and {n - examples:,} more" if n > examples else ""
            lines.append(f"  {cause}: {', '.join(paths[:examples])}{more}")
    return "\n".join(lines)


def as_data(jobs: Sequence[Job], folder: Path = Path()) -> dict[str, Any]:
    """The same as data, for scripts."""
    return {
        "rules": [vars(row) for row in stages(jobs, folder)],
        "causes": [{"why": why, "jobs": n, "outputs": paths} for why, n, paths in causes(jobs)],
    }
