"""The card of a concept and the counts, on the demo release, through the command line."""

import json

import pytest
from typer.testing import CliRunner

from mentionforge.errors import UserError
from mentionforge.kb import show
from mentionforge.kb.commands import app

run = CliRunner()


@pytest.fixture(scope="module")
def kb(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("kb")
    path = root / "resources" / "demo" / "umls" / "META"
    (out / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "demo", "settings": {"source": "rrf", "path": str(path)}}))
    assert run.invoke(app, ["extract", "--spec", str(out / "spec.json"), "--out", str(out)]).exit_code == 0
    return out


@pytest.mark.parametrize("query", ["C0013384", "c0013384", "Dyskinesia", "movement abnormal", "C9700002"])
def test_found_by_cui_name_and_retired_cui(kb, query):
    assert show.find(query, kb) == ["C0013384"]


def test_card(kb):
    result = run.invoke(app, ["show", "C0013384", "--kb", str(kb)])
    assert result.exit_code == 0
    for text in ("C0013384  Dyskinesia", "T184 Sign or Symptom", "MSH:D020820", "Abnormal Movement", "C9700002 (SY)"):
        assert text in result.output


def test_near_names_on_a_typo(kb):
    with pytest.raises(UserError, match=r"unknown concept in .*near names: dyskinesia \(C0013384\)"):
        show.find("dyskinezia", kb)
    with pytest.raises(UserError, match="give a concept id or a name"):
        show.find("0000000000", kb)


def test_stats(kb):
    result = run.invoke(app, ["stats", "--kb", str(kb)])
    stats = json.loads((kb / "stats.json").read_text())["kb"]
    assert result.exit_code == 0
    assert f"{stats['names']:,}" in result.output
