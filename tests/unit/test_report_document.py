"""The page about a finished run: every training with its scores and costs."""

from pathlib import Path

import pandas as pd

from mentionforge.report.document import training_runs
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
    shown = found[["test.all.strict_f1", "test.unseen_concept.strict_recall", "wall_s", "cpu_s", "peak_mib"]].astype(object)
    assert shown.where(shown.notna(), None).to_numpy().tolist() == [
        [0.1, 0.2, None, None, None],
        [0.8125, None, None, None, None],
        [0.75, 1.0, 1234.56, 1230.4, 2345.6],
        [0.5, 0.25, 0.4, None, None],
    ]


def test_without_recognition_there_are_none(tmp_path: Path) -> None:
    assert training_runs(pd.DataFrame(columns=["corpus", "recognizer", "generator", "strategy", "schedule", "seed"]), benchmarks(tmp_path)).empty
