"""The generator `replacement` on the mini experiment, from the corpus to scores, recomputed from the corpus' tables."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from checkout import snakemake
from mentionforge import tables

OVERLAY = {
    "generators": {
        "swap": {"kind": "replacement", "kb": "demo", "corpus": "demo_ncbi", "notes_per_concept": 2, "filters": {"leakage": {"corpora": ["demo_ncbi"]}}}
    },
    "experiment": {
        "normalization": [
            {"corpora": ["demo_ncbi"], "generators": ["swap"], "strategies": ["none", "supplemental"], "linkers": ["mention"], "indexes": ["train"]}
        ],
        "recognition": [{"corpora": ["demo_ncbi"], "generators": ["swap"], "strategies": ["none", "naive"], "recognizers": ["minilm"]}],
    },
}


@pytest.fixture(scope="module")
def swapped(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini experiment with the generator in place of the others."""
    folder = tmp_path_factory.mktemp("swapped") / "mentionforge"
    shutil.copytree(finished, folder, symlinks=True, copy_function=shutil.copy2)
    (folder / "swap.yaml").write_text(yaml.safe_dump(OVERLAY))
    snakemake(folder, "--configfile", "tests/mini.yaml", "swap.yaml")
    return folder / "results"


def test_notes_are_training_sentences_and_every_label_is_learned(swapped: Path) -> None:
    documents = {row["doc_id"]: row for row in tables.read(tables.DOCUMENTS, swapped / "corpora/demo_ncbi/documents.parquet").to_pylist()}
    gold = pd.read_parquet(swapped / "corpora/demo_ncbi/mentions.parquet")
    gold["start"] = [spans[0]["start"] for spans in gold["spans"]]
    generator = swapped / "generation/swap"
    notes, mentions = pd.read_parquet(generator / "notes.parquet"), pd.read_parquet(generator / "mentions.parquet")
    located = pd.read_parquet(generator / "located.parquet")
    texts = dict(zip(located["note_id"], located["text"], strict=True))
    assert 100 < len(located) <= len(notes) <= 2 * 293
    for note in notes[notes["note_id"].isin(texts)].itertuples():
        plan = json.loads(note.prompt)
        (start, end), mention = plan["sentence"], plan["mention"]
        document = documents[plan["document"]]
        assert document["split"] == "train" and {"start": start, "end": end} in document["sentences"]
        of_sentence = gold[(gold["doc_id"] == plan["document"]) & (gold["start"] >= start) & (gold["start"] < end)]
        labels = mentions[mentions["note_id"] == note.note_id]
        (own,) = labels[labels["match"] != "gold"].itertuples()
        others = of_sentence[of_sentence["start"] != mention[0]]
        assert sorted(labels[labels["match"] == "gold"]["surface"]) == sorted(others["surface"])
        assert note.text[own.end :] == document["text"][mention[1] : end]
        assert own.surface.casefold() == plan["name"].casefold() and own.cui == note.cui
        assert all(texts[note.note_id][m.start : m.end] == m.surface for m in labels.itertuples())
    folder = swapped / "recognition/demo_ncbi/swap/naive/minilm"
    (predictions,) = folder.rglob("predictions.parquet")
    counts = tables.provenance(predictions)["counts"]["synthetic"]
    assert (counts["documents"], counts["mentions"]) == (len(located), len(mentions)) and len(mentions) > len(located)


def test_its_cells_are_scored_and_it_is_a_control(swapped: Path) -> None:
    scores = pd.read_parquet(swapped / "evaluation/normalization/demo_ncbi.parquet")
    unseen = scores[(scores["bucket"] == "unseen_concept") & (scores["metric"] == "acc@1") & (scores["split"] == "test")]
    by_strategy = dict(zip(unseen["strategy"], unseen["value"], strict=True))
    assert by_strategy["none"] == 0 < by_strategy["supplemental"]
    chosen = pd.read_parquet(swapped / "augmentation/demo_ncbi/swap/supplemental/notes.parquet")
    entries = pd.read_parquet(swapped / "embeddings/mention/generator.swap/entries.parquet")
    assert entries["note_id"].isin(chosen["note_id"]).sum() == len(chosen), "one entry a note, none of a gold mention"
    assert "swap" in (swapped / "report/index.html").read_text(encoding="utf-8")
