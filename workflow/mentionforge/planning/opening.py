"""What a run says at its start: how many jobs of what kind it will do, and how long they will take here.

In: rule and wildcards of each job that will run, the configuration, the cores. Out: a few lines. Knows nothing of Snakemake. Times are arithmetic
(`mentionforge.planning.cost`) with the speed of this machine, which a product of matrices measures in a tenth of a second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mentionforge.config import Config
from mentionforge.devices import visible
from mentionforge.errors import UserError
from mentionforge.needs import SEVERAL
from mentionforge.planning import cost, workload
from mentionforge.planning.reference_devices import SMALL, Device, device
from mentionforge.planning.status import hours

RULES_OF_WORK = {
    "fine-tuning of the language model": ("finetune",),
    "shards of notes": ("sample", "sample_vllm"),
    "trainings of recognizers": ("recognize_real", "recognize_augmented"),
    "trainings of linkers": ("align", "rerank_train"),
    "embeddings": ("embed_kb", "embed_corpus", "embed_generator"),
    "linkings": ("link_baseline", "link_augmented", "fuse", "rerank", "link_predicted"),
}
"""Kinds of jobs that a run names, and their rules; the other jobs are counted together."""

SHORT_S = 1.0
"""Seconds of a job that computes with no model."""

MOMENT_S = 20.0
"""Of shorter runs no time is said."""

UNCOUNTED = frozenset({"all", "spec"})
"""Rules whose jobs are no work: the target, and the spec files, which take no time."""


def opening(jobs: Iterable[tuple[str, Mapping[str, str]]], config: Config, cores: int | None, on: Device | None = None) -> list[str]:
    """Lines for the start of a run; none if it has nothing to do.

    Args:
        jobs: Rule and wildcards of each job that will run.
        config: The configuration.
        cores: Cores of this machine that the run may use; None: its jobs run elsewhere, and no time is said.
        on: The device; None: the processor of this machine, as measured, and no time is said where there is a GPU or a model needs one.
    """
    work = [(rule.partition(SEVERAL)[0], wildcards) for rule, wildcards in jobs]
    work = [(rule, wildcards) for rule, wildcards in work if rule not in UNCOUNTED]
    if not work:
        return []
    rules = Counter(rule for rule, _ in work)
    counts = {work_name: sum(rules[rule] for rule in of_work) for work_name, of_work in RULES_OF_WORK.items()}
    named = [f"{number:,} {work_name}" for work_name, number in counts.items() if number]
    others = len(work) - sum(counts.values())
    named += [f"{others:,} short"] if others else []
    lines = [f"{len(work):,} job{'s' * (len(work) > 1)}: {', '.join(named)}."]
    small = all((size := workload.shape(config, model)) and size.weights < cost.LARGE for model in config.models)
    if cores is None or (on is None and (visible() or not small)):
        return [*lines, "`mentionforge status` says what they cost. Ctrl-C loses nothing that is finished."]
    on = on or this_processor()
    try:
        seconds = total_seconds(work, config, cores, on)
    except (UserError, OSError, ValueError, KeyError):  # a damaged table: the job that reads it says so, and no run stops for an estimate
        return lines
    if seconds < MOMENT_S:
        return lines
    lines.append(
        f"About {hours(seconds)} on {cores} core{'s' * (cores > 1)} of this machine ({on.flops / 1e9:,.0f} billion operations per second measured; by arithmetic, "
        f"right within a factor of two). Ctrl-C loses nothing that is finished; `mentionforge results watch {config.results}` shows how far it is."
    )
    return lines


def total_seconds(work: Sequence[tuple[str, Mapping[str, str]]], config: Config, cores: int, on: Device) -> float:
    """Seconds of all jobs on a number of cores. A job with a model is reckoned with two cores, others with one."""
    sizes = workload.sizes(config)
    total = 0.0
    for rule, wildcards in work:
        of_job = cost.work(config, rule, wildcards, sizes, on, Path()) if wildcards else None
        total += min(2, max(1, cores)) * of_job.seconds if of_job and of_job.model else SHORT_S
    return total / max(1, cores)


def this_processor() -> Device:
    """The reference device of two cores, with the measured speed of products of 32-bit matrices on two threads of this processor."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.ones((768, 768), np.float32)
    best = float("inf")
    with threadpool_limits(2):
        for _ in range(4):
            begin = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - begin)
    return replace(device(SMALL), name="this machine", flops=2 * len(a) ** 3 / best)
