"""Seconds that the pending jobs of a rule will take: by the times of earlier jobs here, else by arithmetic (`mentionforge.planning.cost`).

In: jobs of one rule, their benchmark files and logs. Out: the time fields of a `RuleState`. The time of an earlier job is used for another one only
if both have a model of the same size and the same settings. Knows nothing of outputs, of what is stale, or of how it is printed.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import ran
from mentionforge.config import Config, spec_text
from mentionforge.planning import cost, reference_devices, workload
from mentionforge.planning.plan import Job

UNKNOWN = "an unknown device"
"""Device of a past time whose log does not name one."""


@dataclass(frozen=True)
class Arithmetic:
    """Estimates by formula: the configuration, sizes and device that `mentionforge.planning.cost` needs.

    Attributes:
        config: The configuration of the plan.
        sizes: How much there is to process.
        device: The device that the seconds are for.
        folder: What the paths of the plan refer to.
    """

    config: Config
    sizes: workload.Sizes
    device: reference_devices.Device
    folder: Path = Path()
    _works: dict[tuple[Job, str], cost.Work | None] = field(default_factory=dict)

    def work(self, job: Job, on: reference_devices.Device | None = None) -> cost.Work | None:
        """The cost of a job; None if there is no formula for its rule."""
        on = on or self.device
        if not job.wildcards:
            return None
        if (job, on.name) not in self._works:
            self._works[job, on.name] = cost.work(self.config, job.rule, job.wildcards, self.sizes, on, self.folder)
        return self._works[job, on.name]

    def computes(self, job: Job) -> bool:
        """Whether a job computes with a model of the configuration."""
        return bool(job.wildcards) and cost.model_of(self.config, job.rule, job.wildcards) is not None

    def record(self, job: Job) -> ran.Record:
        """The record that the job will leave in its log; its device is empty, since it is not known yet."""
        model = cost.model_of(self.config, job.rule, job.wildcards)
        size = workload.shape(self.config, model, self.folder) if model else None
        entry = cost.settings_of(job.rule, job.wildcards)
        return ran.Record("", size.weights if size else None, ran.settings_digest(spec_text(self.config, *entry)) if entry else None)


@dataclass(frozen=True)
class _Past:
    """A job that has run here: its seconds, and the record of its device, model and settings, if its log has one."""

    job: Job
    seconds: float
    record: ran.Record | None


def estimated(jobs: Sequence[Job], folder: Path, arithmetic: Arithmetic | None) -> dict[str, Any]:
    """Estimate the pending jobs of one rule; returns the fields of `RuleState` from `seconds` on.

    For each job the first of these counts: its own earlier time; the mean of comparable jobs, scaled by the formula's ratio where a model computes;
    the formula alone. Example: a new seed takes the mean of the seeds that have run.
    """
    pending = [job for job in jobs if job.pending]
    past = [
        _Past(job, seconds, next((r for log in job.log if (r := ran.record(folder / log))), None))
        for job in jobs
        if job.benchmark and (seconds := measured(folder / job.benchmark)) is not None
    ]
    times: list[float] = []
    unknown = scaled = 0
    works: list[cost.Work] = []
    used: dict[tuple[str, ...], _Past] = {}
    for job in pending:
        computes = arithmetic is not None and arithmetic.computes(job)
        expected = arithmetic.record(job) if arithmetic and computes and past else None
        comparable = [p for p in past if _comparable(p, expected)] if expected else past
        own = next((p for p in comparable if p.job.outputs == job.outputs), None)
        work = arithmetic.work(job) if arithmetic else None
        if own:
            times.append(own.seconds)
            used[own.job.outputs] = own
        elif comparable and arithmetic and computes:
            measured_alike = _of_one_device(comparable)
            times.append(statistics.mean(p.seconds * _ratio(job, p, arithmetic) for p in measured_alike))
            scaled += 1
            used |= {p.job.outputs: p for p in measured_alike}
        elif comparable:
            times.append(statistics.mean(p.seconds for p in comparable))
            used |= {p.job.outputs: p for p in comparable}
        elif work:
            works.append(work)
        else:
            unknown += job.benchmark is not None
    nothing = not pending or (not times and not works and not unknown)
    names = {p.record.device if p.record else UNKNOWN for p in used.values()}
    unused = Counter("no record" if p.record is None else "another" for p in past if p.job.outputs not in used) if pending and not nothing else Counter[str]()
    return {
        "seconds": sum(times) if times else 0.0 if nothing else None,
        "parts": cost.summed(works),
        "unknown": unknown,
        "scaled": scaled,
        "devices": tuple(sorted(names)),
        "unused": dict(unused) if arithmetic and any(map(arithmetic.computes, pending)) else {},
    }


def _comparable(past: _Past, expected: ran.Record) -> bool:
    """Whether a past job computed with a model of the same size and with the same settings."""
    return past.record is not None and (past.record.weights, past.record.settings) == (expected.weights, expected.settings)


def _of_one_device(past: Sequence[_Past]) -> list[_Past]:
    """The jobs that ran on the device on which most of them ran."""
    devices = Counter(p.record.device for p in past if p.record)
    most = max(sorted(devices), key=lambda name: devices[name])
    return [p for p in past if p.record and p.record.device == most]


def _ratio(job: Job, past: _Past, arithmetic: Arithmetic) -> float:
    """How many times as long a job takes as a past job of its rule, by formula on a device of the same kind; 1 if there is no formula."""
    on = reference_devices.device(reference_devices.SMALL) if past.record and past.record.device.startswith("cpu") else arithmetic.device
    one, other = arithmetic.work(job, on), arithmetic.work(past.job, on)
    return one.seconds / other.seconds if one and other else 1.0


def measured(benchmark: Path) -> float | None:
    """Seconds of a job by its benchmark file (mean of repetitions); None if there is no such file."""
    try:
        with open(benchmark, newline="", encoding="utf-8") as source:
            seconds = [float(row["s"]) for row in csv.DictReader(source, delimiter="\t")]
    except (OSError, KeyError, ValueError):
        return None
    return statistics.mean(seconds) if seconds else None
