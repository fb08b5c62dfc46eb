"""Training: schedules, choice of the epoch, reproducibility, and that predictions never see gold."""

import csv
import json
import random
from pathlib import Path

import pytest

from mentionforge import tables, text
from mentionforge.errors import UserError

DISEASES = ["Huntington disease", "gout", "breast cancer", "type 2 diabetes", "asthma", "cystic fibrosis", "Wilson disease", "anemia"]
FRAMES = ["Patients with {} were followed for two years.", "The gene is linked to {} in most families.", "We report a case of {}.", "No sign of {} was found."]


def sentence_texts(count, seed):
    chosen = random.Random(seed)
    return [
        (frame, disease) for frame, disease in zip((chosen.choice(FRAMES) for _ in range(count)), (chosen.choice(DISEASES) for _ in range(count)), strict=True)
    ]


def note(pairs):
    """Text, sentence spans and mention spans of (frame, disease) pairs."""
    string, sentences, mentions = "", [], []
    for frame, disease in pairs:
        string += " " if string else ""
        start = len(string) + frame.index("{}")
        sentence = frame.format(disease)
        sentences.append({"start": len(string), "end": len(string) + len(sentence)})
        mentions.append((start, start + len(disease)))
        string += sentence
    return string, sentences, mentions


@pytest.fixture
def corpus(tmp_path):
    """Writes a corpus of templated documents: `splits` gives sentences per document of each split."""

    def write(splits, name="corpus", move_test_gold=0):
        documents, mentions = [], []
        for split, pairs in splits.items():
            string, sentences, spans = note(pairs)
            documents.append({"doc_id": f"{split}-1", "split": split, "text": string, "sentences": sentences})
            for i, (start, end) in enumerate(spans):
                if split == "test" and move_test_gold:
                    start, end = text.words(string)[i * move_test_gold]
                row = {
                    "doc_id": f"{split}-1",
                    "mention_id": f"{split}-1-{i}",
                    "split": split,
                    "spans": [{"start": start, "end": end}],
                    "surface": string[start:end],
                    "expanded": None,
                }
                mentions.append(
                    row | {"entity_type": "Disease", "concept_ids": [], "cuis": [], "concept_cuis": [], "composite": False, "ood_bucket": "unmapped"}
                )
        folder = tmp_path / name
        tables.write(tables.DOCUMENTS, folder / "documents.parquet", documents)
        tables.write(tables.MENTIONS, folder / "mentions.parquet", mentions)
        return folder

    return write


@pytest.fixture
def specs(tmp_path):
    """Writes the specs of a recognizer and of a corpus."""

    def write(**settings):
        settings = {
            "model": "m",
            "batch_size": 4,
            "max_tokens": 40,
            "stride": 8,
            "real": {"epochs": 2, "learning_rate": 1e-3},
            "synthetic": {"epochs": 1, "learning_rate": 1e-3},
        } | settings
        recognizer, corpus = tmp_path / "recognizer.json", tmp_path / "corpus.json"
        recognizer.write_text(json.dumps({"kind": "recognizers", "settings": settings}))
        corpus.write_text(json.dumps({"kind": "corpora", "settings": {"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}}}))
        return recognizer, corpus

    return write


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Stamp of a random encoder of two small layers, so that what is tested here needs no download."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted({c for s in DISEASES + FRAMES for c in s.lower() if c.isalnum()})
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *alphabet, *("##" + c for c in alphabet), *sorted({w.lower() for d in DISEASES for w in d.split()})]
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(vocab))}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]").save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64)
    ).save_pretrained(folder)
    stamp = folder / "fetched.json"
    stamp.write_text(json.dumps({"folder": str(folder)}))
    return stamp


@pytest.fixture
def synthetic(tmp_path):
    """Writes a generator's located notes and a strategy's choice of the first `chosen` of them."""

    def write(chosen, located=3):
        notes, mentions = [], []
        for i, pair in enumerate(sentence_texts(located, 5)):
            string, sentences, spans = note([pair])
            notes.append({"note_id": f"C{i:07d}-0", "cui": f"C{i:07d}", "text": string, "sentences": sentences})
            mentions += [
                {"note_id": f"C{i:07d}-0", "start": a, "end": b, "cui": f"C{i:07d}", "surface": string[a:b], "match": "exact", "score": 100.0} for a, b in spans
            ]
        tables.write(tables.LOCATED, tmp_path / "generator/located.parquet", notes)
        tables.write(tables.SYNTHETIC_MENTIONS, tmp_path / "generator/mentions.parquet", mentions)
        tables.write(tables.CHOSEN, tmp_path / "chosen.parquet", [{"note_id": f"C{i:07d}-0", "cui": f"C{i:07d}"} for i in range(chosen)])
        return tmp_path / "chosen.parquet", tmp_path / "generator"

    return write


def run(spec, stamp, corpus, corpus_spec, out, schedule="real_only", seed=1, notes=(None, None)):
    from mentionforge.recognition.training import train

    train(spec, stamp, corpus, corpus_spec, schedule, seed, out, *notes)
    with open(out / "history.csv", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


SPLITS = {"train": sentence_texts(8, 1), "dev": sentence_texts(4, 2), "test": sentence_texts(6, 3)}


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("predictions.parquet", "history.csv", "model/model.safetensors", "model/recognizer.json")}


def test_overfits_eight_sentences(minilm, corpus, specs, tmp_path):
    spec, corpus_spec = specs(real={"epochs": 10, "learning_rate": 1e-3}, batch_size=8)
    folder = corpus({"train": SPLITS["train"], "test": SPLITS["train"]})
    history = run(spec, minilm, folder, corpus_spec, tmp_path / "out")
    assert float(history[-1]["train_loss"]) < 0.1 < float(history[0]["train_loss"])
    found = tables.read(tables.RECOGNIZED, tmp_path / "out/predictions.parquet").to_pylist()
    assert [(r["start"], r["end"]) for r in found] == note(SPLITS["train"])[2]
    assert all(0 < r["score"] <= 1 and r["split"] == "test" for r in found)


def test_seeds_reproduce_and_matter(tiny, corpus, specs, tmp_path):
    spec, corpus_spec = specs()
    folder = corpus(SPLITS)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(spec, tiny, folder, corpus_spec, tmp_path / name, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["model/model.safetensors"] != contents(tmp_path / "c")["model/model.safetensors"]


def test_predictions_never_use_gold(tiny, corpus, specs, tmp_path):
    spec, corpus_spec = specs()
    run(spec, tiny, corpus(SPLITS), corpus_spec, tmp_path / "a")
    run(spec, tiny, corpus(SPLITS, "moved", move_test_gold=2), corpus_spec, tmp_path / "b")
    one, two = (tables.read(tables.RECOGNIZED, tmp_path / n / "predictions.parquet") for n in "ab")
    assert len(one) and one.equals(two)


def test_a_saved_recognizer_predicts_the_same(tiny, corpus, specs, tmp_path):
    from mentionforge.recognition.sentences import document
    from mentionforge.recognition.tagger import Tagger

    spec, corpus_spec = specs()
    folder = corpus(SPLITS)
    run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    assert {p.suffix for p in (tmp_path / "out/model").iterdir()} == {".json", ".safetensors"}
    tagger = Tagger.load(tmp_path / "out/model")
    row = next(r for r in tables.read(tables.DOCUMENTS, folder / "documents.parquet").to_pylist() if r["split"] == "test")
    doc = document(row["doc_id"], row["text"], row["sentences"])
    again = [(doc.words[a][0], doc.words[b - 1][1]) for (a, b), _ in tagger.recognize([doc])[doc.doc_id]]
    first = tables.read(tables.RECOGNIZED, tmp_path / "out/predictions.parquet").to_pylist()
    assert again == [(r["start"], r["end"]) for r in first if r["split"] == "test"]


def test_schedules(tiny, corpus, specs, synthetic, tmp_path, capfd):
    spec, corpus_spec = specs()
    folder = corpus(SPLITS)
    both = run(spec, tiny, folder, corpus_spec, tmp_path / "both", "synthetic_then_real", notes=synthetic(2))
    assert [(r["phase"], r["epoch"]) for r in both] == [("synthetic", "1"), ("real", "1"), ("real", "2")]
    assert [r["steps"] for r in both] == ["1", "2", "2"] and "kept" in both[0] and both[0]["kept"] == "0"
    only = run(spec, tiny, folder, corpus_spec, tmp_path / "only", "synthetic_only", notes=synthetic(2))
    assert [r["phase"] for r in only] == ["synthetic"] and only[0]["kept"] == "1"
    counts = tables.provenance(tmp_path / "only/predictions.parquet")["counts"]
    assert counts["synthetic"]["mentions"] == counts["synthetic"]["sentences"] == 2 and "real" not in counts
    capfd.readouterr()
    real = run(spec, tiny, folder, corpus_spec, tmp_path / "real")
    none = run(spec, tiny, folder, corpus_spec, tmp_path / "none", "synthetic_then_real", notes=synthetic(0))
    assert none == real and "chose no synthetic note" in capfd.readouterr().err


def test_synthetic_schedules_need_notes(tiny, corpus, specs, synthetic, tmp_path):
    spec, corpus_spec = specs()
    folder = corpus(SPLITS)
    with pytest.raises(UserError, match="no synthetic notes"):
        run(spec, tiny, folder, corpus_spec, tmp_path / "x", "synthetic_only", notes=synthetic(0))
    with pytest.raises(UserError, match="missing synthetic notes"):
        run(spec, tiny, folder, corpus_spec, tmp_path / "x", "synthetic_then_real")
    with pytest.raises(UserError, match="C0000003-0 and 1 others are not located"):
        run(spec, tiny, folder, corpus_spec, tmp_path / "x", "synthetic_then_real", notes=synthetic(5))


def test_the_best_epoch_is_kept_and_patience_ends_training(tiny, corpus, specs, tmp_path, monkeypatch):
    import torch

    from mentionforge.recognition import training

    seen = []
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.9])
    spec, corpus_spec = specs(real={"epochs": 9, "learning_rate": 1e-3}, patience=2)
    recognize = training.Tagger.recognize

    def spy(tagger, documents, batch_size=64):
        seen.append({k: v.clone() for k, v in tagger.model.state_dict().items()})
        return recognize(tagger, documents, batch_size)

    monkeypatch.setattr(training.Tagger, "recognize", spy)
    monkeypatch.setattr(training, "strict_scores", lambda gold, found: (0.0, 0.0, next(scores)))
    history = run(spec, tiny, corpus(SPLITS), corpus_spec, tmp_path / "out")
    assert [r["kept"] for r in history] == ["0", "1", "0", "0"]
    final = seen[-1]  # predicting test, with the weights kept
    assert all(torch.equal(final[k], seen[1][k]) for k in final) and any(not torch.equal(final[k], seen[3][k]) for k in final)


def test_without_dev_the_last_epoch_is_kept(tiny, corpus, specs, tmp_path, capfd):
    spec, corpus_spec = specs()
    history = run(spec, tiny, corpus({k: v for k, v in SPLITS.items() if k != "dev"}), corpus_spec, tmp_path / "out")
    assert [(r["dev_f1"], r["kept"]) for r in history] == [("", "0"), ("", "1")]
    assert "no dev split" in capfd.readouterr().err


def test_learning_rate_falls_linearly_after_warm_up(tiny, corpus, specs, tmp_path, monkeypatch):
    import torch

    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a, **k: (rates.append(self.param_groups[0]["lr"]), step(self, *a, **k))[1])
    spec, corpus_spec = specs(real={"epochs": 5, "learning_rate": 1e-3}, warmup_ratio=0.2, patience=9)
    run(spec, tiny, corpus(SPLITS), corpus_spec, tmp_path / "out")
    # 8 sentences in batches of 4, 5 epochs: 10 steps, 2 of them warm up.
    assert rates == pytest.approx([1e-3 / 3, 2e-3 / 3] + [1e-3 * k / 8 for k in range(8, 0, -1)])


def test_windows_must_fit_the_model(tiny, corpus, specs, tmp_path):
    folder = corpus(SPLITS)
    for settings, message in (({"max_tokens": 63}, "at most 62 word pieces"), ({"max_tokens": 20, "stride": 20}, "stride")):
        spec, corpus_spec = specs(**settings)
        with pytest.raises(UserError, match=message):
            run(spec, tiny, folder, corpus_spec, tmp_path / "x")


def test_notes_stay_out_of_the_log(tiny, corpus, specs, synthetic, tmp_path, capfd):
    spec, corpus_spec = specs()
    run(spec, tiny, corpus(SPLITS), corpus_spec, tmp_path / "out", "synthetic_then_real", notes=synthetic(3))
    said = "".join(capfd.readouterr())
    assert "sentences" in said and not any(disease in said for disease in DISEASES)
