"""How far a run is, read from Snakemake's own log and the logs of its jobs; nothing of the run knows about it.

Snakemake writes `.snakemake/log/*.snakemake.log` in the folder it runs in: the number of jobs of each rule, each job's start with its message,
and each end. Long jobs write lines such as `notes: 40 of 120 in 30 s, about 60 s left` to `{results}/logs`.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mentionforge.errors import UserError

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
"""Seconds since its last line after which a job's log is no longer shown as working."""


@dataclass
class Run:
    """What a log says so far.

    Attributes:
        planned: Jobs of each rule.
        begun: When the first job began.
        last: When the last thing happened.
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
        """Jobs in all."""
        return sum(self.planned.values())

    @property
    def done(self) -> int:
        """Jobs that have ended well."""
        return sum(map(len, self.seconds.values()))

    def left(self) -> dict[str, int]:
        """Jobs of each rule that have not ended, running ones included."""
        return {rule: n - len(self.seconds.get(rule, ())) for rule, n in self.planned.items() if n > len(self.seconds.get(rule, ()))}

    def seconds_left(self) -> float | None:
        """Time that the jobs left take at the pace of their rules so far, as many at a time as so far; None before a job has ended.

        Rules of which no job has ended (`unseen`) are not in it: a fetched file says nothing about a training.
        """
        past = sum(map(sum, self.seconds.values()))
        if not (self.done and self.begun and self.last):
            return None
        elapsed = max((self.last - self.begun).total_seconds(), 1.0)
        known = {rule: sum(s) / len(s) for rule, s in self.seconds.items()}
        return sum(n * known[rule] for rule, n in self.left().items() if rule in known) / max(past / elapsed, 1.0)

    def unseen(self) -> int:
        """Jobs left of rules of which none has ended; `all` only gathers."""
        return sum(n for rule, n in self.left().items() if rule not in self.seconds and rule != "all")


def read_log(path: Path) -> Run:
    """What a Snakemake log says; lines of other kinds are passed over."""
    run, now, counting, failing = Run(), None, False, False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := DATE.match(line):
            now = datetime.strptime(found[1], "%a %b %d %H:%M:%S %Y")
            run.begun, run.last = run.begun or now, now
        elif line == "Job stats:":
            counting, run.planned = True, {}
        elif counting and (found := COUNT.match(line)):
            if found[1] == "total":
                counting = False
            else:
                run.planned[found[1]] = int(found[2])
        elif (found := STARTED.match(line)) and now:
            run.running[int(found[1])] = (found[2], now)
        elif (found := ENDED.match(line)) and now:
            _, start = run.running.pop(int(found[1]), ("", now))
            run.seconds.setdefault(found[2] or "", []).append((now - start).total_seconds())
        elif FAILED.match(line):
            failing = True
        elif failing and (found := FAILED_JOB.match(line)):
            failing = False
            run.failed.append(run.running.pop(int(found[1]), (f"job {found[1]}", now))[0])
        elif line.startswith(("Complete log", "Exiting because", "Shutting down", "Nothing to be done")):
            run.over = True
    return run


def newest_log(folder: Path) -> Path:
    """The log of the run that was started last in a folder.

    Raises:
        UserError: No run was started there.
    """
    found = sorted((folder / ".snakemake" / "log").glob("*.snakemake.log"))
    if not found:
        raise UserError("no run", str(folder / ".snakemake" / "log"), "Snakemake has written no log there", "give the folder in which snakemake was started")
    return found[-1]


def working(results: Path) -> list[tuple[str, str]]:
    """Name and last progress line of the jobs' logs that were written to lately, in order of their names."""
    found = []
    for path in sorted((results / "logs").rglob("*.log")):
        try:
            if time.time() - path.stat().st_mtime > RECENT:
                continue
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:  # a log that Snakemake has just removed
            continue
        if lines and (match := ETA.match(lines[-1])) and match["done"] != match["total"]:
            found.append((path.relative_to(results / "logs").with_suffix("").as_posix(), lines[-1]))
    return found


def spell(seconds: float) -> str:
    """A duration as people say it: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def view(run: Run, results: Path, now: datetime) -> RenderableType:
    """The picture: a bar, the jobs that run with what they say of themselves, and what is left by rule."""
    from rich.console import Group
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    waiting = max(run.total - run.done - len(run.running) - len(run.failed), 0)
    words = f"{run.done:,} of {run.total:,} jobs done, {len(run.running):,} running, {waiting:,} left"
    words += f", [bold red]{len(run.failed):,} failed[/]" if run.failed else ""
    if run.begun:
        words += f"; {spell(((run.last or now) if run.over else now).timestamp() - run.begun.timestamp())} so far"
    estimate = run.seconds_left()
    if not run.over and estimate is not None:
        words += f", about {spell(estimate)} left at this pace"
        if unseen := run.unseen():
            words += f" without {unseen:,} jobs of rules of which none has ended yet"
    parts: list[RenderableType] = [ProgressBar(total=max(run.total, 1), completed=run.done, width=60), words]
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for message, start in sorted(run.running.values(), key=lambda r: r[1]):
        table.add_row("running", spell(max((now - start).total_seconds(), 0)), escape(message))
    for name, line in working(results) if run.running else ():
        table.add_row("", "", escape(f"{name}: {line}"))
    for message in run.failed:
        table.add_row("[red]failed[/]", "", escape(message))
    left = ", ".join(f"{rule} {n:,}" for rule, n in sorted(run.left().items(), key=lambda r: (-r[1], r[0])))
    if left:
        table.add_row("left", "", escape(left))
    if run.over:
        table.add_row("over", "", "Snakemake has ended" + (f"; report: {results}/report/index.html" if run.done >= run.total else ""))
    return Group(*parts, table)


def watch(folder: Path, results: Path, once: bool = False, every_s: float = 2.0) -> None:
    """Show how far the newest run in a folder is until it ends; once, or where the output is no terminal, only what is so now.

    Args:
        folder: Where Snakemake was started.
        results: Its results folder.
        once: Show it once.
        every_s: Seconds between two looks.

    Raises:
        UserError: No run was started there.
    """
    from rich.console import Console
    from rich.live import Live

    log = newest_log(folder)
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width of its own, and 80 columns would break every line
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
