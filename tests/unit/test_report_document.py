"""The page about a finished run: every training with its scores and costs."""

from pathlib import Path

import pandas as pd

from mentionforge.report.document import training_runs, wall_times
from mentionforge.report.tidy import benchmarks


def test_each_training_has_its_scores_and_costs(tmp_path: Path) -> None:
    cells = [
        ("b", "llm", "naive", "mixed", 10, 0.5, 0.25),
        ("b", "none", "none", "real_only", 2, 0.8125, None),
        ("b", "llm", "naive", "mixed", 9, 0.75, 1.0),
        ("a", "none", "none", "real_only", 1, 0.1, 0.2),
        ("a", "none", "none", "untrained", 0, 0.1, 0.2),
        ("a", "none", "none", "real_only~train=b", 1, 0.1, 0.2),
    ]
    columns = ["corpus", "generator", "strategy", "schedule", "seed", "test.all.strict_f1", "test.unseen_concept.strict_recall"]
    frame = pd.DataFrame(cells, columns=columns).assign(recognizer="tagger")
    spent = tmp_path / "benchmarks/recognition/b/llm/naive/tagger/mixed/seed9.tsv"
    spent.parent.mkdir(parents=True)
    spent.write_text("s\th:m:s\tmax_rss\tmean_load\tcpu_time\n1234.56\t0:20:34\t2345.6\t99.0\t1230.4\n")
    unknown = tmp_path / "benchmarks/recognition/b/llm/naive/tagger/mixed/seed10.tsv"
    unknown.write_text("s\th:m:s\tmax_rss\tmean_load\tcpu_time\n0.4\t0:00:00\t-\t-\t-\n")  # Snakemake's dash: ended before it was measured
    found = training_runs(frame, benchmarks(tmp_path))
    assert found[["corpus", "schedule", "seed"]].to_numpy().tolist() == [
        ["a", "real_only", 1],
        ["b", "real_only", 2],
        ["b", "mixed", 9],
        ["b", "mixed", 10],
    ]
    shown = found[["F1", "unseen concept, R", "wall s", "CPU s", "peak MiB"]].to_numpy().tolist()
    assert shown == [
        ["10.0", "20.0", "–", "–", "–"],
        ["81.2", "–", "–", "–", "–"],
        ["75.0", "100.0", "1,235", "1,230", "2,346"],
        ["50.0", "25.0", "0", "–", "–"],
    ]
    totals = wall_times(benchmarks(tmp_path)).splitlines()
    assert totals[0] == "2 jobs, 20.6 minutes of job time."  # 1,234.96 s
    assert [cell.strip() for cell in totals[-1].strip("|").split("|")] == ["recognition: b", "2", "1,235", "1,235", "2,346"]


def test_without_recognition_there_are_none(tmp_path: Path) -> None:
    assert training_runs(pd.DataFrame(columns=["corpus", "recognizer", "generator", "strategy", "schedule", "seed"]), benchmarks(tmp_path)).empty
