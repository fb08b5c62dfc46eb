"""The sweep summary, on cells and scores written by hand."""

import os
from pathlib import Path

import pandas as pd
import pytest

from mentionforge.report import sweeps

SETTINGS = ["strategies.naive.notes_per_concept", "linkers.mention.max_tokens"]


def frame() -> pd.DataFrame:
    """Two strategies swept by dose, crossed with two linkers of which one is swept; one cell has failed."""
    rows = []
    for dose in ("1", "2"):
        for size in ("8", "25"):
            failed = (dose, size) == ("2", "25")
            base = {
                "task": "normalization",
                "corpus": "c",
                "generator": "g",
                "strategy": f"naive~notes_per_concept={dose}",
                "system": f"mention~max_tokens={size}",
            }
            score = None if failed else 0.5 + 0.1 * int(dose) + 0.01 * int(size)
            rows.append(
                {**base, "variant": "train", "seed": 0, "state": "failed" if failed else "done", "error": "error: it broke | badly" if failed else ""}
                | {"strategies.naive.notes_per_concept": dose, "linkers.mention.max_tokens": size}
                | {"all acc@1": score, "seen_concept acc@1": score, "unseen_concept acc@1": 0.0 if score else None}
            )
    baseline = {**rows[0], "generator": "none", "strategy": "none", SETTINGS[0]: None}  # the dose does not concern it
    other = {**baseline, "system": "mention~max_tokens=25", SETTINGS[1]: "25"}
    return pd.DataFrame([*rows, baseline, other])


def test_values_are_compared_on_the_same_cells() -> None:
    """With the linker of 25 tokens one dose has failed, so doses are compared with the linker of 8 tokens alone."""
    effect = sweeps.effect_of(frame(), SETTINGS[0], SETTINGS).set_index(["value", "score"])
    assert effect.loc[("1", "all acc@1"), "mean"] == pytest.approx(0.5 + 0.1 + 0.08) and effect.loc[("2", "all acc@1"), "mean"] == pytest.approx(
        0.5 + 0.2 + 0.08
    )
    assert set(effect["groups"]) == {1} and effect.loc[("2", "all acc@1"), "failed"] == 1 and effect.loc[("1", "all acc@1"), "failed"] == 0
    effect = sweeps.effect_of(frame(), SETTINGS[1], SETTINGS).set_index(["value", "score"])
    assert effect.loc[("8", "all acc@1"), "max"] == pytest.approx(0.5 + 0.1 + 0.08) and set(effect["groups"]) == {2}, "dose 1, and the baseline"
    both = frame()
    both.loc[3, ["state", "error", "all acc@1"]] = ["done", "", 0.9]
    effect = sweeps.effect_of(both, SETTINGS[0], SETTINGS).set_index(["value", "score"])
    assert set(effect["groups"]) == {2} and effect.loc[("2", "all acc@1"), "mean"] == pytest.approx((0.78 + 0.9) / 2)


def test_the_page_names_the_failed_cell_and_every_setting(tmp_path: Path) -> None:
    effects = {setting: sweeps.effect_of(frame(), setting, SETTINGS) for setting in SETTINGS}
    text = sweeps.summary_page(frame(), effects)
    assert "5 done, 1 failed" in text and "c/g/naive~notes_per_concept=2/mention~max_tokens=25/train" in text and "error: it broke   badly" in text
    assert "| 2 | 1 | 1 | 78.0 (78.0 to 78.0) |" in text
    sweeps.draw(effects, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{setting}.svg" for setting in SETTINGS)


def test_a_cell_is_done_failed_or_not_run(tmp_path: Path) -> None:
    log, predictions = tmp_path / "cell.log", tmp_path / "predictions.parquet"
    assert sweeps.state_of(predictions, log) == ("not run", "")
    log.write_text("begun\nerror: no concept in x: none; widen it\nlast line\n")
    assert sweeps.state_of(predictions, log) == ("failed", "error: no concept in x: none; widen it")
    several = tmp_path / "several.log"
    several.write_text("error: of the job of several indexes\n")
    os.utime(log, (1, 1))
    assert sweeps.state_of(predictions, log, several) == ("failed", "error: of the job of several indexes"), "the newest log counts"
    several.unlink()
    log.write_text("")
    assert sweeps.state_of(predictions, log)[0] == "failed"
    predictions.write_text("")
    assert sweeps.state_of(predictions, log) == ("done", "")


def test_settings_that_are_zipped_are_compared_as_one() -> None:
    """r=4 goes with alpha=8 and r=16 with alpha=32: were they held apart, there would be no two cells to compare."""
    rows = [
        {"task": "normalization", "corpus": "c", "generator": f"g~r={r}~alpha={alpha}", "strategy": "naive", "system": "exact", "variant": index, "seed": 0}
        | {
            "state": "done",
            "error": "",
            "generators.g.r": r,
            "generators.g.alpha": alpha,
            "all acc@1": score,
            "seen_concept acc@1": 1.0,
            "unseen_concept acc@1": 0.0,
        }
        for r, alpha, index, score in (("4", "8", "train", 0.5), ("4", "8", "kb", 0.7), ("16", "32", "train", 0.6), ("16", "32", "kb", 1.0))
    ]
    both = ["generators.g.alpha", "generators.g.r"]
    for setting, low, high in (("generators.g.r", "4", "16"), ("generators.g.alpha", "8", "32")):
        effect = sweeps.effect_of(pd.DataFrame(rows), setting, both).set_index(["value", "score"])
        assert list(effect.loc[[(low, "all acc@1"), (high, "all acc@1")], "mean"].round(6)) == [0.6, 0.8]
        assert effect.loc[(low, "all acc@1"), "groups"] == 2
