"""Progress of long jobs: rich's progress bar on a terminal, a line every few seconds in a log.

In: a label, the total and the number of units done. Out: text on standard error. Knows nothing of the jobs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True, highlight=False)


def say(message: str) -> None:
    """Print one line to standard error."""
    console.print(message, markup=False)


class Tick:
    """The callable that `track` yields; call it with the number of units just done."""

    def __init__(self, advance: object) -> None:
        self._advance = advance

    def __call__(self, units: int = 1, note: str = "") -> None:
        """Advance by `units`; `note` (a loss, a rate) is shown beside the bar."""
        self._advance(units, note)  # type: ignore[operator]


@contextmanager
def track(what: str, total: int, every_s: float = 10.0) -> Iterator[Tick]:
    """Show the progress of `what` out of `total` units; without a terminal, print a line every `every_s` seconds and at the end."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(what, total=total, note="")
            yield Tick(lambda units, note: progress.update(task, advance=units, note=note))
        return
    state = {"done": 0, "last": time.monotonic(), "begun": time.monotonic()}

    def line(note: str) -> None:
        elapsed = time.monotonic() - state["begun"]
        remaining = elapsed / state["done"] * (total - state["done"]) if state["done"] else 0.0
        say(f"{what}: {state['done']:,} of {total:,} in {elapsed:.0f} s, about {remaining:.0f} s left {note}".rstrip())

    def advance(units: int, note: str) -> None:
        state["done"] += units
        if state["done"] >= total or time.monotonic() - state["last"] >= every_s:
            state["last"] = time.monotonic()
            line(note)

    say(f"{what}: {total:,} to do")
    yield Tick(advance)
