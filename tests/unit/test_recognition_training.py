"""Training: schedules, choice of the epoch, reproducibility, and that predictions never see gold."""

import csv
import json
import random
import sys
from pathlib import Path

import pytest

from killing import finish, kill_when
from mentionforge import tables, text
from mentionforge.errors import UserError

pytestmark = pytest.mark.slow  # all of them train

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


def run(spec, stamp, corpus, corpus_spec, out, schedule="real_only", seed=1, notes=(None, None), teacher=None):
    from mentionforge.recognition.training import train

    train(spec, stamp, corpus, corpus_spec, schedule, seed, out, *notes, teacher)
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
    from mentionforge.recognition.sentences import tokenized_document
    from mentionforge.recognition.tagger import Tagger

    spec, corpus_spec = specs()
    folder = corpus(SPLITS)
    run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    assert {p.suffix for p in (tmp_path / "out/model").iterdir()} == {".json", ".safetensors"}
    tagger = Tagger.load(tmp_path / "out/model")
    row = next(r for r in tables.read(tables.DOCUMENTS, folder / "documents.parquet").to_pylist() if r["split"] == "test")
    doc = tokenized_document(row["doc_id"], row["text"], row["sentences"])
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
    read = training.Tagger.read

    def spy(tagger, documents, batch_size=64):
        seen.append({k: v.clone() for k, v in tagger.model.state_dict().items()})
        return read(tagger, documents, batch_size)

    monkeypatch.setattr(training.Tagger, "read", spy)
    monkeypatch.setattr(training, "strict_scores", lambda gold, found: (0.0, 0.0, next(scores)))
    history = run(spec, tiny, corpus(SPLITS), corpus_spec, tmp_path / "out")
    assert [r["kept"] for r in history] == ["0", "1", "0", "0"]
    final = seen[-1]  # predicting test, with the weights kept
    (rows,) = (k for k in final if "word_embeddings" in k)
    assert (final[rows][None] == seen[1][rows][:, None]).all(-1).any(1).all()
    same = [k for k in final if "word_embeddings" not in k]  # while it trains, the model holds fewer of those
    assert len(same) == len(final) - 1 and all(torch.equal(final[k], seen[1][k]) for k in same) and any(not torch.equal(final[k], seen[3][k]) for k in same)


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


# ------------------------------------------------------------------------------------- schedules that ask the real-only model


def tagged(examples):
    return [list(zip(e.words, (t[:1] for t in e.tags), strict=True)) for e in examples]


def test_relabelled_and_masked_sentences():
    from mentionforge.recognition import sentences

    string = "He has gout and asthma today. Anemia was found. No pain."
    bounds = [{"start": a, "end": string.index(end) + len(end)} for a, end in ((0, "today."), (30, "found."), (48, "pain."))]
    doc = sentences.tokenized_document("n", string, bounds)
    located = {"n": [[(7, 11)]]}  # gout, word 2
    # The teacher's "has gout" shares a word with the located mention and loses to it; asthma (4) and Anemia (7) are added.
    examples, counts = sentences.training_examples([doc], located, "longest", more={"n": [(1, 3), (4, 5), (7, 8)]})
    assert [[w for w, t in e if t == "B"] for e in tagged(examples)] == [["gout", "asthma"], ["Anemia"], []]
    assert counts["relabelled"] == 2 and counts["kept"] == 1 and "masked" not in +counts
    examples, counts = sentences.training_examples([doc], located, "longest", doubtful={"n": {2, 4, 5, 7}})
    assert tagged(examples) == [[("He", "O"), ("has", "O"), ("gout", "B"), ("and", "O"), ("asthma", ""), ("today", ""), (".", "O")]]
    assert counts["masked"] == 2 and counts["masked_sentences"] == 2 and counts["sentences"] == 1


def test_words_near_likely_diseases():
    import numpy as np

    from mentionforge.recognition.schedules.masked_then_real import near_likely_mentions

    disease = np.array([0.0, 0.2, 0.0, 0.0, 0.0, 0.9])
    probabilities = np.stack([1 - disease, disease / 2, disease / 2], axis=1)
    assert (
        near_likely_mentions(probabilities, 0.1, 0) == {1, 5}
        and near_likely_mentions(probabilities, 0.1, 1) == {0, 1, 2, 4, 5}
        and near_likely_mentions(probabilities, 0.5, 0) == {5}
    )
    assert near_likely_mentions(probabilities[:0], 0.1, 2) == set()


def test_the_real_only_model_teaches(tiny, corpus, specs, synthetic, tmp_path, monkeypatch):
    """What reaches the training of each schedule, with a teacher whose findings are known."""
    import numpy as np

    from mentionforge.recognition.tagger import Tagger

    spec, corpus_spec = specs(mask={"threshold": 0.5, "margin": 0})
    folder, given = corpus(SPLITS), synthetic(3)
    run(spec, tiny, folder, corpus_spec, tmp_path / "real")

    def read(tagger, documents, label):  # takes the first word of each document for a disease
        found = {d.doc_id: np.tile(np.array([1.0, 0.0, 0.0], dtype=np.float32), (len(d.words), 1)) for d in documents}
        for probabilities in found.values():
            probabilities[0] = (0.0, 1.0, 0.0)
        return found

    seen = {}
    fit = __import__("mentionforge.recognition.training", fromlist=["fit"])
    original = fit.fit
    monkeypatch.setattr(fit, "fit", lambda tagger, phases, *rest: (seen.setdefault("phases", phases), monkeypatch.undo(), original(tagger, phases, *rest))[2])
    monkeypatch.setattr(Tagger, "read", read)
    run(spec, tiny, folder, corpus_spec, tmp_path / "relabelled", "relabelled_then_real", notes=given, teacher=tmp_path / "real/model")
    first, second = seen.pop("phases")
    assert (first.name, second.name) == ("synthetic", "real") and len(first.examples) == 3
    assert all(e.tags[0] == "B-Disease" and e.tags.count("B-Disease") == 2 for e in first.examples)
    inputs = tables.provenance(tmp_path / "relabelled/predictions.parquet")["inputs"]
    assert "teacher" in inputs

    monkeypatch.setattr(fit, "fit", lambda tagger, phases, *rest: (seen.setdefault("phases", phases), monkeypatch.undo(), original(tagger, phases, *rest))[2])
    monkeypatch.setattr(Tagger, "read", read)
    run(spec, tiny, folder, corpus_spec, tmp_path / "masked", "masked_then_real", notes=given, teacher=tmp_path / "real/model")
    first, _ = seen.pop("phases")
    assert all(e.tags[0] == "" and e.tags.count("B-Disease") == 1 and e.tags.count("") == 1 for e in first.examples)
    with pytest.raises(UserError, match="missing model"):
        run(spec, tiny, folder, corpus_spec, tmp_path / "x", "masked_then_real", notes=given)


def test_untaught_words_carry_no_loss(tiny):
    import torch

    from mentionforge.recognition import training
    from mentionforge.recognition.sentences import Example
    from mentionforge.recognition.tagger import Tagger

    torch.manual_seed(0)
    tagger = Tagger.load(tiny.parent, 40, 8)
    words = ["He", "has", "gout", "and", "asthma"]
    example = Example(words, ["O", "O", "B-Disease", "O", ""])
    windows, targets = training._window_targets(tagger, [example, Example(["No", "pain"], ["", ""])])
    assert len(windows) == 1 and int((targets[0] != training.IGNORED).sum()) == 4
    tagger.model.eval()
    with torch.no_grad():
        logits = torch.log_softmax(tagger.logits(windows)[0], dim=-1)
        expected = -torch.stack([logits[p, c] for p, c in zip(windows[0].positions, (0, 0, 1, 0), strict=False)])
        assert float(training._loss(tagger, windows, targets)) == pytest.approx(float(expected.mean()), rel=1e-5)
        # Class weights: a weighted mean, as given or by the frequencies (3 O, 1 B, no I).
        from mentionforge.recognition.kinds.tagger import TaggerRecognizer

        weights = training.class_weights(TaggerRecognizer(model="m", class_weights=(1, 3, 5)), targets)
        weighted = (expected * torch.tensor([1.0, 1, 3, 1])).sum() / 6
        assert float(training._loss(tagger, windows, targets, weights)) == pytest.approx(float(weighted), rel=1e-5)
    balanced = training.class_weights(TaggerRecognizer(model="m", class_weights="balanced"), targets)
    assert balanced.tolist() == pytest.approx([4 / 9, 4 / 3, 4 / 3])


def test_only_word_pieces_that_occur_are_trained(tiny, corpus, specs, tmp_path, monkeypatch):
    """The same training as of the whole vocabulary, whose other vectors without weight decay stay as they are too."""
    import contextlib

    import torch

    from mentionforge.recognition import training
    from mentionforge.recognition.tagger import Tagger

    spec, corpus_spec = specs(weight_decay=0.0, dtype="float32")
    folder = corpus(SPLITS)
    part = run(spec, tiny, folder, corpus_spec, tmp_path / "part")
    monkeypatch.setattr(training.Tagger, "with_vocabulary", lambda tagger, words: contextlib.nullcontext())
    whole = run(spec, tiny, folder, corpus_spec, tmp_path / "whole")
    monkeypatch.undo()
    untrained, first, second = (Tagger.load(f, 40, 8).model.state_dict() for f in (tiny.parent, tmp_path / "part/model", tmp_path / "whole/model"))
    assert all(torch.allclose(first[k], second[k], atol=1e-6) for k in second)
    assert [float(r["dev_loss"]) for r in part] == pytest.approx([float(r["dev_loss"]) for r in whole], abs=1e-5)
    (name,) = (k for k in first if "word_embeddings" in k)
    moved = (first[name] != untrained[name]).any(dim=1)
    tagger = Tagger.load(tiny.parent, 40, 8)
    pieces = tagger.windows.vocabulary(word for frame, disease in SPLITS["train"] for word in frame.format(disease).replace(".", " .").split())
    assert {i for i, m in enumerate(moved.tolist()) if m} == pieces < set(range(len(moved)))
    with tagger.with_vocabulary(["gout"]), pytest.raises(IndexError):
        tagger.logits(tagger.windows.cut([["asthma"]]))
    assert tagger.logits(tagger.windows.cut([["asthma"]])).shape[-1] == 3


def test_a_checkpoint_of_another_shape_leaves_the_model_alone(tiny, tmp_path, capfd):
    import torch

    from mentionforge.recognition.checkpoints import Checkpoints, TrainingProgress, copy_weights
    from mentionforge.recognition.tagger import Tagger

    tagger, order = Tagger.load(tiny.parent, 40, 8), torch.Generator()
    checkpoints = Checkpoints(tmp_path / "checkpoints", "job")
    checkpoints.save(TrainingProgress(), tagger.model, torch.optim.AdamW(tagger.model.parameters()), order)
    with tagger.with_vocabulary(["gout"]):
        for parameter in tagger.model.parameters():
            parameter.data.add_(1.0)
        before = copy_weights(tagger.model)
        assert checkpoints.load(tagger.model, order) is None and "another shape" in capfd.readouterr().err
        assert all(torch.equal(tensor, before[name]) for name, tensor in copy_weights(tagger.model).items())


def test_mixed_draws_synthetic_sentences_at_the_ratio(tiny, corpus, specs, synthetic, tmp_path):
    spec, corpus_spec = specs(mixed={"epochs": 3, "learning_rate": 1e-3, "ratio": 0.5})
    folder = corpus(SPLITS)
    history = run(spec, tiny, folder, corpus_spec, tmp_path / "out", "mixed", notes=synthetic(3))
    # 8 real and 4 synthetic sentences (of 3, so one twice) in batches of 4.
    assert [(r["phase"], r["steps"]) for r in history] == [("mixed", "3")] * 3
    none = run(spec, tiny, folder, corpus_spec, tmp_path / "none", "mixed", notes=synthetic(0))
    assert [r["phase"] for r in none] == ["real", "real"]


def test_drawing_is_even():
    import torch

    from mentionforge.recognition.training import draw_positions

    order = torch.Generator().manual_seed(1)
    for count, wanted in ((3, 7), (5, 5), (7, 3), (4, 0)):
        drawn = draw_positions(count, wanted, order)
        times = [drawn.count(i) for i in range(count)]
        assert len(drawn) == wanted and set(drawn) <= set(range(count)) and max(times) - min(times) <= 1
    assert draw_positions(100, 10, order) != draw_positions(100, 10, order)


def test_early_stopping_by_loss_or_not_at_all(tiny, corpus, specs, tmp_path, monkeypatch):
    from mentionforge.recognition import training

    folder = corpus(SPLITS)
    for setting, kept in (("dev_loss", "0100"), ("dev_f1", "100"), ("none", "0000001")):
        losses, f1s = iter([0.5, 0.3, 0.3, 0.4, 0.2, 0.1, 0.0]), iter([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
        monkeypatch.setattr(training, "dev_scores", lambda tagger, dev, f=f1s, x=losses: (0.0, 0.0, next(f), next(x)))
        spec, corpus_spec = specs(real={"epochs": 7, "learning_rate": 1e-3}, patience=2, early_stopping=setting)
        history = run(spec, tiny, folder, corpus_spec, tmp_path / setting)
        assert "".join(r["kept"] for r in history) == kept, setting


def test_dev_loss_is_the_mean_over_words(tiny, corpus, specs, tmp_path):
    import numpy as np

    from mentionforge.gold import TAGS
    from mentionforge.recognition.sentences import tokenized_document
    from mentionforge.recognition.tagger import Tagger

    spec, corpus_spec = specs(real={"epochs": 1, "learning_rate": 1e-3})
    folder = corpus(SPLITS)
    history = run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    tagger = Tagger.load(tmp_path / "out/model")
    string, bounds, spans = note(SPLITS["dev"])
    doc = tokenized_document("d", string, bounds)
    chances = tagger.read([doc])["d"]
    wanted = []
    for start, end in doc.words:
        inside = next((s for s in spans if s[0] <= start and end <= s[1]), None)
        wanted.append(0 if inside is None else 1 if start == inside[0] else 2)
    assert float(history[0]["dev_loss"]) == pytest.approx(-np.log([chances[i, c] for i, c in enumerate(wanted)]).mean(), abs=1e-4) and len(TAGS) == 3


# ------------------------------------------------------------------------------------------------------------- resuming


class Killed(BaseException):
    """Ends a training as abruptly as can be within a process."""


@pytest.mark.parametrize("schedule", ["real_only", "synthetic_then_real", "mixed"])
def test_a_killed_training_ends_with_the_same_result(schedule, tiny, corpus, specs, synthetic, tmp_path, monkeypatch):
    import torch

    settings = {"real": {"epochs": 3, "learning_rate": 1e-3}, "synthetic": {"epochs": 2, "learning_rate": 1e-3}, "mixed": {"epochs": 3, "learning_rate": 1e-3}}
    spec, corpus_spec = specs(**settings, warmup_ratio=0.2)
    folder, given = corpus(SPLITS), (None, None) if schedule == "real_only" else synthetic(3)
    run(spec, tiny, folder, corpus_spec, tmp_path / "whole", schedule, notes=given)
    assert not (tmp_path / "whole/checkpoints").exists()
    step = torch.optim.AdamW.step
    left = [0]

    def counted(self, *rest, **more):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return step(self, *rest, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    kills = 0
    for left[0] in (2, 4, 3, 5, 0):  # each attempt dies at one of its next steps, within an epoch or just after one
        try:
            run(spec, tiny, folder, corpus_spec, tmp_path / "killed", schedule, notes=given)
            break
        except Killed:
            kills += 1
            assert {p.suffix for p in (tmp_path / "killed/checkpoints").rglob("*") if p.is_file()} <= {".safetensors", ".json", ""}
    assert kills >= 2 and contents(tmp_path / "whole") == contents(tmp_path / "killed")


def test_kill_9_changes_nothing(tiny, corpus, specs, tmp_path):
    """The command itself, killed in an early epoch and again at a moment that falls anywhere, also into the writing of a checkpoint."""
    spec, corpus_spec = specs(real={"epochs": 30, "learning_rate": 1e-3}, patience=30)
    folder = corpus(SPLITS)

    def line(name):
        given = {"spec": spec, "model": tiny, "corpus": folder, "corpus-spec": corpus_spec, "schedule": "real_only", "seed": 3, "out": tmp_path / name}
        return [sys.executable, "-m", "mentionforge.cli", "recognition", "train", *(str(part) for k, v in given.items() for part in (f"--{k}", v))]

    def epochs():
        return max((int(p.name.split("-")[2]) for p in (tmp_path / "killed/checkpoints").glob("at-*")), default=0)

    finish(line("whole"))
    assert kill_when(line("killed"), lambda: epochs() >= 2) and 2 <= epochs() < 30
    first = epochs()
    writing = (tmp_path / "killed/checkpoints").glob
    assert kill_when(line("killed"), lambda: epochs() >= 20 or (epochs() > first + 3 and any(writing(".*.tmp"))))
    assert not (tmp_path / "killed/model").exists()
    assert "going on after epoch" in finish(line("killed"))
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed") and not (tmp_path / "killed/checkpoints").exists()


def test_checkpoints_of_another_job_or_torn_ones_are_not_used(tiny, corpus, specs, tmp_path, capfd, monkeypatch):
    from mentionforge.recognition import checkpoints

    folder = corpus(SPLITS)
    remove = checkpoints.Checkpoints.remove
    monkeypatch.setattr(checkpoints.Checkpoints, "remove", lambda self: None)
    spec, corpus_spec = specs()
    run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    first = contents(tmp_path / "out")
    last = next((tmp_path / "out/checkpoints").glob("at-*"))
    (last / "model.safetensors").write_bytes(b"torn")
    capfd.readouterr()
    run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    assert "unreadable" in capfd.readouterr().err and contents(tmp_path / "out") == first
    run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    assert "going on after epoch 1" in capfd.readouterr().err and contents(tmp_path / "out") == first
    spec, _ = specs(weight_decay=0.02)
    monkeypatch.setattr(checkpoints.Checkpoints, "remove", remove)
    run(spec, tiny, folder, corpus_spec, tmp_path / "out")
    assert "of another job" in capfd.readouterr().err and not (tmp_path / "out/checkpoints").exists()
