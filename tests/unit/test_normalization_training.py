"""Self-alignment and reranking: what is trained on, that it learns, that a killed job goes on as if it had not been killed."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.normalization.embed import embed_corpus
from mentionforge.normalization.linkers import Alignment, ExactLinker, RerankLinker, SelfAlignedLinker
from mentionforge.normalization.linkers.rerank import reranking
from mentionforge.normalization.linkers.self_aligned import training as alignment

pytestmark = pytest.mark.slow  # all of them train

STRANGE = ["zorvex", "quillam", "drophane", "mistulon", "carvid", "belloxin", "trumeric", "halvost", "nivorel", "pardunk", "wexalin", "gromith"]


def spec(folder: Path, entry) -> Path:
    path = folder / f"linker.{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"kind": "linkers", "name": "x", "part": None, "stage_version": 1, "settings": entry.model_dump(mode="json")}))
    return path


@pytest.fixture
def world(tmp_path):
    """Twelve concepts whose two names have nothing in common; train names them by a third word, dev and test by it and more."""
    names = [(f"C{i:02d}", name) for i, word in enumerate(STRANGE) for name in (f"{word} disease", f"{STRANGE[(i + 5) % 12]}osis of type {i}")]
    rows = [{"cui": c, "name": n, "source": "S", "term_type": "PT", "preferred": n.endswith("disease")} for c, n in names]
    tables.write(tables.NAMES, tmp_path / "names.parquet", rows)
    tables.write(tables.XREFS, tmp_path / "xrefs.parquet", [{"source": "MSH", "code": f"D{i}", "cui": f"C{i:02d}", "via": "x"} for i in range(8)])
    concepts = [
        {"cui": f"C{i:02d}", "preferred_name": f"{w} disease", "definition": f"A disease of {w}." if i % 2 else None, "semantic_types": []}
        for i, w in enumerate(STRANGE)
    ]
    tables.write(tables.CONCEPTS, tmp_path / "concepts.parquet", concepts)
    mentions, documents = [], []
    for split, form in (("train", "{} blorp"), ("dev", "severe {} blorp"), ("test", "mild {} blorp")):
        for i in range(12):
            surface = form.format(STRANGE[(i + 3) % 12])
            text = f"A patient with {surface} was seen."
            documents.append({"doc_id": f"{split}{i}", "split": split, "text": text, "sentences": [{"start": 0, "end": len(text)}]})
            row = {
                "doc_id": f"{split}{i}", "mention_id": f"{split}{i}:0", "split": split, "spans": [{"start": 15, "end": 15 + len(surface)}], "surface": surface,
                "expanded": None, "entity_type": "D", "concept_ids": [], "cuis": [f"C{i:02d}"], "concept_cuis": [], "composite": False, "ood_bucket": "seen_concept",
            }  # fmt: skip
            mentions.append({c.name: row[c.name] for c in tables.MENTIONS.columns})
    tables.write(tables.MENTIONS, tmp_path / "mentions.parquet", mentions)
    tables.write(tables.DOCUMENTS, tmp_path / "documents.parquet", documents)
    return tmp_path


def linker(**settings) -> SelfAlignedLinker:
    train = {"pairs": 12, "learning_rate": 3e-4, "mentions": 0.5, "neighbours": 1, "patience": 50, **settings}
    return SelfAlignedLinker(kind="self_aligned", model="minilm", pooling="mean", train=Alignment(**train))


def test_batches_hold_pairs_of_one_concept(world):
    material = alignment.load_training_data(linker(), world, world / "mentions.parquet")
    cuis = list(material.names)
    neighbours = np.array([[(i + 1) % 12, (i + 2) % 12] for i in range(12)])
    texts, labels = alignment.draw_batch(material, cuis, neighbours, Alignment(pairs=40, neighbours=1, mentions=0.5), np.random.default_rng(0))
    surfaces = {c: {s for s, cui in material.mentions if cui == c} for c in cuis}
    assert len(texts) == len(labels) >= 80
    assert all(t in {*material.names[cuis[i]], *surfaces[cuis[i]]} for t, i in zip(texts, labels, strict=True))
    assert {t for t in texts if t.endswith("blorp")} and not {t for t in texts if "severe" in t or "mild" in t}, "only the training split"
    assert all(labels[i] == labels[i + 1] for i in range(0, len(labels), 2))


def test_material_follows_the_settings(world):
    coded = alignment.load_training_data(linker(xrefs=("MSH",)), world, world / "mentions.parquet")
    assert list(coded.names) == [f"C{i:02d}" for i in range(8)] and len(coded.mentions) == 8 and len(coded.dev) == 12
    synthetic = world / "synthetic"
    found = [("n0", "C11", "a new name"), ("n1", "C99", "nowhere")]
    rows = [{"note_id": n, "start": 0, "end": 1, "cui": c, "surface": s, "match": "exact", "score": 1.0} for n, c, s in found]
    tables.write(tables.SYNTHETIC_MENTIONS, synthetic / "mentions.parquet", rows)
    mentions = [m for m in tables.read(tables.MENTIONS, world / "mentions.parquet").to_pylist() if m["mention_id"] != "train11:0"]
    tables.write(tables.MENTIONS, world / "mentions.parquet", mentions)
    augmented = alignment.load_training_data(linker(synthetic="g"), world, world / "mentions.parquet", synthetic)
    assert "a new name" in augmented.names["C11"] and "C99" not in augmented.names
    with pytest.raises(UserError, match="nothing to align"):
        alignment.load_training_data(linker(xrefs=("OMIM",)), world, world / "mentions.parquet")


def test_alignment_learns_and_goes_on_after_a_kill(world, minilm, monkeypatch):
    """Names that have nothing in common come together; a run that is killed between two checkpoints ends with the same bytes."""
    path = spec(world, linker(steps=24, eval_steps=8))
    without_dev(world)
    alignment.align(path, minilm, world, world / "mentions.parquet", world / "whole")
    stamp = json.loads((world / "whole" / "fetched.json").read_text())
    history = stamp["training"]["history"]
    assert [h["step"] for h in history] == [0, 8, 16, 24]
    assert history[-1]["loss"] < history[1]["loss"]
    material = alignment.load_training_data(linker(), world, world / "mentions.parquet")

    def together(weights) -> float:
        from mentionforge.encoders import Encoder

        encoder = Encoder(weights, "mean", 25)
        vectors = encoder.encode(encoder.strings([n for names in material.names.values() for n in names])).dense()
        similar = vectors[::2] @ vectors[1::2].T
        return float(np.mean(similar.argmax(1) == np.arange(12)))

    assert together(world / "whole" / "fetched.json") > together(minilm) + 0.3

    assert stamp["training"]["best_step"] == 24

    calls = []
    measure = alignment._dev_accuracy

    def dies(encoder, given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(encoder, given)

    monkeypatch.setattr(alignment, "_dev_accuracy", dies)
    with pytest.raises(KeyboardInterrupt):
        alignment.align(path, minilm, world, world / "mentions.parquet", world / "killed")
    assert not (world / "killed" / "fetched.json").exists() and (world / "killed" / "checkpoint" / "state.json").exists()
    monkeypatch.setattr(alignment, "_dev_accuracy", measure)
    alignment.align(path, minilm, world, world / "mentions.parquet", world / "killed")
    assert (world / "killed" / "weights" / "model.safetensors").read_bytes() == (world / "whole" / "weights" / "model.safetensors").read_bytes()
    assert json.loads((world / "killed" / "fetched.json").read_text())["training"]["history"] == history
    assert not list((world / "whole").rglob("*.bin")) and not (world / "whole" / "checkpoint").exists()


def killed_at(monkeypatch, name, nth, *arguments, **more):
    """An alignment that is killed when it calls one of its functions for the nth time."""
    calls, function = [], getattr(alignment, name)

    def dies(*given):
        calls.append(1)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return function(*given)

    with monkeypatch.context() as patch:
        patch.setattr(alignment, name, dies)
        with pytest.raises(KeyboardInterrupt):
            alignment.align(*arguments, **more)


def without_dev(world) -> None:
    """Then the last weights are kept, whatever the measurements say."""
    mentions = [m for m in tables.read(tables.MENTIONS, world / "mentions.parquet").to_pylist() if m["split"] != "dev"]
    tables.write(tables.MENTIONS, world / "mentions.parquet", mentions)


def trained(out) -> tuple[bytes, list]:
    stamp = json.loads((out / "fetched.json").read_text())
    return (out / "weights" / "model.safetensors").read_bytes(), stamp["training"]["history"]


@pytest.mark.parametrize("what", ["names", "xrefs", "synthetic"])
def test_a_killed_alignment_does_not_go_on_with_another_knowledge_base(world, minilm, monkeypatch, capfd, what):
    """Whatever `gather` reads is part of the key: with other names, codes or synthetic mentions the training starts anew."""
    without_dev(world)
    path = spec(world, linker(steps=4, eval_steps=2, synthetic="g", xrefs=("MSH",)))
    for folder in (world / "synthetic", world / "other"):
        row = {"note_id": "n", "start": 0, "end": 1, "cui": "C01", "surface": "a name", "match": "exact", "score": 1.0}
        tables.write(tables.SYNTHETIC_MENTIONS, folder / "mentions.parquet", [row])
    arguments = (path, minilm, world, world / "mentions.parquet")
    killed_at(monkeypatch, "_dev_accuracy", 3, *arguments, world / "killed", synthetic=world / "synthetic")
    if what == "names":
        rows = tables.read(tables.NAMES, world / "names.parquet").to_pylist()
        tables.write(tables.NAMES, world / "names.parquet", [{**row, "name": f"other {row['name']}"} for row in rows])
    elif what == "xrefs":
        tables.write(tables.XREFS, world / "xrefs.parquet", [{"source": "MSH", "code": f"D{i}", "cui": f"C{i:02d}", "via": "x"} for i in range(4, 12)])
    else:
        rows = tables.read(tables.SYNTHETIC_MENTIONS, world / "synthetic" / "mentions.parquet").to_pylist()
        tables.write(tables.SYNTHETIC_MENTIONS, world / "synthetic" / "mentions.parquet", [{**row, "surface": "another name"} for row in rows])
    alignment.align(*arguments, world / "fresh", world / "synthetic")
    capfd.readouterr()
    alignment.align(*arguments, world / "killed", world / "synthetic")
    assert "of another job" in capfd.readouterr().err
    assert trained(world / "killed") == trained(world / "fresh")


def test_an_alignment_that_is_killed_at_its_end_or_whose_checkpoint_is_torn_ends_the_same(world, minilm, monkeypatch, capfd):
    """Killed when the weights are in their place and the stamp is not, and with a checkpoint that a kill cut off: both end with the same bytes."""
    without_dev(world)
    path = spec(world, linker(steps=4, eval_steps=2))
    arguments = (path, minilm, world, world / "mentions.parquet")
    alignment.align(*arguments, world / "whole")
    assert {p.name for p in (world / "whole").iterdir()} == {"fetched.json", "weights"}
    for name, nth in (("_write_text", 1), ("_save_checkpoint", 2), ("_save_weights", 2)):
        out = world / name
        killed_at(monkeypatch, name, nth, *arguments, out)
        if name == "_save_checkpoint":
            state = out / "checkpoint" / "state.safetensors"
            state.write_bytes(state.read_bytes()[:1000])
        alignment.align(*arguments, out)
        assert trained(out) == trained(world / "whole"), name
    assert "unreadable" in capfd.readouterr().err


def test_a_checkpoint_holds_the_random_state_of_the_gpu(world, minilm, monkeypatch):
    """On a GPU dropout draws from the GPU's stream: what follows a checkpoint is the same whether the job was killed there or not."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    path = spec(world, linker(steps=6, eval_steps=3))
    arguments = (path, minilm, world, world / "mentions.parquet")
    drawn = []
    checkpoint = alignment._save_checkpoint

    def seen(folder, *given):
        checkpoint(folder, *given)
        drawn.append(torch.cuda.get_rng_state())

    monkeypatch.setattr(alignment, "_save_checkpoint", seen)
    alignment.align(*arguments, world / "whole")
    killed_at(monkeypatch, "_dev_accuracy", 3, *arguments, world / "killed")
    torch.cuda.manual_seed(99)
    alignment.align(*arguments, world / "killed")
    assert len(drawn) == 4 and torch.equal(drawn[1], drawn[3]) and torch.equal(drawn[0], drawn[2])


def test_reranking_orders_the_first_concepts_alone(world, minilm):
    """The cross-encoder moves the first three; the rest keep their places, scores never rise, and dev chooses the weight."""
    embed_corpus(spec(world, ExactLinker(kind="exact")), None, world, world / "embedded")
    entries = tables.read(tables.EMBEDDED, world / "embedded" / "entries.parquet").to_pylist()
    cuis = [f"C{i:02d}" for i in range(12)]
    rng = np.random.default_rng(1)
    found, lists = [], {"predictions": [], "calibration": []}
    for e in entries:
        order = list(rng.permutation(cuis))[:6]
        if e["cuis"][0] not in order:
            order[2] = e["cuis"][0]
        found += [{"query": e["vector"], "cui": c, "rank": r + 1, "score": 1 - r / 10, "votes": 1, "entry": c} for r, c in enumerate(order)]
        if e["split"] != "train":
            rows = [{"mention_id": e["entry_id"], "rank": r + 1, "cui": c, "score": 1 - r / 10, "entry": c} for r, c in enumerate(order)]
            lists["predictions" if e["split"] == "test" else "calibration"] += rows
    tables.write(tables.RETRIEVED, world / "found.parquet", found)
    for name, rows in lists.items():
        tables.write(tables.LINKED, world / f"{name}.parquet", rows)
    path = spec(world, RerankLinker(kind="rerank", linker="first", model="minilm", top=3, epochs=2, negatives=2))
    reranking.train(path, minilm, world, world, world / "embedded" / "entries.parquet", world / "found.parquet", world / "cross")
    stamp = json.loads((world / "cross" / "fetched.json").read_text())
    assert stamp["training"]["mentions"] == 12 and (world / "cross" / "weights" / "model.safetensors").is_file()
    out, other = world / "out.parquet", world / "other.parquet"
    reranking.rerank(path, world / "cross" / "fetched.json", world, world, world / "predictions.parquet", world / "calibration.parquet", out, other)
    for name, path in (("predictions", out), ("calibration", other)):
        before, after = (
            {m: [r for r in rows if r["mention_id"] == m] for m in {r["mention_id"] for r in rows}}
            for rows in (lists[name], tables.read(tables.LINKED, path).to_pylist())
        )
        assert set(before) == set(after) and len(after) == 12
        for mention, ranking in after.items():
            assert {r["cui"] for r in ranking[:3]} == {r["cui"] for r in before[mention][:3]}
            assert [r["cui"] for r in ranking[3:]] == [r["cui"] for r in before[mention][3:]]
            scores = [r["score"] for r in ranking]
            assert scores == sorted(scores, reverse=True)
    assert sum(tables.provenance(out)["weights"]) == pytest.approx(1)


def test_reordered_by_hand():
    def rows(scores):
        return [{"mention_id": "m", "rank": i + 1, "cui": f"C{i}", "score": s, "entry": f"C{i}"} for i, s in enumerate(scores)]

    table = tables.build(tables.LINKED, rows([0.9, 0.8, 0.7, 0.6]))
    first, cross = (tables.build(tables.LINKED, rows(s)) for s in ([0.9, 0.8], [0.1, 0.9]))
    found = reranking.reorder_ranking(table, first, cross, np.array([0.5, 0.5])).to_pylist()
    assert [(r["rank"], r["cui"]) for r in found] == [(1, "C1"), (2, "C0"), (3, "C2"), (4, "C3")]
    assert [r["score"] for r in found] == pytest.approx([0.85, 0.5, 0.35, 0.3])


def test_dev_says_when_to_stop(world, minilm, monkeypatch):
    """Measurements get worse after the second: its weights are kept, and training ends after the patience."""
    scores = iter([0.2, 0.6, 0.5, 0.4, 0.9])
    monkeypatch.setattr(alignment, "_dev_accuracy", lambda encoder, material: next(scores))
    alignment.align(spec(world, linker(steps=20, pairs=2, eval_steps=1, patience=2)), minilm, world, world / "mentions.parquet", world / "out")
    training = json.loads((world / "out" / "fetched.json").read_text())["training"]
    assert training["best_step"] == 1 and [h["dev_acc@1"] for h in training["history"]] == [0.2, 0.6, 0.5, 0.4]


def test_dev_is_measured_as_the_linker_ranks(world, minilm):
    """Of equal strings, the concept with the most entries counts, then the lowest CUI; not whichever the search meets first."""
    from collections import Counter

    from mentionforge.encoders import Encoder

    material = alignment.load_training_data(linker(), world, world / "mentions.parquet")
    shared = [("zorvex blorp", frozenset({"C03"})), ("zorvex blorp", frozenset({"C05"})), ("quillam blorp", frozenset({"C01", "C02"}))]
    material = material._replace(train=sorted([*material.train, *shared], key=lambda m: (m[0], sorted(m[1]))))
    material = material._replace(dev=[*material.dev, ("zorvex blorp", frozenset({"C03"})), ("quillam blorp", frozenset({"C02"}))])
    encoder = Encoder(minilm, "mean", 25)
    entries = [*material.train, *((name, frozenset([cui])) for cui, names in material.names.items() for name in names)]
    vectors = encoder.encode(encoder.strings([text for text, _ in entries]), label=None).dense().astype(float)
    right = []
    for text, gold in material.dev:
        scores = vectors @ encoder.encode(encoder.strings([text]), label=None).dense()[0].astype(float)
        votes = Counter(cui for (_, cuis), score in zip(entries, scores, strict=True) if score > scores.max() - 1e-6 for cui in cuis)
        right.append(min(votes, key=lambda cui: (-votes[cui], cui)) in gold)
    assert alignment._dev_accuracy(encoder, material) == pytest.approx(np.mean(right)) and 0.1 < np.mean(right) < 1
    assert right[-2:] == [True, False], "the lowest CUI of those that share the string"
    assert alignment._dev_accuracy(encoder, material._replace(dev=[])) == 0
