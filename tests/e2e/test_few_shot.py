"""Generator `few_shot` by the rules of the workflow: real training texts, the small model, all filters that compare texts."""

import re
from pathlib import Path

import pandas as pd
import yaml

from checkout import copy_checkout, snakemake

SETTINGS = {
    "generators": {
        "shown": {
            "kind": "few_shot",
            "kb": "demo",
            "model": "smollm2",
            "concepts": {"max": 4},
            "notes_per_concept": 2,
            "sampling": {"max_new_tokens": 12},
            "examples": {"corpus": "demo_ncbi", "n": 2, "context_sentences": 0},
            "filters": {"parse": {}, "leakage": {"corpora": ["demo_ncbi"]}, "memorization": {}},
        }
    },
    "experiment": {
        "recognition": [],
        "normalization": [{"corpora": ["demo_ncbi"], "generators": ["shown"], "strategies": ["none", "naive"], "linkers": ["exact"], "indexes": ["train"]}],
    },
}


def test_a_run_shows_training_texts_alone_and_ends_with_mentions_of_its_notes(tmp_path: Path, smollm2: Path) -> None:
    folder = copy_checkout(tmp_path / "mentionforge")
    (folder / "shown.yaml").write_text(yaml.safe_dump(SETTINGS))
    targets = ["results/generation/shown/mentions.parquet", "results/normalization/demo_ncbi/shown/naive/exact/train/predictions.parquet"]
    snakemake(folder, "--configfile", "shown.yaml", "--", *targets)
    results = folder / "results"
    prompts, notes = (pd.read_parquet(results / f"generation/shown/{table}.parquet") for table in ("prompts", "notes"))
    assert len(prompts) == len(notes) == 8 and set(prompts["note_id"]) == set(notes["note_id"])
    assert not (results / "generation/shown/adapter").exists()

    # Independently of our tables: each text that was shown stands in the file of the training split. (Sentences of the demo recur in other splits.)
    training = re.sub(r"\s", "", (folder / "resources/demo/ncbi/train.txt").read_text(encoding="utf-8"))
    shown = [text for prompt in prompts["prompt"] for text in re.findall(r"^Text: (.+)$", prompt, re.M)]
    assert len(shown) == 16 and all("<1CUI>" in text and re.sub(r"\s|</?1CUI>", "", text) in training for text in shown)

    filters = pd.read_csv(results / "generation/shown/filters.csv")
    assert {"parse", "leakage", "memorization"} <= set(filters["filter"])
    assert "Nothing to be done" in snakemake(folder, "-n", "--configfile", "shown.yaml", "--", *targets).stdout
