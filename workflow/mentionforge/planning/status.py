"""The state of a results folder: jobs that are done, stale (and why) or missing, and the cost of a run.

In: the plan, and the formulas of costs. Out: a `RuleState` for each rule; the report of `mentionforge status` as text and as data. Reads sizes of
outputs. Knows nothing of Snakemake's files; seconds come from `mentionforge.planning.estimates`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import needs
from mentionforge.planning import cost, reference_devices
from mentionforge.planning.estimates import Arithmetic, estimated
from mentionforge.planning.leftovers import size_of
from mentionforge.planning.plan import Job


@dataclass(frozen=True)
class RuleState:
    """The jobs of one rule: their number by state, bytes of their outputs, and estimated seconds of pending jobs.

    Attributes:
        rule: Name of the rule.
        done: Number of jobs whose outputs are up to date.
        stale: Number of jobs whose outputs exist, but would be written again.
        missing: Number of jobs with a missing output.
        size: Bytes of existing outputs.
        seconds: Estimate from times of earlier jobs; None if no earlier job is comparable.
        gpu: Whether the rule computes on a GPU if there is one.
        parts: Costs by formula, for jobs without a comparable earlier job, by part of the experiment.
        unknown: Number of jobs with neither a comparable earlier job nor a formula.
        scaled: Number of jobs whose seconds are those of other jobs, scaled by the ratio of their formulas.
        devices: Devices of the earlier jobs whose times are used.
        unused: Number of earlier times that are not used, by reason: `no record` of device and model, or `another` model or settings.
    """

    rule: str
    done: int
    stale: int
    missing: int
    size: int
    seconds: float | None
    gpu: bool
    parts: Mapping[str, cost.CostItem] = field(default_factory=dict)
    unknown: int = 0
    scaled: int = 0
    devices: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def arithmetic(self) -> float:
        """Seconds of `parts`."""
        return sum(part.seconds for part in self.parts.values())


def rule_states(jobs: Iterable[Job], folder: Path = Path(), arithmetic: Arithmetic | None = None) -> list[RuleState]:
    """The jobs of a plan by rule, in the order in which rules occur in the plan.

    Args:
        jobs: The plan.
        folder: Folder that paths of the plan are relative to.
        arithmetic: Formulas for jobs without a comparable earlier job; None: no estimate for such jobs.
    """
    by_rule: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.outputs:
            by_rule[job.rule].append(job)
    gpu = needs.gpu_rules()
    result = []
    for rule, jobs_of_rule in by_rule.items():
        states = Counter(job.state for job in jobs_of_rule)
        size = sum(size_of(folder / path) for job in jobs_of_rule for path in job.outputs)
        estimate = estimated(jobs_of_rule, folder, arithmetic)
        result.append(RuleState(rule, states["done"], states["stale"], states["missing"], size, gpu=rule in gpu, **estimate))
    return result


def causes(jobs: Iterable[Job]) -> list[tuple[str, int, list[str]]]:
    """Why finished jobs are stale: each cause with the number of jobs that it concerns directly, and their outputs.

    Jobs that are stale only because an earlier job is stale are left out. So are jobs without any output yet, unless finished jobs must run again
    because of them.
    """
    by_cause: defaultdict[str, list[str]] = defaultdict(list)
    jobs = list(jobs)
    reruns = any(job.pending and job.outputs and not job.missing for job in jobs)
    for job in jobs:
        if not job.pending or not job.outputs:
            continue
        if job.rule == "spec" and "/specs/parts/" in job.outputs[0] and reruns:
            by_cause["our code corrected: its version was raised"].append(job.outputs[0])
        elif job.incomplete:
            by_cause["interrupted while it was written"].append(job.incomplete[0])
        elif job.missing and len(job.missing) < len(job.outputs):
            by_cause["some of a job's outputs are missing"].append(job.missing[0])
        elif not job.missing and job.rule == "spec":
            by_cause["settings changed"].append(job.outputs[0])
        elif not job.missing:
            for path in job.changed:
                by_cause[f"input changed: {path}"].append(job.outputs[0])
            for reason in job.reasons:
                if not (reason == "updated input files" and job.changed):
                    by_cause[reason].append(job.outputs[0])
    return sorted((cause, len(paths), sorted(paths)) for cause, paths in by_cause.items())


def human(size: float) -> str:
    """Bytes as text with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def hours(seconds: float) -> str:
    """Seconds as text, in hours, minutes or seconds."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.0f} min" if seconds >= 60 else f"{seconds:,.0f} s"


def show(jobs: Sequence[Job], folder: Path = Path(), examples: int = 3, arithmetic: Arithmetic | None = None) -> str:
    """The report of `mentionforge status` as text."""
    rows = rule_states(jobs, folder, arithmetic)
    lines = [f"{'rule':24}{'done':>7}{'stale':>7}{'missing':>9}{'size':>10}{'to do':>12}{'by arithmetic':>15}"]
    for row in sorted(rows, key=lambda r: r.rule):
        remaining = row.stale + row.missing
        times = (
            ""
            if not remaining
            else "?"
            if row.seconds is None and not row.arithmetic
            else hours(row.seconds) + (" GPU" if row.gpu else "")
            if row.seconds
            else ""
        )
        guess = hours(row.arithmetic) if row.arithmetic else ""
        lines.append(f"{row.rule:24}{row.done:>7,}{row.stale:>7,}{row.missing:>9,}{human(row.size):>10}{times:>12}{guess:>15}".rstrip())
    remaining = sum(row.stale + row.missing for row in rows)
    lines += ["", f"{sum(row.done for row in rows):,} jobs done, {remaining:,} to do; {human(sum(row.size for row in rows))} of results"]
    lines += _costs(rows, arithmetic)
    stale_causes = causes(jobs)
    if stale_causes:
        lines += ["", "Why finished work would be made anew (what follows from it is not listed):"]
        for cause, n, paths in stale_causes:
            rest = f", and {n - examples:,} more" if n > examples else ""
            lines.append(f"  {cause}: {', '.join(paths[:examples])}{rest}")
    return "\n".join(lines)


def _costs(rows: Sequence[RuleState], arithmetic: Arithmetic | None) -> list[str]:
    """Lines of the report about hours: estimates from earlier times and by formula, and what each is based on."""
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
        device = arithmetic.device
        total, gpu = (sum(part.seconds for part in parts.values() if part.gpu or not only_gpu) for only_gpu in (False, True))
        of_gpu = f", {hours(gpu)} of them of a GPU" if device.gpu else ""
        lines.append(
            f"about {hours(total)}{' more' if timed else ''} by arithmetic on {device.name}{of_gpu}: not measured, right within a factor of two or three"
        )
        lines += [f"  {name:34}{part.jobs:>6,} jobs {hours(part.seconds):>12}" for name, part in sorted(parts.items(), key=lambda p: -p[1].seconds)]
        lines.append(f"  {device.assumed}; --device names another: {', '.join(reference_devices.DEVICES)}")
        lines += [f"  assumed: {words}" for words in arithmetic.sizes.assumed] + ["  --concepts N: for N concepts"] * bool(arithmetic.sizes.assumed)
    unused = sum((Counter(row.unused) for row in rows), Counter[str]())
    for reason, words in (("no record", "an unknown device and model (their logs do not say)"), ("another", "another model or other settings")):
        if unused[reason]:
            rules = sorted(row.rule for row in rows if row.unused.get(reason))
            lines.append(f"not used, since of {words}: {unused[reason]:,} of the times of earlier jobs ({', '.join(rules)})")
    if unknown := sorted(f"{row.rule}{' (GPU)' if row.gpu else ''}" for row in rows if row.unknown):
        lines.append(f"not in it, since they have never run here, and nothing tells their size: {', '.join(unknown)}")
    return lines


def as_data(jobs: Sequence[Job], folder: Path = Path(), arithmetic: Arithmetic | None = None) -> dict[str, Any]:
    """The report of `mentionforge status` as data, for scripts."""
    rows = rule_states(jobs, folder, arithmetic)
    data: dict[str, Any] = {
        "rules": [vars(row) | {"parts": {name: vars(part) for name, part in row.parts.items()}, "arithmetic": row.arithmetic} for row in rows],
        "causes": [{"why": cause, "jobs": n, "outputs": paths} for cause, n, paths in causes(jobs)],
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
