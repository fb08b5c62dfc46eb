"""Embedding of sources and linking, against brute force over all entries."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.corpora.commands import app as corpora_app
from mentionforge.errors import UserError
from mentionforge.kb.commands import app as kb_app
from mentionforge.normalization.commands import app
from mentionforge.normalization.linkers import EncoderLinker, SelfAlignedLinker
from mentionforge.normalization.linkers.encoder import VectorRetriever
from mentionforge.normalization.linking import IndexFiles, cells_of, link, search_kb
from mentionforge.normalization.search import IndexedEntries
from mentionforge.normalization.search import rank_concepts as rank_all
from mentionforge.normalization.settings import Index

RNG = np.random.default_rng(5)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def spec(folder: Path, kind: str, entry) -> Path:
    path = folder / f"{kind}.{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"kind": kind, "name": "x", "part": None, "stage_version": 1, "settings": entry.model_dump(mode="json")}))
    return path


def index_of(folder: Path, *sources: str) -> Path:
    return spec(folder, "indexes", Index(sources=sources))


def linker_of(folder: Path, **settings) -> Path:
    return spec(folder, "linkers", EncoderLinker(kind="mention", model="minilm", pooling="mean", **settings))


def entries(folder: Path, name: str, vectors: np.ndarray, cuis, rows=None, splits=None, notes=None) -> Path:
    """A source as the embed commands write it."""
    place = folder / name
    place.mkdir()
    rows = range(len(cuis)) if rows is None else rows
    table = [
        {
            "entry_id": f"{name}{i:05d}",
            "text": "x",
            "vector": int(row),
            "cuis": sorted(c),
            "split": splits[i] if splits else None,
            "note_id": notes[i] if notes else None,
        }
        for i, (row, c) in enumerate(zip(rows, cuis, strict=True))
    ]
    np.save(place / "vectors.npy", vectors.astype(np.float32))
    tables.write(tables.EMBEDDED, place / "entries.parquet", table)
    return place / "entries.parquet"


def brute(queries: np.ndarray, vectors: np.ndarray, cuis, metric: str = "cosine", top: int = 100, decimals: int = 6) -> list[list[tuple[str, float]]]:
    """Ranked (cui, score) of each query: every entry is scored one by one, in float64; ties by number of entries, then CUI."""
    ranked = []
    for q in queries.astype(np.float64):
        scores: dict[str, list[float]] = {}
        for v, concepts in zip(vectors.astype(np.float64), cuis, strict=True):
            score = round(float(-((q - v) ** 2).sum() if metric == "l2" else q @ v), decimals)
            for cui in concepts:
                scores.setdefault(cui, []).append(score)
        best = sorted(scores, key=lambda cui: (-max(scores[cui]), -scores[cui].count(max(scores[cui])), cui))
        ranked.append([(cui, max(scores[cui])) for cui in best[:top]])
    return ranked


def source(vectors: np.ndarray, concepts) -> IndexedEntries:
    """One entry per vector, of one or several concepts."""
    pairs = np.array([(row, c) for row, cs in enumerate(concepts) for c in np.atleast_1d(cs)])
    return IndexedEntries(vectors, pairs[:, 0], pairs[:, 1], np.ones(len(pairs), np.int64), pairs[:, 0])


def rank(queries, sources, metric):
    return rank_all(queries, sources, VectorRetriever(metric))


def no_tables(folder: Path) -> list[Path]:
    """Names and codes that an unrestricted index does not look at."""
    paths = [folder / "no_names.parquet", folder / "no_xrefs.parquet"]
    tables.write(tables.NAMES, paths[0], [])
    tables.write(tables.XREFS, paths[1], [])
    return paths


def linked(folder: Path, linker: Path, index: Path, corpus: Path, out: Path, kb: Path | None = None, **more) -> None:
    """Both steps of a cell: the search of the names, where there are any, and linking."""
    found = None
    if kb:
        found = folder / f"{out.stem}.found.parquet"
        search_kb(linker, index, corpus, kb, *no_tables(folder), found)
    link(linker, corpus, [IndexFiles(index, out, folder / f"{out.stem}.calibration.parquet", found)], kb=kb, **more)


def read(path: Path) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for row in tables.read(tables.LINKED, path).to_pylist():
        found.setdefault(row["mention_id"], []).append((row["cui"], row["score"]))
        assert row["rank"] == len(found[row["mention_id"]])
    return found


def grid(n: int, dimensions: int = 6) -> np.ndarray:
    """Vectors of small halves: products are exact in float32, so that ties are ties, and there are many."""
    return (RNG.integers(-2, 3, (n, dimensions)) / 2).astype(np.float32)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_equals_brute_force_with_many_ties(metric):
    vectors, queries = grid(900), grid(40)
    concepts = [sorted(set(RNG.integers(0, 300, RNG.integers(1, 4)))) for _ in vectors]
    half = len(vectors) // 2
    ranking = rank(queries, [source(vectors[:half], concepts[:half]), source(vectors[half:], concepts[half:])], metric)
    expected = brute(queries, vectors, [[f"{c:04d}" for c in cs] for cs in concepts], metric)
    for q in range(len(queries)):
        mine = ranking.query == q
        assert ranking.rank[mine].tolist() == list(range(1, 101))
        assert [f"{c:04d}" for c in ranking.concept[mine]] == [c for c, _ in expected[q]]
        assert ranking.score[mine].tolist() == [s for _, s in expected[q]]


def test_cosine_equals_brute_force():
    vectors, queries = unit(RNG.standard_normal((3000, 32))), unit(RNG.standard_normal((50, 32)))
    concepts = RNG.integers(0, 1200, 3000)
    ranking = rank(queries, [source(vectors, concepts)], "cosine")
    expected = brute(queries, vectors, [[f"{c:04d}"] for c in concepts], decimals=9)
    for q in range(len(queries)):
        mine = ranking.query == q
        np.testing.assert_allclose(ranking.score[mine], [s for _, s in expected[q]], atol=2e-6)
        assert f"{ranking.concept[mine][0]:04d}" == expected[q][0][0]


def test_a_concept_with_thousands_of_names_does_not_crowd_out_others():
    """All 5,000 nearest entries are one concept; the other 120 are still found."""
    query = np.zeros((1, 4), np.float32)
    query[0, 0] = 1
    near = unit(query + 0.01 * RNG.standard_normal((5000, 4)))
    far = unit(RNG.standard_normal((120, 4)) - [2, 0, 0, 0])
    vectors = np.concatenate([near, far])
    concept = np.concatenate([np.zeros(5000, np.int64), np.arange(1, 121)])
    ranking = rank(query, [source(vectors, concept)], "cosine")
    assert ranking.rank.tolist() == list(range(1, 101)) and ranking.concept[0] == 0 and len(set(ranking.concept)) == 100
    best = 1 + np.argsort(-(far @ query[0]), kind="stable")[:99]
    assert ranking.concept[1:].tolist() == best.tolist()


def test_ties_at_the_cut_are_broken_by_cui():
    """3,000 entries at the very same similarity: the 100 lowest concepts win, wherever they stand."""
    vectors = np.tile(np.array([[1, 0]], np.float32), (3000, 1))
    concept = RNG.permutation(3000)
    ranking = rank(vectors[:1], [source(vectors, concept)], "cosine")
    assert ranking.concept.tolist() == list(range(100))
    # One concept gets a second entry, of another source, at the same similarity: it comes first, whatever its number.
    more = rank(vectors[:1], [source(vectors, concept), source(vectors[:1], [2500])], "cosine")
    assert more.concept.tolist() == [2500, *range(99)]


def cell(tmp_path: Path, shared: bool = False):
    """A corpus of 60 train and 250 test mentions, half of the tests of a concept that train lacks; a KB; synthetic mentions."""
    vectors = grid(310, 8)
    rows = RNG.integers(0, 40, 310) if shared else np.arange(310)
    splits = ["train"] * 60 + ["test"] * 250
    cuis = [[f"C{RNG.integers(0, 30):03d}"] for _ in range(60)] + [[f"C{RNG.integers(0, 60):03d}"] for _ in range(250)]
    corpus = entries(tmp_path, "m", vectors, cuis, rows, splits)
    kb_vectors, kb_cuis = grid(500, 8), [sorted({f"C{c:03d}" for c in RNG.integers(0, 200, RNG.integers(1, 3))}) for _ in range(500)]
    kb = entries(tmp_path, "k", kb_vectors, kb_cuis)
    syn_vectors, syn_cuis, notes = grid(80, 8), [[f"C{c:03d}"] for c in RNG.integers(0, 90, 80)], [f"n{i // 2}" for i in range(80)]
    synthetic = entries(tmp_path, "s", syn_vectors, syn_cuis, notes=notes)
    tables.write(tables.CHOSEN, tmp_path / "chosen.parquet", [{"note_id": f"n{i}", "cui": "C"} for i in range(0, 40, 3)])
    chosen = [i for i in range(80) if (i // 2) % 3 == 0]
    return vectors[rows], cuis, corpus, (kb, kb_vectors, kb_cuis), (synthetic, syn_vectors[chosen], [syn_cuis[i] for i in chosen])


def test_indexes_linked_in_one_call_are_the_same_as_each_alone(tmp_path):
    """Entries of the other indexes change neither scores nor the order of equal ones."""
    _, _, corpus, (kb, *_), (synthetic, *_) = cell(tmp_path, shared=True)
    linker, more = linker_of(tmp_path), {"synthetic": synthetic, "chosen": tmp_path / "chosen.parquet"}
    found, cells = tmp_path / "found.parquet", []
    for sources in (("kb",), ("train",), ("train", "kb")):
        index = index_of(tmp_path, *sources).rename(tmp_path / f"{'+'.join(sources)}.json")
        linked(tmp_path, linker, index, corpus, tmp_path / f"alone.{index.stem}.parquet", kb=kb if "kb" in sources else None, **more)
        cells.append(IndexFiles(index, tmp_path / f"{index.stem}.parquet", tmp_path / f"{index.stem}.others.parquet", found if "kb" in sources else None))
    search_kb(linker, cells[0].index, corpus, kb, *no_tables(tmp_path), found)
    link(linker, corpus, cells, **more)
    for one in cells:
        alone = tmp_path / f"alone.{one.index.stem}.parquet"
        assert tables.read(tables.LINKED, one.out).equals(tables.read(tables.LINKED, alone))
        assert tables.read(tables.LINKED, one.calibration).equals(tables.read(tables.LINKED, alone.with_name(f"{alone.stem}.calibration.parquet")))
    rankings = [read(one.out) for one in cells]
    assert rankings[0] != rankings[1] != rankings[2], "the indexes differ"


def test_files_that_do_not_fit_the_indexes_are_named(tmp_path):
    train, kb = (index_of(tmp_path, source).rename(tmp_path / f"{source}.json") for source in ("train", "kb"))
    p, c = [tmp_path / "p1", tmp_path / "p2"], [tmp_path / "c1", tmp_path / "c2"]
    assert [one.kb_rankings for one in cells_of([train, kb], [tmp_path / "found"], p, c)] == [None, tmp_path / "found"]
    with pytest.raises(UserError, match="2 indexes, 1 files of predictions"):
        cells_of([train, kb], [tmp_path / "found"], p[:1], c)
    with pytest.raises(UserError, match="1 indexes have the source kb, 2 files"):
        cells_of([train, kb], [tmp_path / "found", tmp_path / "found"], p, c)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sources", [("train",), ("kb",), ("train", "kb")])
@pytest.mark.parametrize("augmented", [False, True])
def test_link_equals_brute_force(tmp_path, sources, augmented, shared):
    vectors, cuis, corpus, (kb, kb_vectors, kb_cuis), (synthetic, syn_vectors, syn_cuis) = cell(tmp_path, shared)
    parts = [(vectors[:60], cuis[:60])] * ("train" in sources) + [(kb_vectors, kb_cuis)] * ("kb" in sources) + [(syn_vectors, syn_cuis)] * augmented
    more = {"synthetic": synthetic, "chosen": tmp_path / "chosen.parquet"} if augmented else {}
    out = tmp_path / "predictions.parquet"
    linked(tmp_path, linker_of(tmp_path, metric="ip"), index_of(tmp_path, *sources), corpus, out, kb=kb if "kb" in sources else None, **more)
    expected = brute(vectors[60:], np.concatenate([v for v, _ in parts]), [c for _, cs in parts for c in cs])
    assert read(out) == {f"m{60 + i:05d}": e for i, e in enumerate(expected)}
    again = tmp_path / "again.parquet"
    linked(tmp_path, linker_of(tmp_path, metric="ip"), index_of(tmp_path, *sources), corpus, again, kb=kb if "kb" in sources else None, **more)
    assert tables.read(tables.LINKED, again).equals(tables.read(tables.LINKED, out))


@pytest.mark.parametrize("kind", ["mention", "context", "self_aligned"])
def test_a_thousand_mentions_equal_brute_force(tmp_path, kind):
    """Linkers with vectors, whoever made them: every rank of 1,000 mentions on train and names."""
    vectors = grid(1200, 8)
    cuis = [[f"C{RNG.integers(0, 300):03d}"] for _ in range(1200)]
    corpus = entries(tmp_path, "m", vectors, cuis, splits=["train"] * 200 + ["test"] * 1000)
    kb_vectors, kb_cuis = grid(500, 8), [sorted({f"C{c:03d}" for c in RNG.integers(0, 300, RNG.integers(1, 3))}) for _ in range(500)]
    kb = entries(tmp_path, "k", kb_vectors, kb_cuis)
    settings = {"kind": kind, "model": "minilm"}
    linker = spec(tmp_path, "linkers", SelfAlignedLinker(**settings) if kind == "self_aligned" else EncoderLinker(metric="ip", **settings))
    linked(tmp_path, linker, index_of(tmp_path, "train", "kb"), corpus, tmp_path / "p.parquet", kb=kb)
    found = read(tmp_path / "p.parquet")
    assert len(found) == 1000
    # Products of halves are exact; without settings to the contrary, cosine takes the vectors as they are.
    decimals = 6 - max(0, round(math.log10(np.square(vectors).sum(1).mean())))
    scores = np.round(vectors[200:].astype(np.float64) @ np.concatenate([vectors[:200], kb_vectors]).astype(np.float64).T, decimals)
    for number, row in enumerate(scores.tolist()):
        best: dict[str, list[float]] = {}
        for score, concepts in zip(row, cuis[:200] + kb_cuis, strict=True):
            for cui in concepts:
                best.setdefault(cui, []).append(score)
        order = sorted(best, key=lambda c: (-max(best[c]), -best[c].count(max(best[c])), c))[:100]
        assert found[f"m{200 + number:05d}"] == [(c, max(best[c])) for c in order]


def test_demo_cell_equals_brute_force(root, minilm, tmp_path, monkeypatch):
    """A real cell, from the demo's files to predictions: every mention, every rank."""
    monkeypatch.chdir(root)
    config = load_config(yaml.safe_load((root / "config.yaml").read_text()))
    for kind, name in (("kbs", "demo"), ("corpora", "demo_ncbi"), ("linkers", "mention"), ("indexes", "train+kb")):
        (tmp_path / f"{name}.json").write_text(spec_text(config, kind, name))
    runner = CliRunner()
    assert runner.invoke(kb_app, ["extract", "--spec", str(tmp_path / "demo.json"), "--out", str(tmp_path / "kb")]).exit_code == 0
    arguments = ["read", "--spec", str(tmp_path / "demo_ncbi.json"), "--kb", str(tmp_path / "kb"), "--out", str(tmp_path / "corpus")]
    assert runner.invoke(corpora_app, arguments).exit_code == 0
    run("embed-kb", "--spec", tmp_path / "mention.json", "--model", minilm, "--names", tmp_path / "kb" / "names.parquet", "--out", tmp_path / "names")
    run("embed-corpus", "--spec", tmp_path / "mention.json", "--model", minilm, "--corpus", tmp_path / "corpus", "--out", tmp_path / "mentions")
    corpus, kb, out = tmp_path / "mentions" / "entries.parquet", tmp_path / "names" / "entries.parquet", tmp_path / "p.parquet"
    linked(tmp_path, tmp_path / "mention.json", tmp_path / "train+kb.json", corpus, out, kb=kb)

    def dense(path, split):
        rows = [e for e in tables.read(tables.EMBEDDED, path).to_pylist() if e["split"] == split and e["cuis"]]
        return rows, np.load(path.with_name("vectors.npy"))[[e["vector"] for e in rows]].astype(np.float64)

    (queries, asked), (train, train_vectors), (names, name_vectors) = dense(corpus, "test"), dense(corpus, "train"), dense(kb, None)
    scores = asked @ np.concatenate([train_vectors, name_vectors]).T
    found = read(out)
    assert set(found) == {q["entry_id"] for q in queries} and len(queries) > 300
    for query, row in zip(queries, scores, strict=True):
        best: dict[str, float] = {}
        for entry, score in zip(train + names, row, strict=True):
            for cui in entry["cuis"]:
                best[cui] = max(best.get(cui, -1), score)
        mine = found[query["entry_id"]]
        assert len(mine) == min(100, len(best))
        # Each concept has its own best score, and the scores are the highest there are; float32 carries seven digits.
        np.testing.assert_allclose([s for _, s in mine], [best[c] for c, _ in mine], atol=2e-6)
        np.testing.assert_allclose([s for _, s in mine], sorted(best.values(), reverse=True)[:100], atol=2e-6)
        assert [s for _, s in mine] == sorted((s for _, s in mine), reverse=True)


def test_each_test_mention_is_scored_once_and_nothing_else(tmp_path, capsys):
    """Query batches that overlap score mentions twice; here 250 mentions share 40 vectors, and the count is printed."""
    _, _, corpus, _, _ = cell(tmp_path, shared=True)
    out = tmp_path / "p.parquet"
    linked(tmp_path, linker_of(tmp_path), index_of(tmp_path, "train"), corpus, out)
    assert list(read(out)) == [f"m{i:05d}" for i in range(60, 310)]
    assert "250 of 250 test mentions scored, each once" in capsys.readouterr().err
    assert tables.provenance(out)["counts"]["scored"] == 250


def test_train_index_cannot_know_an_unseen_concept(tmp_path):
    """The out-of-distribution baseline is zero by construction."""
    _, cuis, corpus, _, _ = cell(tmp_path)
    linked(tmp_path, linker_of(tmp_path), index_of(tmp_path, "train"), corpus, tmp_path / "p.parquet")
    train = {c for cs in cuis[:60] for c in cs}
    unseen = [i for i in range(60, 310) if cuis[i][0] not in train]
    found = read(tmp_path / "p.parquet")
    assert len(unseen) > 50 and all(cuis[i][0] not in dict(found[f"m{i:05d}"]) for i in unseen)


def test_empty_index_gives_no_predictions_and_says_so(tmp_path, capsys):
    corpus = entries(tmp_path, "m", grid(3), [["C1"]] * 3, splits=["test"] * 3)
    linked(tmp_path, linker_of(tmp_path), index_of(tmp_path, "train"), corpus, tmp_path / "p.parquet")
    assert len(tables.read(tables.LINKED, tmp_path / "p.parquet")) == 0
    assert "0 of 3 test mentions scored" in capsys.readouterr().err
    only_train = entries(tmp_path, "t", grid(3), [["C1"]] * 3, splits=["train"] * 3)
    linked(tmp_path, linker_of(tmp_path), index_of(tmp_path, "train"), only_train, tmp_path / "q.parquet")
    assert len(tables.read(tables.LINKED, tmp_path / "q.parquet")) == 0


def test_dev_and_unmapped_mentions_are_ranked_apart(tmp_path):
    """Dev, and test mentions without a concept, are asked for thresholds and weights; they are in no prediction and no index."""
    corpus = entries(tmp_path, "m", grid(5), [["C1"], ["C2"], ["C3"], [], []], splits=["train", "dev", "test", "test", "train"])
    linked(tmp_path, linker_of(tmp_path, metric="ip"), index_of(tmp_path, "train"), corpus, tmp_path / "p.parquet")
    assert {m: [c for c, _ in found] for m, found in read(tmp_path / "p.parquet").items()} == {"m00002": ["C1"]}
    assert {m: [c for c, _ in found] for m, found in read(tmp_path / "p.calibration.parquet").items()} == {"m00001": ["C1"], "m00003": ["C1"]}


def test_parts_of_the_index_must_fit_its_spec(tmp_path):
    _, _, corpus, (kb, *_), (synthetic, *_) = cell(tmp_path)
    out, other, linker = tmp_path / "p.parquet", tmp_path / "c.parquet", linker_of(tmp_path)
    found = tmp_path / "found.parquet"
    search_kb(linker, index_of(tmp_path, "kb"), corpus, kb, *no_tables(tmp_path), found)
    with pytest.raises(UserError, match="--found"):
        link(linker, corpus, [IndexFiles(index_of(tmp_path, "train", "kb"), out, other)])
    with pytest.raises(UserError, match="--found"):
        link(linker, corpus, [IndexFiles(index_of(tmp_path, "train"), out, other, found)])
    with pytest.raises(UserError, match="--xrefs"):
        link(linker, corpus, [IndexFiles(index_of(tmp_path, "train"), out, other)], xrefs=tmp_path / "no_xrefs.parquet")
    with pytest.raises(UserError, match="--chosen"):
        link(linker, corpus, [IndexFiles(index_of(tmp_path, "train"), out, other)], synthetic=synthetic)
    np.save(corpus.with_name("vectors.npy"), grid(5, 8))
    with pytest.raises(UserError, match="wrong vectors"):
        link(linker, corpus, [IndexFiles(index_of(tmp_path, "train"), out, other)])
    corpus.with_name("vectors.npy").write_bytes(b"no numpy file")
    with pytest.raises(UserError, match="unreadable vectors"):
        link(linker, corpus, [IndexFiles(index_of(tmp_path, "train"), out, other)])
    assert not out.exists()


def test_linking_starts_fast():
    """Hundreds of cells: nothing that takes seconds may be imported."""
    imports = "import sys, mentionforge.normalization.linking, mentionforge.normalization.commands"
    heavy = imports + "; print({'torch', 'transformers', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# ------------------------------------------------------------------------------------------------------------ embedding

TEXT = "A girl with gout. The gout of her aunt, and a history of Breast Cancer, were noted."


def mention(number: int, split: str, span: tuple[int, int], cuis: list[str]) -> dict:
    return {
        "doc_id": "d" + split,
        "mention_id": f"d{split}-{number}",
        "split": split,
        "spans": [{"start": span[0], "end": span[1]}],
        "surface": TEXT[slice(*span)],
        "expanded": None,
        "entity_type": "Disease",
        "concept_ids": [f"MSH:{c}" for c in cuis],
        "cuis": cuis,
        "concept_cuis": [[c] for c in cuis],
        "composite": False,
        "ood_bucket": "seen_mention" if cuis else "unmapped",
    }


@pytest.fixture
def small(tmp_path):
    """A knowledge base, a corpus and a generator of a handful of rows."""
    names = [("C1", "gout"), ("C2", "Gout"), ("C3", "gout"), ("C2", "breast cancer"), ("C2", "breast cancer")]
    rows = [{"cui": c, "name": n, "source": f"S{i}", "term_type": "PT", "preferred": False} for i, (c, n) in enumerate(names)]
    tables.write(tables.NAMES, tmp_path / "names.parquet", rows)
    documents = [{"doc_id": f"d{s}", "split": s, "text": TEXT, "sentences": [{"start": 0, "end": len(TEXT)}]} for s in ("test", "train")]
    tables.write(tables.DOCUMENTS, tmp_path / "documents.parquet", documents)
    gouts, cancer = [(12, 16), (22, 26)], (TEXT.index("Breast"), TEXT.index(", were"))
    mentions = [mention(i, s, span, ["C1"]) for s in ("train", "test") for i, span in enumerate(gouts)]
    mentions += [mention(2, "test", cancer, ["C2", "C3"]), mention(3, "test", (2, 6), [])]
    tables.write(tables.MENTIONS, tmp_path / "mentions.parquet", mentions)
    synthetic = tmp_path / "synthetic"
    tables.write(
        tables.LOCATED,
        synthetic / "located.parquet",
        [{"note_id": "C1-0", "cui": "C1", "text": TEXT, "sentences": []}, {"note_id": "C9-0", "cui": "C9", "text": "gout", "sentences": []}],
    )
    found = [("C1-0", "C1", *gouts[0]), ("C1-0", "C1", *gouts[1]), ("C9-0", "C9", 0, 4)]
    rows = [{"note_id": n, "start": s, "end": e, "cui": c, "surface": "gout", "match": "exact", "score": 100.0} for n, c, s, e in found]
    tables.write(tables.SYNTHETIC_MENTIONS, synthetic / "mentions.parquet", rows)
    return tmp_path


def run(*arguments) -> None:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, (result.output, result.exception)


def test_embed_commands_and_link(small, minilm):
    linker = linker_of(small, metric="cosine")
    run("embed-kb", "--spec", linker, "--model", minilm, "--names", small / "names.parquet", "--out", small / "kb")
    run("embed-corpus", "--spec", linker, "--model", minilm, "--corpus", small, "--out", small / "corpus")
    run("embed-generator", "--spec", linker, "--model", minilm, "--synthetic", small / "synthetic", "--out", small / "generator")
    kb = tables.read(tables.EMBEDDED, small / "kb" / "entries.parquet").to_pylist()
    assert [(e["entry_id"], e["text"], e["cuis"]) for e in kb] == [
        ("kb|00000000", "Gout", ["C2"]),
        ("kb|00000001", "breast cancer", ["C2"]),
        ("kb|00000002", "gout", ["C1", "C3"]),
    ]
    vectors = np.load(small / "kb" / "vectors.npy", mmap_mode="r")
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous and vectors.shape == (2, 384)  # an uncased model: Gout and gout are one input
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    corpus = tables.read(tables.EMBEDDED, small / "corpus" / "entries.parquet").to_pylist()
    assert [(e["entry_id"], e["split"]) for e in corpus] == [
        ("dtest-0", "test"),
        ("dtest-1", "test"),
        ("dtest-2", "test"),
        ("dtest-3", "test"),
        ("dtrain-0", "train"),
        ("dtrain-1", "train"),
    ]
    assert len({e["vector"] for e in corpus}) == 3
    generator = tables.read(tables.EMBEDDED, small / "generator" / "entries.parquet").to_pylist()
    assert [(e["entry_id"], e["cuis"], e["note_id"]) for e in generator] == [
        ("C1-0:12-16", ["C1"], "C1-0"),
        ("C1-0:22-26", ["C1"], "C1-0"),
        ("C9-0:0-4", ["C9"], "C9-0"),
    ]
    tables.write(tables.CHOSEN, small / "chosen.parquet", [{"note_id": "C9-0", "cui": "C9"}])
    out = small / "p.parquet"
    index, corpus = index_of(small, "train", "kb"), small / "corpus" / "entries.parquet"
    tables.write(tables.XREFS, small / "xrefs.parquet", [])
    names = ("--kb", small / "kb" / "entries.parquet", "--names", small / "names.parquet", "--xrefs", small / "xrefs.parquet")
    run("search-kb", "--spec", linker, "--index", index, "--corpus", corpus, *names, "--out", small / "found.parquet")
    sources = ("--found", small / "found.parquet", "--synthetic", small / "generator" / "entries.parquet", "--chosen", small / "chosen.parquet")
    run("link", "--spec", linker, "--index", index, "--corpus", corpus, *sources, "--out", out, "--calibration", small / "c.parquet")
    found = read(out)
    assert [c for c, _ in found["dtest-0"]] == ["C1", "C2", "C3", "C9"] and {s for _, s in found["dtest-0"]} == {1.0}
    assert found["dtest-2"][0] == ("C2", 1.0)
    # Equal bytes when made again.
    before = [(small / "kb" / n).read_bytes() for n in ("entries.parquet", "vectors.npy")]
    run("embed-kb", "--spec", linker, "--model", minilm, "--names", small / "names.parquet", "--out", small / "kb")
    assert before == [(small / "kb" / n).read_bytes() for n in ("entries.parquet", "vectors.npy")]


def test_context_linker_looks_at_the_sentence(small, minilm):
    linker = spec(small, "linkers", EncoderLinker(kind="context", model="minilm", pooling="mean", max_tokens=16))
    run("embed-corpus", "--spec", linker, "--model", minilm, "--corpus", small, "--out", small / "corpus")
    corpus = {e["entry_id"]: e["vector"] for e in tables.read(tables.EMBEDDED, small / "corpus" / "entries.parquet").to_pylist()}
    assert corpus["dtest-0"] == corpus["dtrain-0"] != corpus["dtest-1"] == corpus["dtrain-1"]
    # A bare name as a knowledge-base entry and as a note of its own are the same input.
    run("embed-kb", "--spec", linker, "--model", minilm, "--names", small / "names.parquet", "--out", small / "kb")
    run("embed-generator", "--spec", linker, "--model", minilm, "--synthetic", small / "synthetic", "--out", small / "generator")
    name = np.load(small / "kb" / "vectors.npy")[tables.read(tables.EMBEDDED, small / "kb" / "entries.parquet")["vector"][2].as_py()]
    note = np.load(small / "generator" / "vectors.npy")[tables.read(tables.EMBEDDED, small / "generator" / "entries.parquet")["vector"][2].as_py()]
    np.testing.assert_allclose(name, note, atol=1e-6)
