"""Tables of the report: seeds, errors and end-to-end scores against plain sums, the headline, and LaTeX that compiles."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latex import compile_latex, faults
from mentionforge import measures, tables
from mentionforge.report import formatting, layouts, tidy, writers
from mentionforge.report.closing import closing
from mentionforge.report.headline import claims, headline_of

KEY = ["task", "corpus", "generator", "strategy", "system", "variant", "seed", "split", "bucket", "metric"]


def metrics(*rows: tuple) -> pd.DataFrame:
    """Rows (task, corpus, generator, strategy, system, variant, seed, bucket, metric, value, n) of the test split."""
    frame = pd.DataFrame(rows, columns=[k for k in KEY if k != "split"] + ["value", "n"])
    return frame.assign(split="test")


def recognition(variant: str = "real_only", corpus: str = "c", seeds: dict[int, float] | None = None, n: int = 40) -> list[tuple]:
    rows = []
    for seed, value in (seeds or {1: 0.7, 2: 0.8, 3: 0.75}).items():
        cell = ("recognition", corpus, "none", "none", "tagger", variant, seed)
        rows += [
            (*cell, "all", f"{level}_{m}", value + shift, n) for shift, level in ((0, "strict"), (0.1, "partial"), (0.2, "token")) for m in ("recall", "f1")
        ]
        rows += [(*cell, "unseen_concept", f"strict_{m}", value - 0.3, n // 2) for m in ("recall", "f1")]
    return rows


def compared(*rows: dict) -> pd.DataFrame:
    base = {"task": "normalization", "corpus": "c", "system": "m", "variant": "train", "generator": "llm", "strategy": "naive", "against": "baseline"}
    base |= {"slice": "all", "group": "all", "metric": "acc@1", "reference": 0.4, "n": 100, "documents": 10, "few": False}
    base |= {"adjustment": "holm", "p_adjusted": 0.01, "family_size": 8, "reachable": True, "generator_seeds": 1, "training_seeds": 1, "covers": "documents"}
    frame = pd.DataFrame([base | row for row in rows])
    frame["difference"] = frame["value"] - frame["reference"]
    return frame.assign(low=frame["difference"] - 0.05, high=frame["difference"] + 0.05)


def test_seeds_have_mean_and_deviation_of_their_own() -> None:
    swept = [("normalization", "c", f"llm~seed={s}", "naive", "m", "train", 0, "all", "acc@1", v, 50) for s, v in ((1, 0.5), (2, 0.6))]
    single = [("normalization", "c", "none", "none", "m", "train", 0, "all", "acc@1", 0.4, 50)]
    found = tidy.seed_scores(metrics(*recognition(), *swept, *single))
    strict = found[found["measure"] == "strict F1, all mentions"]
    assert strict["seed"].tolist() == ["1", "2", "3"] and strict["percent"].tolist() == [70.0, 80.0, 75.0]
    assert strict["mean"].unique() == pytest.approx(75.0) and strict["sd"].unique() == pytest.approx(np.std([70, 80, 75], ddof=1))
    generated = found[found["task"] == "normalization"]
    assert generated["generator"].unique().tolist() == ["llm"] and generated["seed"].tolist() == ["1", "2"]
    assert generated["mean"].unique() == pytest.approx(55.0) and (generated["high"] - generated["low"]).unique() == pytest.approx(
        2 * np.sqrt(0.5) * 10, abs=1e-3
    )
    row = layouts.seeds_table(found).set_index("measure").loc["strict F1, all mentions"]
    assert row["mean, sd"] == "75.0 ± 5.0" and row["by seed, each"] == "1: 70.0; 2: 80.0; 3: 75.0"


def test_errors_are_counted_per_seed(tmp_path: Path) -> None:
    rows = []
    for seed, kinds in ((1, ["missed", "missed", "spurious"]), (2, ["missed", "boundary", "spurious", "spurious"])):
        for i, kind in enumerate(kinds):
            rows.append({"generator": "none", "strategy": "none", "system": "tagger", "variant": "real_only", "seed": seed, "split": "test", "doc_id": "d"})
            rows[-1] |= {"error": kind, "start": i, "end": i + 1, "words": 1, "bucket": None, "predicted_start": None, "predicted_end": None}
    rows.append(rows[0] | {"split": "dev"})
    tables.write(tables.RECOGNITION_ERRORS, tmp_path / "c.errors.parquet", rows)
    counts = tidy.error_counts([tmp_path / "c.errors.parquet"])
    assert dict(zip(counts["error"], counts["count"], strict=True)) == {"missed": 1.5, "boundary": 0.5, "spurious": 1.5}
    table = layouts.recognition_scores(metrics(*recognition(), *recognition("real_only~train=other")), counts)
    assert len(table) == 1 and table.loc[0, ["missed, n", "boundary, n", "spurious, n"]].tolist() == ["1.5", "0.5", "1.5"]
    assert table.loc[0, ["strict, F1", "partial, F1", "token, F1", "unseen concept, R", "n"]].tolist() == ["75.0", "85.0", "95.0", "45.0", "40"]
    crossed = layouts.recognition_scores(metrics(*recognition(), *recognition("real_only~train=other", n=20)), counts, crossed=True)
    assert crossed.loc[0, ["trained on", "schedule", "n"]].tolist() == ["other", "real_only", "20†"]


def test_headline_names_the_best_cell_and_the_largest_gain() -> None:
    found = compared(
        {"generator": "names", "value": 0.9, "reference": 0.88},
        {"generator": "llm", "value": 0.7, "reference": 0.4},
        {"generator": "llm", "strategy": "ideal", "value": 0.9, "reference": 0.1, "few": True, "n": 12},
    )
    (top_label, top, top_gain), (label, cell, gain) = headline_of(found)
    assert "highest score" in top_label and "90.0" in top and "ideal" not in cell
    assert label == "Normalization: largest gain" and "llm, naive" in cell and "+30.0 points against 40.0" in gain
    assert "+25.0 to +35.0" in gain and "n = 100 mentions in 10 documents" in gain
    assert top_gain != gain
    one = headline_of(found.iloc[1:2])
    assert [label for label, _, _ in one] == ["Normalization: highest score and largest gain"]
    ((label, _, lost),) = headline_of(compared({"value": 0.3}))
    assert "−10.0 points" in lost and "no gain" in label


def test_a_run_ends_with_what_its_numbers_mean() -> None:
    found = compared(
        {"generator": "names", "value": 0.9, "reference": 0.88, "p_adjusted": 0.2},
        {"generator": "llm", "value": 0.7, "reference": 0.4, "p_adjusted": 0.001},
        {"task": "recognition", "metric": "strict_f1", "generator": "llm", "value": 0.61, "reference": 0.64, "p_adjusted": 0.3},
    )
    linking, top, recognition, caution, last = closing(found, Path("results"), invented_texts=True)
    assert "40.0 % of 100 test mentions" in linking and "70.0 % with notes by llm" in linking and linking.endswith("+30.0 points, beyond chance.")
    assert "90.0 %" in top and "names" in top and "88.0 % there without" in top
    assert "64.0 without" in recognition and "61.0 with" in recognition and "−3.0 points, which chance alone may give" in recognition
    assert "nothing about medicine" in caution and "results/report/index.html" in last
    unreachable = closing(compared({"value": 0.7, "reference": 0.4, "p_adjusted": 0.01, "reachable": False, "few": True}), Path("r"), invented_texts=False)
    assert "chance alone may give, from few mentions" in unreachable[0] and not any("medicine" in line for line in unreachable)
    assert len(closing(found.iloc[:0], Path("r"), invented_texts=False)) == 1


def test_claims_are_compared_in_the_papers_protocol_only() -> None:
    found = compared(
        {"value": 0.5},
        {"value": 0.7, "strategy": "ideal"},
        {"value": 0.99, "generator": "names"},
        {"value": 0.99, "variant": "train+kb"},
        {"value": 0.41, "strategy": "ablation"},
    )
    table = claims(found, ["names"], ["ablation"])
    assert table[["here, smallest", "here, largest"]].values.tolist() == [["+10.0 [+5.0, +15.0]", "+30.0 [+25.0, +35.0]"]]
    assert table["rests on"].tolist() == ["2 comparisons, n = 100 to 100"]


def test_groups_of_the_gains_carry_interval_and_n() -> None:
    found = compared(
        {"slice": "notes", "group": "1", "value": 0.5, "n": 12},
        {"slice": "notes", "group": "0", "value": 0.4},
        {"slice": "names", "group": "2-5", "value": 0.6, "strategy": "supplemental"},
        {"slice": "names", "group": "2-5", "value": 0.9},
    )
    dose = layouts.group_table(found, "notes")
    assert list(dose.columns[-2:]) == ["notes, 0", "notes, 1"] and dose.loc[0, "notes, 1"] == "+10.0 [5.0, 15.0] n=12†"
    assert layouts.group_table(found, "names").loc[0, ["strategy", "names, 2-5"]].tolist() == ["supplemental", "+20.0 [15.0, 25.0] n=100"]
    assert layouts.group_table(found, "semantic_type").empty


NASTY = formatting.ReportTable(
    "Cells & shares: 50 %, a_b~c^d",
    pd.DataFrame({"who": ["#1 {x}", r"a\b $5 < 6 > 2"], "all, R": ["50.0 +1.2 [-0.4, 2.0]", "3.1 ± 0.2"], "notes, 0": ["-1.0 [-2.0, 0.5] n=12†", ""]}),
    "A caption with † and 95 % – done…",
    "tab:nasty-one",
)


def test_the_check_of_latex_finds_faults() -> None:
    good = writers.latex(NASTY)
    assert faults(good) == []
    assert faults(good.replace(r"\end{table}", "")) and faults(good.replace(r"\#", "#")) and faults(good.replace(r"\_", "_"))
    assert faults(good.replace(" & ", " ", 1)) and faults(good + "}")


def test_latex_compiles(tmp_path: Path) -> None:
    """Where pdflatex is at hand it sets the table; the syntax is checked in any case."""
    wide = formatting.ReportTable("Wide", pd.DataFrame({f"c{i}, R": ["1.0 +2.0 [1.0, 3.0]"] for i in range(12)}), "Wide.", "tab:wide")
    assert faults(writers.latex(NASTY)) == [] and faults(writers.latex(wide)) == []
    if shutil.which("pdflatex"):
        compile_latex("\n\n".join(map(writers.latex, (NASTY, wide))), tmp_path)


def test_captions_of_snakemakes_report_name_the_main_scores(root: Path) -> None:
    """They cannot ask `measures`, so they are held to it: where a caption names a score of a task, it is the main one."""
    text = (root / "workflow/report/figures.rst").read_text(encoding="utf-8").replace("\\\\@", "@")
    captions = dict(re.findall(r'^"(\w+)": "(.*)",$', text, re.M))
    tasks = {"gains": "normalization", "controls": "normalization", "indexes": "normalization", "seeds_normalization": "normalization"}
    for name, task in {**tasks, "recognition": "recognition", "seeds_recognition": "recognition"}.items():
        assert measures.main(task).label in captions[name], name
    others = {score.label for score in measures.SCORES} - {measures.main(task).label for task in measures.MAIN}
    assert not [(name, label) for name, caption in captions.items() for label in others if re.search(rf"\b{re.escape(label)}\b", caption)]
