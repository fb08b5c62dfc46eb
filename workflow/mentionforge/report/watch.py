"""The progress of a run, read from Snakemake's log and the logs of its jobs.

In: `.snakemake/log/*.snakemake.log` in the folder of the run, with the number of jobs of each rule, and the start and end of each job; lines such as
`notes: 40 of 120 in 30 s, about 60 s left` in `{results}/logs`. Out: a `Run`, and its view on the terminal. Knows nothing of the plan; changes nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mentionforge.errors import UserError
from mentionforge.layout import Results, job_of

if TYPE_CHECKING:
    from rich.console import RenderableType

DATE = re.compile(r"^\[(\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4})\]$")
COUNT = re.compile(r"^(\w+) +(\d+)$")
STARTED = re.compile(r"^Job (\d+): (.+)$")
ENDED = re.compile(r"^Finished jobid: (\d+)(?: \(Rule: (\w+)\))?")
FAILED = re.compile(r"^Error in rule (\w+)")
FAILED_JOB = re.compile(r"^ +jobid: (\d+)$")
ETA = re.compile(r"^(?P<what>.+?): (?P<done>[\d,]+) of (?P<total>[\d,]+) in .*left.*$")
RECENT = 120.0
"""Seconds after its last line during which a job's log is shown."""


@dataclass
class Run:
    """The state of a run, as far as Snakemake's log tells.

    Attributes:
        planned: Jobs of each rule.
        begun: When the first job began.
        last: Time of the last event.
        running: Message and start of each job that has not ended.
        seconds: Durations of the ended jobs of each rule.
        failed: Messages of failed jobs.
        over: Whether Snakemake has ended.
    """

    planned: dict[str, int] = field(default_factory=dict)
    begun: datetime | None = None
    last: datetime | None = None
    running: dict[int, tuple[str, datetime]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    over: bool = False

    @property
    def total(self) -> int:
        """Number of all jobs."""
        return sum(self.planned.values())

    @property
    def done(self) -> int:
        """Number of jobs that have ended without an error."""
        return sum(map(len, self.seconds.values()))

    def left(self) -> dict[str, int]:
        """Jobs of each rule that have not ended, running ones included."""
        return {rule: n - len(self.seconds.get(rule, ())) for rule, n in self.planned.items() if n > len(self.seconds.get(rule, ()))}

    def seconds_left(self) -> float | None:
        """Estimated time of the remaining jobs; None before a job has ended.

        Each job counts with the mean time of its rule, and as many jobs run at a time as so far. Rules of which no job has ended (`unseen`) are left
        out: the time of a download says nothing about that of a training.
        """
        past = sum(map(sum, self.seconds.values()))
        if not (self.done and self.begun and self.last):
            return None
        elapsed = max((self.last - self.begun).total_seconds(), 1.0)
        mean_seconds = {rule: sum(s) / len(s) for rule, s in self.seconds.items()}
        return sum(n * mean_seconds[rule] for rule, n in self.left().items() if rule in mean_seconds) / max(past / elapsed, 1.0)

    def unseen(self) -> int:
        """Number of remaining jobs of rules of which none has ended; the rule `all` does not count, since it does no work."""
        return sum(n for rule, n in self.left().items() if rule not in self.seconds and rule != "all")


def read_log(path: Path) -> Run:
    """Read a Snakemake log; lines of other kinds are skipped."""
    run, now, counting, failing = Run(), None, False, False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := DATE.match(line):
            now = datetime.strptime(match[1], "%a %b %d %H:%M:%S %Y")
            run.begun, run.last = run.begun or now, now
        elif line == "Job stats:":
            counting, run.planned = True, {}
        elif counting and (match := COUNT.match(line)):
            if match[1] == "total":
                counting = False
            else:
                run.planned[match[1]] = int(match[2])
        elif (match := STARTED.match(line)) and now:
            run.running[int(match[1])] = (match[2], now)
        elif (match := ENDED.match(line)) and now:
            _, start = run.running.pop(int(match[1]), ("", now))
            run.seconds.setdefault(match[2] or "", []).append((now - start).total_seconds())
        elif FAILED.match(line):
            failing = True
        elif failing and (match := FAILED_JOB.match(line)):
            failing = False
            run.failed.append(run.running.pop(int(match[1]), (f"job {match[1]}", now))[0])
        elif line.startswith(("Complete log", "Exiting because", "Shutting down", "Nothing to be done")):
            run.over = True
    return run


def newest_log(folder: Path) -> Path:
    """The log of the last run in a folder.

    Raises:
        UserError: No run was started there.
    """
    logs = sorted((folder / ".snakemake" / "log").glob("*.snakemake.log"))
    if not logs:
        raise UserError("no run", str(folder / ".snakemake" / "log"), "Snakemake has written no log there", "give the folder in which snakemake was started")
    return logs[-1]


def progress_lines(results: Path) -> list[tuple[str, str]]:
    """Name and last progress line of each job log that was written in the last `RECENT` seconds, by name."""
    progress = []
    folder = Results(str(results)).logs
    for path in sorted(Path(folder).rglob("*.log")):
        try:
            if time.time() - path.stat().st_mtime > RECENT:
                continue
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:  # Snakemake has just removed the log
            continue
        if lines and (match := ETA.match(lines[-1])) and match["done"] != match["total"]:
            progress.append((job_of(path, folder), lines[-1]))
    return progress


def duration_text(seconds: float) -> str:
    """A duration as text: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def view(run: Run, results: Path, now: datetime) -> RenderableType:
    """The view of a run: a progress bar, the running jobs with their last progress lines, and the remaining jobs by rule."""
    from rich.console import Group
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    waiting = max(run.total - run.done - len(run.running) - len(run.failed), 0)
    summary = f"{run.done:,} of {run.total:,} jobs done, {len(run.running):,} running, {waiting:,} left"
    summary += f", [bold red]{len(run.failed):,} failed[/]" if run.failed else ""
    if run.begun:
        summary += f"; {duration_text(((run.last or now) if run.over else now).timestamp() - run.begun.timestamp())} so far"
    estimate = run.seconds_left()
    if not run.over and estimate is not None:
        summary += f", about {duration_text(estimate)} left at this pace"
        if unseen := run.unseen():
            summary += f" without {unseen:,} jobs of rules of which none has ended yet"
    header: list[RenderableType] = [ProgressBar(total=max(run.total, 1), completed=run.done, width=60), summary]
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for message, start in sorted(run.running.values(), key=lambda r: r[1]):
        table.add_row("running", duration_text(max((now - start).total_seconds(), 0)), escape(message))
    for name, line in progress_lines(results) if run.running else ():
        table.add_row("", "", escape(f"{name}: {line}"))
    for message in run.failed:
        table.add_row("[red]failed[/]", "", escape(message))
    remaining = ", ".join(f"{rule} {n:,}" for rule, n in sorted(run.left().items(), key=lambda r: (-r[1], r[0])))
    if remaining:
        table.add_row("left", "", escape(remaining))
    if run.over:
        table.add_row("over", "", "Snakemake has ended" + (f"; report: {results}/report/index.html" if run.done >= run.total else ""))
    return Group(*header, table)


def watch(folder: Path, results: Path, once: bool = False, every_s: float = 2.0) -> None:
    """Show the progress of the newest run in a folder until it ends; with `once`, or if the output is no terminal, show it a single time.

    Args:
        folder: Where Snakemake was started.
        results: Its results folder.
        once: Show it a single time.
        every_s: Seconds between two updates.

    Raises:
        UserError: No run was started there.
    """
    from rich.console import Console
    from rich.live import Live

    log = newest_log(folder)
    console = Console(highlight=False)
    if not console.is_terminal:  # the default of 80 columns for files and pipes would break every line
        console.width = 200
    if once or not console.is_terminal:
        console.print(view(read_log(log), results, datetime.now()))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            run = read_log(log)
            live.update(view(run, results, datetime.now()), refresh=True)
            if run.over:
                return
            time.sleep(every_s)
