"""The page of published scores: its tables hold every row of the CSV file, and our cells are those of a run's metrics."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mentionforge.config import load_config
from mentionforge.config_files import merge
from mentionforge.errors import UserError
from mentionforge.report.published import COLUMNS, OURS, our_rows, our_scores_of, table, write_page

OURS_FILE = "docs/comparison-ours.yaml"


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]


def test_every_published_score_is_on_the_page(root: Path) -> None:
    """Each score of the CSV file stands in its table, in its column, beside its protocol and source."""
    page = (root / "docs/comparison.md").read_text(encoding="utf-8")
    scores = pd.read_csv(root / "docs/comparison.csv")
    assert not scores.duplicated(["task", "corpus", "system", "protocol", "measure"]).any() and scores["value"].between(0, 100).all()
    assert set(scores["measure"]) <= {column for columns in COLUMNS.values() for column in columns}
    for (task, corpus), part in scores.groupby(["task", "corpus"]):
        block = re.search(rf"<!-- {task}, {corpus} -->\n(.*?)<!-- end -->", page, re.S)
        assert block, (task, corpus)
        head, *rows = rows_of(block[1])
        shown = {(row[1], row[0]): dict(zip(head, row, strict=True)) for row in rows}
        for score in part.itertuples():
            row = shown[score.system, score.protocol]
            assert row[score.measure].split(" ")[0] == f"{score.value:.1f}" and row["source"] == score.source
        assert [row[0] for row in rows] == sorted(row[0] for row in rows), "protocols are not mixed"
    protocols = set(re.findall(r"^\| ([A-Z]) \|", page, re.M))
    assert protocols >= set(scores["protocol"]) | {cell.protocol for cell in our_rows(root / OURS_FILE).cells}, "each protocol is explained"


def test_our_cells_are_those_of_the_preset(root: Path) -> None:
    import yaml

    raw: dict = {}
    for name in ("config.yaml", "config/open.yaml", "config/comparison.yaml"):
        merge(raw, yaml.safe_load((root / name).read_text()))
    config = load_config(raw)
    grid, [tagging] = config.experiment.normalization[0], config.experiment.recognition
    ours = our_rows(root / OURS_FILE)
    assert len(ours.cells) == 8 and len(ours.corpora) == 4
    for cell in ours.cells:
        systems, variants = (grid.linkers, grid.indexes) if cell.task == "normalization" else (tagging.recognizers, ("real_only", "untrained"))
        assert cell.system in systems and cell.variant in variants
    assert set(ours.corpora) <= set(grid.corpora)
    for name, corpus in ours.corpora.items():
        assert name.endswith(f"_{config.corpora[name].composite}") and corpus.suffix == (" split" if config.corpora[name].composite == "split" else "")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """metrics.csv of a run: one linker on one corpus, a recognizer with two seeds, and cells that are not shown."""
    cell = {"task": "normalization", "corpus": "ncbi_all", "generator": "none", "strategy": "none", "system": "tfidf_abbr", "variant": "train+medic", "seed": 0}
    rows = [
        cell | {"bucket": b, "metric": m, "value": v, "n": n} for b, m, v, n in (("all", "acc@1", 0.8512, 930), ("distinct_new_surface", "acc@1", 0.5, 200))
    ]
    rows += [
        rows[0] | {"strategy": "naive", "value": 0.1},
        rows[0] | {"variant": "medic", "value": 0.2},
        rows[0] | {"corpus": "ncbi_split", "value": 0.3, "n": 946},
    ]
    tagger = cell | {"task": "recognition", "system": "minilm", "variant": "real_only", "bucket": "all", "metric": "strict_f1", "n": 960}
    rows += [tagger | {"seed": s, "value": v} for s, v in ((1, 0.8), (2, 0.9))]
    (tmp_path / "results/summary").mkdir(parents=True)
    pd.DataFrame(rows).assign(split="test").to_csv(tmp_path / "results/summary/metrics.csv", index=False)
    return tmp_path / "results"


def test_rows_of_a_run(root: Path, results: Path) -> None:
    found = our_scores_of(pd.read_csv(results / "summary/metrics.csv"), our_rows(root / OURS_FILE))
    split = found[found["protocol"] == "D split"]
    assert split[["system", "measure", "value", "n"]].values.tolist() == [["here: TF-IDF, `tfidf_abbr`", "acc@1", 30.0, 946]]
    found = found.drop(split.index)
    assert found[["task", "corpus", "system", "measure", "value", "n"]].values.tolist() == [
        ["normalization", "NCBI Disease", "here: TF-IDF, `tfidf_abbr`", "acc@1", 85.1, 930],
        ["normalization", "NCBI Disease", "here: TF-IDF, `tfidf_abbr`", "distinct, new surface", 50.0, 200],
        ["recognition", "NCBI Disease", "here: MiniLM", "strict F1", 85.0, 960],
    ]
    assert set(OURS["recognition"]) <= set(COLUMNS["recognition"]) and set(OURS["normalization"]) <= set(COLUMNS["normalization"])
    shown = rows_of(table(found, "normalization", "NCBI Disease"))
    assert shown == [
        ["protocol", "system", "acc@1", "distinct, new surface", "source"],
        ["D", "here: TF-IDF, `tfidf_abbr`", "85.1 (930)", "50.0 (200)", "`make comparison`"],
    ]


def test_the_page_is_filled_and_filled_again(root: Path, results: Path, tmp_path: Path) -> None:
    page = shutil.copy(root / "docs/comparison.md", tmp_path / "page.md")
    write_page(root / "docs/comparison.csv", page, results, root / OURS_FILE)
    first = page.read_text()
    assert "85.1 (930)" in first and "92.8 (960)" in first
    write_page(root / "docs/comparison.csv", page, results, root / OURS_FILE)
    assert page.read_text() == first
    by_hand = re.sub(r"<!-- \w+, [^>]+? -->\n.*?<!-- end -->", "", first, flags=re.S)
    assert by_hand == re.sub(r"<!-- \w+, [^>]+? -->\n.*?<!-- end -->", "", (root / "docs/comparison.md").read_text(), flags=re.S)


def test_faults_are_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# nothing\n")
    with pytest.raises(UserError, match="no place for a table"):
        write_page(root / "docs/comparison.csv", tmp_path / "page.md", None, root / OURS_FILE)
    with pytest.raises(UserError, match=r"no metrics.*make comparison"):
        write_page(root / "docs/comparison.csv", tmp_path / "page.md", tmp_path, root / OURS_FILE)


def test_a_fault_in_our_rows_names_key_and_file(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("corpora: {}\ncells:\n  - {task: parsing, system: s, variant: v, label: l, protocol: D}\n")
    with pytest.raises(UserError, match=r"cells\.0\.task"):
        our_rows(tmp_path / "ours.yaml")
    with pytest.raises(UserError, match=r"none\.yaml"):
        our_rows(tmp_path / "none.yaml")
