"""Models as hubs expect them: loaded by transformers, cards parsed by the hub's library, numbers as measured, no path of this machine."""

import hashlib
import json
import subprocess

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import DatasetCard, ModelCard
from typer.testing import CliRunner

import annotating
from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.export import models
from mentionforge.export.commands import app
from mentionforge.export.hub import size_category

CELL = "recognition/c/gen/random/tiny/real_only/seed3"
METRICS = [
    ("recognition", "random", "tiny", "real_only", 3, "test", "all", "strict_f1", 0.8123456789, 40),
    ("recognition", "random", "tiny", "real_only", 3, "test", "all", "strict_precision", 0.75, 44),
    ("recognition", "random", "tiny", "real_only", 3, "test", "all", "token_f1", 0.9, 44),
    ("recognition", "random", "tiny", "real_only", 3, "test", "unseen_concept", "strict_recall", 0.5, 8),
    ("recognition", "random", "tiny", "real_only", 3, "test", "unmapped", "strict_recall", None, 0),
    ("recognition", "random", "tiny", "real_only", 3, "dev", "all", "strict_f1", 0.1, 9),
    ("recognition", "random", "tiny", "real_only", 4, "test", "all", "strict_f1", 0.2, 40),
    ("recognition", "none", "tiny", "real_only", 3, "test", "all", "strict_f1", 0.3, 40),
]
SENTENCES = [["gout", "and", "asthma"], ["a", "b"]]


def metrics(path, rows, generator="gen"):
    columns = ("task", "strategy", "system", "variant", "seed", "split", "bucket", "metric", "value", "n")
    named = [dict(zip(columns, row, strict=True)) | {"corpus": "c"} for row in rows]
    named = [row | {"generator": "none" if row["strategy"] == "none" else generator} for row in named]
    tables.write(tables.METRICS, path, sorted(named, key=lambda row: [row[c] for c in tables.METRICS.key]), {"mentionforge": "1", "git_revision": "abc"})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with a recognizer of random weights, its scores, and an encoder that a linker trained."""
    folder = tmp_path_factory.mktemp("models")
    results = folder / "results"
    torch.manual_seed(1)
    from mentionforge.recognition.tagger import Tagger

    model = results / CELL / "model"
    model.parent.mkdir(parents=True)
    Tagger.load(annotating.untrained(folder)).save(model, {"mentionforge": "1"})  # with its tags as labels
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/somebody/minilm"}))
    (model / "optimizer.pt").write_bytes(b"pickle")
    annotating.spec(results, "recognizers", "tiny", {"kind": "tagger", "model": "minilm"})
    annotating.spec(results, "corpora", "c", annotating.CORPUS)
    annotating.spec(results, "kbs", "k", annotating.KB)
    metrics(results / "evaluation/recognition/c.parquet", METRICS)
    reference = {"hub": "sentence-transformers/all-MiniLM-L6-v2@main", "licence": "Apache-2.0"}
    (folder / "resources/models/minilm").mkdir(parents=True)
    (folder / "resources/models/minilm/fetched.json").write_text(json.dumps({"folder": ".", "reference": reference}))

    from transformers import AutoModelForTokenClassification

    encoder = results / "alignment/aligned/c/weights"
    AutoModelForTokenClassification.from_pretrained(model).bert.save_pretrained(encoder)
    for path in model.glob("tokenizer*"):
        (encoder / path.name).write_bytes(path.read_bytes())
    (encoder.parent / "fetched.json").write_text(json.dumps({"folder": "weights"}))
    annotating.spec(results, "linkers", "aligned", {"kind": "self_aligned", "model": "minilm", "pooling": "mean"})
    score = ("normalization", "none", "aligned", "train+kb", 0, "test", "all", "acc@1", 0.7, 30)
    metrics(results / "evaluation/normalization/c.parquet", [score, (*score[:3], "kb", *score[4:8], 0.6, 30)])
    return results


@pytest.fixture(scope="module")
def exported(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "recognizer"
    models.export(results / CELL, out, licence="apache-2.0")
    return out


def head_of(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_a_recognizer_is_loaded_by_transformers_and_by_us(results, exported):
    from transformers import AutoModelForTokenClassification, pipeline

    from mentionforge.recognition.tagger import Tagger

    before, after = (Tagger.load(folder).probabilities(SENTENCES) for folder in (results / CELL / "model", exported))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    loaded = AutoModelForTokenClassification.from_pretrained(exported, use_safetensors=True)
    assert loaded.config.id2label == {0: "O", 1: "B-Disease", 2: "I-Disease"}
    original = AutoModelForTokenClassification.from_pretrained(results / CELL / "model").state_dict()
    assert all(torch.equal(value, original[name]) for name, value in loaded.state_dict().items()) and len(original) == len(loaded.state_dict())
    text = "gout and asthma"
    for found in pipeline("token-classification", str(exported), aggregation_strategy="first")(text):
        assert text[found["start"] : found["end"]].strip() and found["entity_group"] == "Disease"


def test_the_card_is_read_by_the_hubs_library_and_holds_what_was_measured(exported):
    read = ModelCard.load(exported / "README.md")
    assert (read.data.pipeline_tag, read.data.library_name, read.data.base_model) == (
        "token-classification", "transformers", "sentence-transformers/all-MiniLM-L6-v2",
    )  # fmt: skip
    told = [(r.dataset_name, r.dataset_split, r.metric_type, r.metric_name, r.metric_value) for r in read.data.eval_results]
    assert told == [("c", "test", "f1", "strict_f1", 0.812346), ("c", "test", "precision", "strict_precision", 0.75)]
    head = head_of(exported)
    assert head["license"] == "apache-2.0" and "license_name" not in head and head["language"] == "en"
    assert [r["metrics"][0]["value"] for r in head["model-index"][0]["results"]] in ([0.812346], [0.812346, 0.75])
    text = (exported / "README.md").read_text()
    assert "| c | real_only | all | strict_f1 | 81.2 | 40 |" in text and "| c | real_only | unseen_concept | strict_recall | 50.0 | 8 |" in text
    assert "token_f1" not in text and "| synthetic notes | gen, chosen by random |" in text and "The base model's is Apache-2.0." in text
    assert "mentionforge 1, revision abc" in text


def test_the_folder_holds_weights_and_no_path_of_this_machine(results, exported, tmp_path):
    files = {path.name for path in exported.iterdir()}
    assert {"README.md", "SHA256SUMS", "config.json", "model.safetensors", "recognizer.json", "tokenizer.json"} <= files and "optimizer.pt" not in files
    assert "somebody" in (results / CELL / "model/config.json").read_text()
    for path in exported.iterdir():
        content = path.read_bytes()
        assert b"somebody" not in content and str(results).encode() not in content, path
    listed = dict(reversed(line.split("  ")) for line in (exported / "SHA256SUMS").read_text().splitlines())
    assert listed == {name: hashlib.sha256((exported / name).read_bytes()).hexdigest() for name in files - {"SHA256SUMS"}}
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=exported).returncode == 0
    models.export(results / CELL / "model", tmp_path / "again", licence="apache-2.0")
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()}, "the same bytes again"


def test_an_encoder_is_exported_with_its_pooling_and_the_scores_of_each_index(results, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    models.export(results / "alignment/aligned/c", tmp_path / "e")
    read = ModelCard.load(tmp_path / "e/README.md")
    assert read.data.pipeline_tag == "feature-extraction" and read.data.license == "other" and head_of(tmp_path / "e")["license_name"]
    assert {(r.metric_type, r.metric_name, r.metric_value) for r in read.data.eval_results} == {
        ("accuracy", "acc@1 (train+kb)", 0.7), ("accuracy", "acc@1 (kb)", 0.6),
    }  # fmt: skip
    model, tokenizer = AutoModel.from_pretrained(tmp_path / "e"), AutoTokenizer.from_pretrained(tmp_path / "e")
    assert model(**tokenizer(["gout"], return_tensors="pt")).last_hidden_state.shape[-1] == 32
    assert "| pooling | mean |" in (tmp_path / "e/README.md").read_text()


def test_agreements_and_missing_numbers_are_told(results, tmp_path, capsys):
    import shutil

    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    shutil.rmtree(copy / "evaluation")
    annotating.spec(copy, "corpora", "c", annotating.CORPUS | {"licensed": "sign"})
    annotating.spec(copy, "kbs", "k", {"source": "rrf", "path": "x"})
    models.export(copy / CELL, tmp_path / "r")
    models.export(copy / "alignment/aligned/c", tmp_path / "e")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("trained on c, which is under an agreement that may reach the weights") == 2 and "names of k, which are under the licence of UMLS" in said
    text = (tmp_path / "e/README.md").read_text()
    assert "under the licence of UMLS" in text and "Nothing: the experiment did not score this model." in text
    head = head_of(tmp_path / "r")
    assert "model-index" not in head and "base_model" not in head  # no resources beside this copy
    assert "| base model | `minilm` of the configuration |" in (tmp_path / "r/README.md").read_text()


def test_mistakes_are_one_line(results, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    for source, out, licence, what in (
        (results / CELL, tmp_path / "full", "other", "folder not empty"),
        (results / CELL, tmp_path / "o", "My Licence", "unknown licence in --license"),
        (results / "normalization/c", tmp_path / "o", "other", "no model.*neither a recognition cell nor an encoder"),
        (results / CELL.replace("seed3", "seed4"), tmp_path / "o", "other", "no model.*no recognizer.json"),
        (results / "alignment/other/c", tmp_path / "o", "other", "no model.*no fetched.json"),
        (tmp_path, tmp_path / "o", "other", "no results folder"),
    ):
        with pytest.raises(UserError, match=what) as told:
            models.export(source, out, licence)
        assert "\n" not in str(told.value) and not (tmp_path / "o").exists() and not list(tmp_path.glob(".o*"))


def test_the_command(results, tmp_path):
    done = CliRunner().invoke(app, ["model", str(results / CELL), "--to", "hub-folder", "--out", str(tmp_path / "o"), "--license", "mit"])
    assert done.exit_code == 0, done.output
    assert head_of(tmp_path / "o")["license"] == "mit"


def test_sizes_are_those_of_the_hub():
    sizes = {0: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 99_999: "10K<n<100K", 100_000: "100K<n<1M", 5_000_000: "1M<n<10M", 10**7: "n>10M"}
    assert {n: size_category(n) for n in sizes} == sizes
    assert DatasetCard("---\nlicense: mit\n---\nx").data.license == "mit"
