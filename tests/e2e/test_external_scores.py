"""Another system's predictions through the whole workflow: those of a linker and a recognizer of its own, written as another system would write them."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from checkout import ROOT, copy_checkout, snakemake

GRID = {"corpora": ["demo_ncbi"], "strategies": ["none"]}
EXPERIMENT = {
    "normalization": [{**GRID, "linkers": ["tfidf"], "indexes": ["kb"]}],
    "recognition": [{**GRID, "recognizers": ["dictionary"], "linkers": ["tfidf"], "indexes": ["kb"]}],
}
TFIDF, PEER = "normalization/demo_ncbi/none/none/tfidf/kb/predictions.parquet", "normalization/demo_ncbi/none/none/peer/external/predictions.parquet"
FOUND = "recognition/demo_ncbi/none/none/dictionary/untrained/seed0/predictions.parquet"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with the linker tfidf and the same rankings from a CSV file, the dictionary and the same mentions from BRAT; needs no weights."""
    folder = copy_checkout(tmp_path_factory.mktemp("external") / "mentionforge")
    first = {"linkers": {"tfidf": {"kind": "tfidf"}}, "experiment": EXPERIMENT}
    (folder / "first.yaml").write_text(yaml.safe_dump(first))
    snakemake(folder, f"results/{TFIDF}", f"results/{FOUND}", "--configfile", "first.yaml")
    write_answers(folder)
    write_brat(folder)
    for script, out in (("sklearn_tfidf", "sklearn.csv"), ("spacy_matcher", "spacy")):
        given = ["--kb", folder / "results/kb/demo", "--corpus", folder / "results/corpora/demo_ncbi", "--out", folder / "peer" / out]
        subprocess.run([sys.executable, folder / f"tests/peers/{script}.py", *given], check=True, capture_output=True)
    grid = {
        "normalization": [EXPERIMENT["normalization"][0] | {"linkers": ["tfidf", "peer", "half", "sklearn"]}],
        "recognition": [EXPERIMENT["recognition"][0] | {"recognizers": ["dictionary", "found", "spacy"]}],
    }
    second = {
        "linkers": {
            "tfidf": {"kind": "tfidf"},
            "peer": {"kind": "external", "path": "peer/{corpus}.csv", "columns": {"concept": "cui_pred"}, "cite": "Peer 2020, version 1.2"},
            "half": {"kind": "external", "path": {"demo_ncbi": "peer/half.csv"}, "missing": "wrong"},
            "sklearn": {"kind": "external", "path": "peer/sklearn.csv", "columns": {"concept": "cui", "score": "similarity"}},
        },
        "recognizers": {
            "found": {"kind": "external", "path": "peer/brat", "reader": "brat"},
            "spacy": {"kind": "external", "path": "peer/spacy", "reader": "brat"},
        },
        "experiment": grid,
    }
    (folder / "second.yaml").write_text(yaml.safe_dump(second))
    snakemake(folder, "--configfile", "second.yaml")
    return folder


def write_answers(folder: Path) -> None:
    """The rankings of tfidf by span, ten concepts deep; `half` answers every second mention, with its first concept."""
    mentions = pd.read_parquet(folder / "results/corpora/demo_ncbi/mentions.parquet").set_index("mention_id")
    ranked = dict(list(pd.read_parquet(folder / "results" / TFIDF).groupby("mention_id")))
    (folder / "peer").mkdir()
    with open(folder / "peer/demo_ncbi.csv", "w", newline="") as whole, open(folder / "peer/half.csv", "w", newline="") as half:
        one, other = csv.writer(whole), csv.writer(half)
        one.writerow(["doc_id", "start", "end", "surface", "cui_pred", "rank", "score"])
        other.writerow(["mention_id", "concept"])
        for number, (mention_id, row) in enumerate(mentions[mentions["split"] == "test"].iterrows()):
            place = [row["doc_id"], row["spans"][0]["start"], row["spans"][-1]["end"], row["surface"]]
            part = ranked.get(mention_id)
            if part is None:
                one.writerow([*place, "None", 1, ""])
            else:
                for r in part[part["rank"] <= 10].itertuples():
                    one.writerow([*place, r.cui, r.rank, r.score])
                if number % 2:
                    other.writerow([mention_id, part["cui"].iloc[0]])


def write_brat(folder: Path) -> None:
    """The dictionary's mentions of test, and none of dev."""
    documents = pd.read_parquet(folder / "results/corpora/demo_ncbi/documents.parquet").set_index("doc_id")
    found = pd.read_parquet(folder / "results" / FOUND)
    (folder / "peer/brat").mkdir(parents=True)
    for doc_id, row in documents[documents["split"] == "test"].iterrows():
        (folder / f"peer/brat/{doc_id}.txt").write_text(row["text"], encoding="utf-8")
        own = found[found["doc_id"] == doc_id]
        lines = [f"T{i}\tDisease {r.start} {r.end}\t{row['text'][r.start : r.end]}" for i, r in enumerate(own.itertuples(), 1)]
        (folder / f"peer/brat/{doc_id}.ann").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_equal_predictions_have_equal_scores_and_those_counted_from_the_file(run: Path) -> None:
    metrics = pd.read_parquet(run / "results/evaluation/normalization/demo_ncbi.parquet")
    values = {s: part.set_index(["bucket", "metric"])[["value", "n"]] for s, part in metrics.groupby("system")}
    shallow = [(b, m) for b, m in values["peer"].index if m in ("acc@1", "acc@5", "acc@10")]
    assert len(shallow) == 4 * 3 + 6 * 2, "all and three buckets; six subsets, without acc@10"
    assert values["peer"].loc[shallow].equals(values["tfidf"].loc[shallow])
    gold = pd.read_parquet(run / "results/corpora/demo_ncbi/mentions.parquet")
    gold = gold[(gold["split"] == "test") & (gold["cuis"].str.len() > 0)]
    answers: dict[tuple[str, int, int], list[str]] = {}
    with open(run / "peer/demo_ncbi.csv", newline="") as handle:
        for row in csv.DictReader(handle):
            answers.setdefault((row["doc_id"], int(row["start"]), int(row["end"])), []).append(row["cui_pred"])
    ranks = []
    for row in gold.itertuples():
        given = answers[row.doc_id, row.spans[0]["start"], row.spans[-1]["end"]]
        ranks.append(next((i for i, cui in enumerate(given, 1) if cui in set(row.cuis)), 10**9))
    for k in (1, 5, 10, 100):
        assert values["peer"].loc[("all", f"acc@{k}")].tolist() == pytest.approx([sum(r <= k for r in ranks) / len(ranks), len(ranks)])
    first = dict(line.split(",") for line in (run / "peer/half.csv").read_text().splitlines())
    right = sum(first.get(row.mention_id) in set(row.cuis) for row in gold.itertuples())
    assert values["half"].loc[("all", "acc@1")].tolist() == pytest.approx([right / len(gold), len(gold)])


def test_equal_mentions_have_equal_scores(run: Path) -> None:
    metrics = pd.read_parquet(run / "results/evaluation/recognition/demo_ncbi.parquet")
    metrics = metrics[metrics["split"] == "test"]
    values = {s: part.set_index(["bucket", "metric"])["value"] for s, part in metrics.groupby("system")}
    assert set(metrics[metrics["system"] == "found"]["variant"]) == {"external"} and values["found"].equals(values["dictionary"])
    both = pd.read_parquet(run / "results/evaluation/end_to_end/demo_ncbi.parquet")
    f1 = both[(both["split"] == "test") & (both["bucket"] == "all") & (both["metric"] == "span_concept_f1")].set_index("system")["value"]
    assert f1["found/tfidf"] == f1["dictionary/tfidf"] > 0


def test_other_libraries_have_the_scores_that_are_counted_from_their_files(run: Path) -> None:
    """scikit-learn's nearest names and spaCy's PhraseMatcher, scored by the workflow and by tests/peers/scores.py."""
    counted = runpy.run_path(str(ROOT / "tests/peers/scores.py"))
    metrics = pd.read_parquet(run / "results/evaluation/normalization/demo_ncbi.parquet")
    values = metrics[(metrics["system"] == "sklearn") & (metrics["bucket"] == "all")].set_index("metric")["value"]
    expected = counted["linked"](run / "results/corpora/demo_ncbi", run / "peer/sklearn.csv")
    assert {f"acc@{k}": values[f"acc@{k}"] for k in (1, 5, 10)} == pytest.approx({k: v for k, v in expected.items() if k != "n"})
    assert 0.5 < expected["acc@1"] < 1
    metrics = pd.read_parquet(run / "results/evaluation/recognition/demo_ncbi.parquet")
    metrics = metrics[(metrics["split"] == "test") & (metrics["system"] == "spacy") & (metrics["bucket"] == "all")].set_index("metric")
    expected = counted["found"]([run / "resources/demo/ncbi/test.txt"], run / "peer/spacy")
    assert metrics.loc["strict_recall", "n"] == expected["gold"] and metrics.loc["strict_precision", "n"] == expected["predicted"]
    assert metrics["value"][["strict_precision", "strict_recall", "strict_f1"]].tolist() == pytest.approx([expected[k] for k in ("precision", "recall", "f1")])


def test_systems_are_compared_and_shown(run: Path) -> None:
    compared = pd.read_parquet(run / "results/statistics/normalization/demo_ncbi/comparisons.parquet")
    assert set(compared["against"]) == {"external"} and set(compared["slice"]) == {"all", "bucket"}
    overall = compared[(compared["slice"] == "all") & (compared["metric"] == "acc@1")].set_index(["system", "reference_system"])
    assert set(overall.index) == {
        *((s, o) for s in ("tfidf",) for o in ("half", "peer", "sklearn")),
        ("half", "peer"),
        ("half", "sklearn"),
        ("peer", "sklearn"),
    }
    same = overall.loc[("tfidf", "peer")]
    assert same["difference"] == same["fixed"] == same["broken"] == 0 and same["p"] == 1 and overall.loc[("tfidf", "half")]["difference"] > 0
    summary = (run / "results/summary/summary.md").read_text()
    assert "## External systems" in summary and "Peer 2020, version 1.2" in summary and "peer/demo_ncbi.csv (sha256 " in summary
    assert "test mentions without an answer, counted as wrong" in summary and "index external" in summary
    page = (run / "results/report/index.html").read_text()
    assert "External systems" in page and "Peer 2020, version 1.2" in page and "Against external systems" in page
    table = pd.read_csv(run / "results/summary/comparisons.csv")
    assert {"peer", "half", "sklearn"} == set(table[table["task"] == "normalization"]["reference_system"])
    wide = pd.read_csv(run / "results/summary/normalization.csv")
    assert set(wide[wide["index"] == "external"]["linker"]) == {"peer", "half", "sklearn"}


def test_a_changed_file_reruns_its_cell_alone(run: Path) -> None:
    path = run / "peer/half.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:-1]) + "\n")
    plan = snakemake(run, "-n", "-p", "--nocolor", "--configfile", "second.yaml").stdout
    commands = [line.split()[2:5] for line in plan.splitlines() if line.startswith("Shell command: mentionforge")]
    verbs = sorted(" ".join(words[1:3]) for words in commands)
    assert verbs == ["evaluation compare", "evaluation normalization", "external rankings", "report page", "report summary", "report tidy"]
    spec = json.loads((run / "results/specs/linkers/half.json").read_text())
    assert spec["settings"]["path"] == {"demo_ncbi": "peer/half.csv"}
