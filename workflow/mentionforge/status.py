"""The state of a results folder against a configuration: what is done, stale and why, missing, and what a run would cost; and what is left over.

The time of an earlier job stands for another one only where both compute with a model of the same size and by the same settings; on which device it was
measured is said. What has never run so is estimated by arithmetic (`mentionforge.cost`), on a device that is named.
"""

from __future__ import annotations

import base64
import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import cost, needs, ran
from mentionforge.config import Config, spec_text
from mentionforge.errors import UserError
from mentionforge.layout import OWNED
from mentionforge.planning import Job

UNKNOWN = "an unknown device"
"""Where a past time was measured that has no record."""


@dataclass(frozen=True)
class Arithmetic:
    """What estimates of jobs that have never run are made with.

    Attributes:
        config: The configuration of the plan.
        sizes: How much there is to work on.
        device: The device that the arithmetic is for.
        folder: What the paths of the plan refer to.
    """

    config: Config
    sizes: cost.Sizes
    device: cost.Device
    folder: Path = Path()
    _works: dict[tuple[Job, str], cost.Work | None] = field(default_factory=dict)

    def work(self, job: Job, on: cost.Device | None = None) -> cost.Work | None:
        """The cost of a job, where there is arithmetic for its rule; none of others."""
        on = on or self.device
        if not job.wildcards:
            return None
        if (job, on.name) not in self._works:
            self._works[job, on.name] = cost.work(self.config, job.rule, job.wildcards, self.sizes, on, self.folder)
        return self._works[job, on.name]

    def computes(self, job: Job) -> bool:
        """Whether a model of the configuration computes in a job."""
        return bool(job.wildcards) and cost.model_of(self.config, job.rule, job.wildcards) is not None

    def record(self, job: Job) -> ran.Record:
        """What the log of the job will say, the device aside."""
        model = cost.model_of(self.config, job.rule, job.wildcards)
        size = cost.shape(self.config, model, self.folder) if model else None
        entry = cost.settings_of(job.rule, job.wildcards)
        return ran.Record("", size.weights if size else None, ran.settings_digest(spec_text(self.config, *entry)) if entry else None)


@dataclass(frozen=True)
class Stage:
    """Jobs of one rule: how many in each state, bytes of what is there, and estimated seconds of what is to be done.

    Attributes:
        rule: Name of the rule.
        done: Jobs whose outputs are up to date.
        stale: Jobs whose outputs are there, and would be made anew.
        missing: Jobs whose outputs are not there.
        size: Bytes of the outputs that are there.
        seconds: Estimated from past times; none: there is none to estimate from.
        gpu: Whether the rule runs on a GPU where there is one.
        parts: Of the jobs that no past time stands for, by arithmetic: jobs, seconds, and whether they use the GPU, by part of the experiment.
        unknown: Jobs with neither.
        scaled: Jobs whose seconds are those of others, by arithmetic's ratio of the two.
        devices: Where the past times that are used were measured.
        unused: Past times that stand for no job, and why: `no record` of device and model, or `another` model or settings.
    """

    rule: str
    done: int
    stale: int
    missing: int
    size: int
    seconds: float | None
    gpu: bool
    parts: Mapping[str, cost.Part] = field(default_factory=dict)
    unknown: int = 0
    scaled: int = 0
    devices: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def arithmetic(self) -> float:
        """Seconds of `parts`."""
        return sum(part.seconds for part in self.parts.values())


def stages(jobs: Iterable[Job], folder: Path = Path(), arithmetic: Arithmetic | None = None) -> list[Stage]:
    """Jobs by rule, in the order of the plan from its last job to its first.

    Args:
        jobs: The plan.
        folder: What the paths of the plan refer to.
        arithmetic: For jobs that have never run; none: they have no estimate.
    """
    by_rule: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.outputs:
            by_rule[job.rule].append(job)
    gpu = gpu_rules()
    found = []
    for rule, some in by_rule.items():
        states = Counter(job.state for job in some)
        size = sum(size_of(folder / path) for job in some for path in job.outputs)
        estimate = _estimated(some, folder, arithmetic)
        found.append(Stage(rule, states["done"], states["stale"], states["missing"], size, gpu=rule in gpu, **estimate))
    return found


@dataclass(frozen=True)
class _Past:
    """A job that has run here, its seconds, and what its log says that it ran with."""

    job: Job
    seconds: float
    record: ran.Record | None


def _estimated(jobs: Sequence[Job], folder: Path, arithmetic: Arithmetic | None) -> dict[str, Any]:
    """What is to be done of a rule, in seconds: the fields of `Stage` from `seconds` on."""
    left = [job for job in jobs if job.pending]
    past = [
        _Past(job, seconds, next((r for log in job.log if (r := ran.record(folder / log))), None))
        for job in jobs
        if job.benchmark and (seconds := measured(folder / job.benchmark)) is not None
    ]
    times: list[float] = []
    unknown = scaled = 0
    works: list[cost.Work] = []
    used: dict[tuple[str, ...], _Past] = {}
    for job in left:
        computes = arithmetic is not None and arithmetic.computes(job)
        expected = arithmetic.record(job) if arithmetic and computes and past else None
        fit = [p for p in past if _stands_for(p, expected)] if expected else past
        own = next((p for p in fit if p.job.outputs == job.outputs), None)
        work = arithmetic.work(job) if arithmetic else None
        if own:
            times.append(own.seconds)
            used[own.job.outputs] = own
        elif fit and arithmetic and computes:
            some = _of_one_device(fit)
            times.append(statistics.mean(p.seconds * _ratio(job, p, arithmetic) for p in some))
            scaled += 1
            used |= {p.job.outputs: p for p in some}
        elif fit:
            times.append(statistics.mean(p.seconds for p in fit))
            used |= {p.job.outputs: p for p in fit}
        elif work:
            works.append(work)
        else:
            unknown += job.benchmark is not None
    nothing = not left or (not times and not works and not unknown)
    names = {p.record.device if p.record else UNKNOWN for p in used.values()}
    unused = Counter("no record" if p.record is None else "another" for p in past if p.job.outputs not in used) if left and not nothing else Counter[str]()
    return {
        "seconds": sum(times) if times else 0.0 if nothing else None,
        "parts": cost.summed(works),
        "unknown": unknown,
        "scaled": scaled,
        "devices": tuple(sorted(names)),
        "unused": dict(unused) if arithmetic and any(map(arithmetic.computes, left)) else {},
    }


def _stands_for(past: _Past, expected: ran.Record) -> bool:
    """Whether a past job computed with a model of the same size, by the same settings."""
    return past.record is not None and (past.record.weights, past.record.settings) == (expected.weights, expected.settings)


def _of_one_device(past: Sequence[_Past]) -> list[_Past]:
    """Those of the device on which most of them ran."""
    devices = Counter(p.record.device for p in past if p.record)
    most = max(sorted(devices), key=lambda name: devices[name])
    return [p for p in past if p.record and p.record.device == most]


def _ratio(job: Job, past: _Past, arithmetic: Arithmetic) -> float:
    """How much longer a job takes than a past one of its rule, by arithmetic on a device of its kind; 1 where there is none."""
    on = cost.device(cost.SMALL) if past.record and past.record.device.startswith("cpu") else arithmetic.device
    one, other = arithmetic.work(job, on), arithmetic.work(past.job, on)
    return one.seconds / other.seconds if one and other else 1.0


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
    jobs = list(jobs)
    again = any(job.pending and job.outputs and not job.missing for job in jobs)
    for job in jobs:
        if not job.pending or not job.outputs:
            continue
        if job.rule == "spec" and "/specs/parts/" in job.outputs[0] and again:
            found["our code corrected: its version was raised"].append(job.outputs[0])
        elif job.incomplete:
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


def show(jobs: Sequence[Job], folder: Path = Path(), examples: int = 3, arithmetic: Arithmetic | None = None) -> str:
    """The report that `mentionforge status` prints."""
    rows = stages(jobs, folder, arithmetic)
    lines = [f"{'rule':24}{'done':>7}{'stale':>7}{'missing':>9}{'size':>10}{'to do':>12}{'by arithmetic':>15}"]
    for row in sorted(rows, key=lambda r: r.rule):
        left = row.stale + row.missing
        times = (
            "" if not left else "?" if row.seconds is None and not row.arithmetic else hours(row.seconds) + (" GPU" if row.gpu else "") if row.seconds else ""
        )
        guess = hours(row.arithmetic) if row.arithmetic else ""
        lines.append(f"{row.rule:24}{row.done:>7,}{row.stale:>7,}{row.missing:>9,}{human(row.size):>10}{times:>12}{guess:>15}".rstrip())
    left = sum(row.stale + row.missing for row in rows)
    lines += ["", f"{sum(row.done for row in rows):,} jobs done, {left:,} to do; {human(sum(row.size for row in rows))} of results"]
    lines += _costs(rows, arithmetic)
    why = causes(jobs)
    if why:
        lines += ["", "Why finished work would be made anew (what follows from it is not listed):"]
        for cause, n, paths in why:
            more = f", and {n - examples:,} more" if n > examples else ""
            lines.append(f"  {cause}: {', '.join(paths[:examples])}{more}")
    return "\n".join(lines)


def _costs(rows: Sequence[Stage], arithmetic: Arithmetic | None) -> list[str]:
    """What is to be done in hours, from past times and by arithmetic, and on what each rests."""
    lines = []
    timed = [row for row in rows if row.seconds]
    if timed:
        total, gpu = (sum(row.seconds or 0 for row in timed if row.gpu or not only_gpu) for only_gpu in (False, True))
        lines.append(f"about {hours(total)} one after another, {hours(gpu)} of them of rules that use a GPU; from the times of earlier jobs here")
        devices: defaultdict[str, list[str]] = defaultdict(list)
        for row in timed:
            for name in row.devices:
                devices[name].append(row.rule)
        lines += [f"  measured on {name}: {', '.join(sorted(rules))}" for name, rules in sorted(devices.items())]
        if scaled := sum(row.scaled for row in timed):
            lines.append(f"  scaled by arithmetic from another corpus, schedule or number of notes: the times of {scaled:,} of these jobs")
    parts = cost.joined(row.parts for row in rows)
    if parts and arithmetic:
        on = arithmetic.device
        total, gpu = (sum(part.seconds for part in parts.values() if part.gpu or not only_gpu) for only_gpu in (False, True))
        of_gpu = f", {hours(gpu)} of them of a GPU" if on.gpu else ""
        lines.append(f"about {hours(total)}{' more' if timed else ''} by arithmetic on {on.name}{of_gpu}: not measured, right within a factor of two or three")
        lines += [f"  {name:34}{part.jobs:>6,} jobs {hours(part.seconds):>12}" for name, part in sorted(parts.items(), key=lambda p: -p[1].seconds)]
        lines.append(f"  {on.assumed}; --device names another: {', '.join(cost.DEVICES)}")
        lines += [f"  assumed: {words}" for words in arithmetic.sizes.assumed] + ["  --concepts N: for N concepts"] * bool(arithmetic.sizes.assumed)
    dropped = sum((Counter(row.unused) for row in rows), Counter[str]())
    for reason, words in (("no record", "an unknown device and model (their logs do not say)"), ("another", "another model or other settings")):
        if dropped[reason]:
            rules = sorted(row.rule for row in rows if row.unused.get(reason))
            lines.append(f"not used, since of {words}: {dropped[reason]:,} of the times of earlier jobs ({', '.join(rules)})")
    if unknown := sorted(f"{row.rule}{' (GPU)' if row.gpu else ''}" for row in rows if row.unknown):
        lines.append(f"not in it, since they have never run here, and nothing tells their size: {', '.join(unknown)}")
    return lines


def as_data(jobs: Sequence[Job], folder: Path = Path(), arithmetic: Arithmetic | None = None) -> dict[str, Any]:
    """The same as data, for scripts."""
    rows = stages(jobs, folder, arithmetic)
    data: dict[str, Any] = {
        "rules": [vars(row) | {"parts": {name: vars(part) for name, part in row.parts.items()}, "arithmetic": row.arithmetic} for row in rows],
        "causes": [{"why": why, "jobs": n, "outputs": paths} for why, n, paths in causes(jobs)],
    }
    if arithmetic:
        parts = cost.joined(row.parts for row in rows)
        data["arithmetic"] = {
            "device": vars(arithmetic.device),
            "assumed": list(arithmetic.sizes.assumed),
            "parts": {name: vars(part) for name, part in parts.items()},
            "gpu_hours": sum(part.seconds for part in parts.values() if part.gpu) / 3600,
        }
    return data
