"""The progress view, from a log as Snakemake writes it."""

import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from mentionforge.errors import UserError
from mentionforge.report.watch import duration_text, newest_log, progress_lines, read_log, view, watch

LOG = """\
Building DAG of jobs...
Job stats:
job         count
--------  -------
all             1
link            3
sample          2
total           6

Select jobs to execute...
[Wed Nov 25 00:30:00 2026]
Job 1: write notes, shard 0
Reason: Missing output files: a
[Wed Nov 25 00:30:00 2026]
Job 2: link demo
Reason: Missing output files: b
[Wed Nov 25 00:30:10 2026]
Finished jobid: 2 (Rule: link)
1 of 6 steps (17%) done
[Wed Nov 25 00:30:10 2026]
Job 3: link other
Reason: Missing output files: c
[Wed Nov 25 00:30:20 2026]
Error in rule link:
    message: link other
    jobid: 3
    output: c
[Wed Nov 25 00:30:40 2026]
Finished jobid: 1 (Rule: sample)
2 of 6 steps (33%) done
[Wed Nov 25 00:30:40 2026]
Job 4: write notes, shard 1
Reason: Missing output files: d
"""


def shown(folder: Path, capsys, **more) -> str:
    watch(folder, folder / "results", once=True, **more)
    return capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = tmp_path / ".snakemake/log"
    logs.mkdir(parents=True)
    (logs / "2026-11-24T000000.snakemake.log").write_text("Nothing to be done\n")
    (logs / "2026-11-25T003000.snakemake.log").write_text(LOG)
    return tmp_path


def test_counts_of_a_log(folder: Path) -> None:
    run = read_log(newest_log(folder))
    assert (run.total, run.done, list(run.running), run.failed, run.over) == (6, 2, [4], ["link other"], False)
    assert run.seconds == {"link": [10.0], "sample": [40.0]} and run.left() == {"all": 1, "link": 2, "sample": 1}
    # 2 x 10, 40; 50 s of jobs were done in 40 s.
    assert run.seconds_left() == pytest.approx((20 + 40) / (50 / 40)) and run.unseen() == 0


def test_short_jobs_say_nothing_about_rules_that_have_not_ended(folder: Path, capsys) -> None:
    log = newest_log(folder)
    log.write_text(LOG.replace("total           6", "finetune        1\nsample_more   300\ntotal         307"))
    run = read_log(log)
    assert run.unseen() == 301 and run.seconds_left() == pytest.approx((20 + 40) / (50 / 40))
    assert "left at this pace without 301 jobs of rules of which none has ended yet" in " ".join(shown(folder, capsys).split())


def test_view_names_what_runs_and_its_own_estimate(folder: Path, capsys) -> None:
    job = folder / "results/logs/generation/llm/shards/1.log"
    job.parent.mkdir(parents=True)
    job.write_text("notes: 120 to do\nnotes: 40 of 120 in 30 s, about 60 s left 3.1 tokens/s\n")
    old = folder / "results/logs/old.log"
    old.write_text("notes: 1 of 120 in 30 s, about 99 s left\n")
    os.utime(old, (time.time() - 3600,) * 2)
    text = shown(folder, capsys)
    assert "2 of 6 jobs done, 1 running, 2 left, 1 failed" in text and "write notes, shard 1" in text and "link other" in text
    assert "generation/llm/shards/1: notes: 40 of 120 in 30 s, about 60 s left" in text and "99 s" not in text
    assert [name for name, _ in progress_lines(folder / "results")] == ["generation/llm/shards/1"]


def test_a_finished_run_says_where_the_report_lies(folder: Path, capsys) -> None:
    log = newest_log(folder)
    ends = "".join(
        f"[Wed Nov 25 00:31:0{i} 2026]\nJob {j}: x\n[Wed Nov 25 00:31:0{i + 1} 2026]\nFinished jobid: {j} (Rule: {r})\n"
        for i, (j, r) in enumerate([(4, "sample"), (5, "link"), (0, "all")])
    )
    failed = LOG[LOG.index("Error in rule") : LOG.index("[Wed Nov 25 00:30:40")]
    log.write_text(LOG.replace(failed, "Finished jobid: 3 (Rule: link)\n") + ends + "Complete log(s): x\n")
    text = shown(folder, capsys)
    assert "6 of 6 jobs done" in text and "report/index.html" in text and "left at this pace" not in text


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        watch(tmp_path, tmp_path / "results")


def test_durations() -> None:
    assert [duration_text(s) for s in (4, 89, 95, 3600, 5460)] == ["4 s", "89 s", "2 min", "60 min", "1 h 31 min"]


def test_broken_log_is_no_traceback(folder: Path, capsys) -> None:
    newest_log(folder).write_bytes(b"\xff\xfe Finished jobid: 9\n[Wed Nov 25 00:30:00 2026]\nFinished jobid: 9\n")
    assert "of 0 jobs done" in shown(folder, capsys)
    view(read_log(newest_log(folder)), folder / "results", datetime.now())
