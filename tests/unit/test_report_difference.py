"""Two results folders that differ in one setting."""

import json

import pandas as pd
import pytest

from mentionforge.errors import UserError
from mentionforge.report.difference import changed_cells, changed_settings, compare_results, folder_of


def folder(path, value, tokens, revision):
    (path / "specs/linkers").mkdir(parents=True)
    spec = {"kind": "linkers", "name": "mention", "part": None, "stage_version": 1, "settings": {"model": "m", "window": {"max_tokens": tokens}}}
    (path / "specs/linkers/mention.json").write_text(json.dumps(spec))
    cell = {"task": "normalization", "corpus": "c", "generator": "none", "strategy": "none", "variant": "kb", "seed": 0, "split": "test", "metric": "acc@1"}
    origin = {"kb": "k", "corpus_digest": "d", "kb_digest": "e", "model_revision": "r", "git_revision": revision}
    rows = [
        {**cell, **origin, "system": system, "bucket": bucket, "value": v, "n": 50}
        for system, v in (("mention", value), ("context", 0.5))
        for bucket in ("all", "unseen_concept")
    ]
    (path / "summary").mkdir()
    pd.DataFrame(rows).to_csv(path / "summary/metrics.csv", index=False)
    return path


def test_changed_cell_and_the_setting_behind_it(tmp_path, monkeypatch, capsys):
    a, b = folder(tmp_path / "results/a", 0.25, 25, "0012e4"), folder(tmp_path / "results/b", 0.75, 48, "def")
    assert changed_settings(a, b) == [("linkers/mention: window.max_tokens", 25, 48)]
    cells = changed_cells(a, b)
    assert set(cells["system"]) == {"mention"} and cells["difference"].tolist() == [0.5, 0.5]
    monkeypatch.chdir(tmp_path)
    compare_results(folder_of("0012"), folder_of("results/b"))
    printed = capsys.readouterr().out
    assert "25 -> 48" in printed and "25.0 -> 75.0 (+50.0, n=50); settings of mention" in printed and "context" not in printed
    with pytest.raises(UserError, match="no results"):
        folder_of("nowhere")
