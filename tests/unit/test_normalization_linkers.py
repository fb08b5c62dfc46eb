"""Linkers without an encoder, fusion, restricted indexes and approximate search, each against a computation of its own."""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.normalization.embed import embed_corpus, embed_generator, embed_kb
from mentionforge.normalization.linkers import EncoderLinker, ExactLinker, HybridLinker, TfidfLinker
from mentionforge.normalization.linkers.encoder import VectorRetriever
from mentionforge.normalization.linkers.exact import StringRetriever, normalize_string
from mentionforge.normalization.linkers.hybrid.fusion import fuse
from mentionforge.normalization.linking import IndexFiles, admitted_entries, link, search_kb, search_recall
from mentionforge.normalization.search import IndexedEntries, best_concepts
from mentionforge.normalization.settings import Index

WORDS = [
    "breast",
    "ovarian",
    "colon",
    "cancer",
    "cancers",
    "tumor",
    "tumour",
    "syndrome",
    "type",
    "types",
    "iii",
    "3",
    "ii",
    "2",
    "renal",
    "cell",
    "carcinoma",
    "familial",
    "acute",
    "heart",
    "failure",
    "disease",
    "disorders",
]


def spec(folder: Path, kind: str, entry) -> Path:
    path = folder / f"{kind}.{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"kind": kind, "name": "x", "part": None, "stage_version": 1, "settings": entry.model_dump(mode="json")}))
    return path


def phrase(rng) -> str:
    words = list(rng.choice(WORDS, rng.integers(1, 5), replace=False))
    return " ".join(w.capitalize() if rng.random() < 0.2 else w for w in words).replace(" type", "-type" if rng.random() < 0.5 else " type")


def write_mentions(path: Path, rows: list[tuple[str, str, str, list[str]]], expanded: dict[str, str] | None = None) -> None:
    """Rows (id, split, surface, cuis)."""
    rest = {"doc_id": "d", "spans": [{"start": 0, "end": 1}], "entity_type": "D", "composite": False, "ood_bucket": "seen_mention"}
    table = [
        {
            **rest, "mention_id": i, "split": s, "surface": t, "expanded": (expanded or {}).get(i), "concept_ids": [], "cuis": sorted(c), "concept_cuis": []
        }
        for i, s, t, c in rows
    ]  # fmt: skip
    tables.write(tables.MENTIONS, path / "mentions.parquet", [{c.name: row[c.name] for c in tables.MENTIONS.columns} for row in table])
    tables.write(tables.DOCUMENTS, path / "documents.parquet", [{"doc_id": "d", "split": "train", "text": "x", "sentences": []}])


@pytest.fixture
def world(tmp_path):
    """1,000 test mentions, 300 of dev, 200 of train; 900 names of 300 concepts; 60 synthetic mentions, a third of them chosen."""
    rng = np.random.default_rng(3)
    names = sorted({(f"C{rng.integers(0, 300):03d}", phrase(rng)) for _ in range(900)})
    rows = [{"cui": c, "name": n, "source": f"S{i % 3}", "term_type": "PT", "preferred": i % 4 == 0} for i, (c, n) in enumerate(names)]
    tables.write(tables.NAMES, tmp_path / "names.parquet", rows)
    xrefs = [{"source": v, "code": f"{v}{c}", "cui": f"C{c:03d}", "via": "x"} for c in range(300) for v in (["MSH"] * (c % 2) + ["OMIM"] * (c % 3 == 0))]
    tables.write(tables.XREFS, tmp_path / "xrefs.parquet", xrefs)
    splits = ["train"] * 200 + ["dev"] * 300 + ["test"] * 1000
    mentions = []
    for i, split in enumerate(splits):
        cui, name = names[rng.integers(len(names))] if i % 5 else (f"C{rng.integers(300, 320):03d}", phrase(rng))
        text = name if i % 2 else " ".join(rng.permutation(name.split())).replace("cancer", "cancers")
        mentions.append((f"m{i:04d}", split, text, [cui] if i % 13 else []))
    write_mentions(tmp_path, mentions)
    synthetic = tmp_path / "synthetic"
    found = [(f"n{i:02d}", f"C{rng.integers(300, 320):03d}", phrase(rng)) for i in range(60)]
    tables.write(tables.LOCATED, synthetic / "located.parquet", [{"note_id": n, "cui": c, "text": t, "sentences": []} for n, c, t in found])
    tables.write(
        tables.SYNTHETIC_MENTIONS,
        synthetic / "mentions.parquet",
        [{"note_id": n, "start": 0, "end": len(t), "cui": c, "surface": t, "match": "exact", "score": 100.0} for n, c, t in found],
    )
    tables.write(tables.CHOSEN, tmp_path / "chosen.parquet", [{"note_id": n, "cui": c} for n, c, _ in found[::3]])
    return tmp_path, names, mentions, [(c, t) for _, c, t in found[::3]]


def predicted(folder: Path, linker, index: Index, augmented: bool = True) -> tuple[Path, Path]:
    s, i = spec(folder, "linkers", linker), spec(folder, "indexes", index)
    place = folder / s.stem
    embed_kb(s, None, folder / "names.parquet", place / "kb")
    embed_corpus(s, None, folder, place / "corpus")
    embed_generator(s, None, folder / "synthetic", place / "generator")
    corpus, kb, found = place / "corpus" / "entries.parquet", place / "kb" / "entries.parquet", None
    if "kb" in index.sources:
        found = place / "found.parquet"
        search_kb(s, i, corpus, kb, folder / "names.parquet", folder / "xrefs.parquet", found)
    more = {"synthetic": place / "generator" / "entries.parquet", "chosen": folder / "chosen.parquet"} if augmented else {}
    xrefs = folder / "xrefs.parquet" if index.prefer_xrefs else None
    link(s, corpus, [IndexFiles(i, place / "p.parquet", place / "c.parquet", found)], kb=kb, xrefs=xrefs, **more)
    return place / "p.parquet", place / "c.parquet"


def read(path: Path) -> dict[str, list[tuple[str, float]]]:
    lists: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for row in tables.read(tables.LINKED, path).to_pylist():
        lists[row["mention_id"]].append((row["cui"], row["score"]))
        assert row["rank"] == len(lists[row["mention_id"]]) and row["cui"] in row["entry"].split("|")
    return lists


def entries_of(names, mentions, synthetic) -> list[tuple[str, list[str]]]:
    by_name = defaultdict(list)
    for cui, name in names:
        by_name[name].append(cui)
    return [(t, c) for _, s, t, c in mentions if s == "train" and c] + sorted(by_name.items()) + [(t, [c]) for c, t in synthetic]


def by_hand(query_scores, entries, prefer=lambda cui: 0) -> list[tuple[str, float]]:
    scores: dict[str, list[float]] = defaultdict(list)
    for (_, cuis), score in zip(entries, query_scores, strict=True):
        if score > 0:
            for cui in cuis:
                scores[cui].append(score)
    order = sorted(scores, key=lambda c: (-max(scores[c]), prefer(c), -scores[c].count(max(scores[c])), c))
    return [(c, max(scores[c])) for c in order[:100]]


def grams(text: str) -> Counter:
    found: Counter = Counter()
    for word in text.lower().split():
        padded = f" {word} "
        for n in range(3, 6):
            found.update(padded[i : i + n] for i in range(len(padded) - n + 1)) if len(padded) > n else found.update([padded])
            if len(padded) <= n:
                break
    return found


def test_tfidf_equals_brute_force(world):
    folder, names, mentions, synthetic = world
    found = read(predicted(folder, TfidfLinker(kind="tfidf"), Index(sources=("train", "kb")))[0])
    distinct = sorted({n for _, n in names})
    df = Counter(g for name in distinct for g in grams(name))
    idf = {g: math.log((1 + len(distinct)) / (1 + df[g])) + 1 for t in [*distinct, *(m[2] for m in mentions), *(t for _, t in synthetic)] for g in grams(t)}

    def weights(text):
        row = {g: (1 + math.log(n)) * idf[g] for g, n in grams(text).items()}
        length = math.sqrt(sum(v * v for v in row.values()))
        return {g: v / length for g, v in row.items()}

    entries = entries_of(names, mentions, synthetic)
    rows = [weights(t) for t, _ in entries]
    asked = [m for m in mentions if m[1] == "test" and m[3]]
    assert set(found) == {m[0] for m in asked} and len(asked) > 900
    memory: dict[str, list] = {}
    for mention_id, _, text, _ in asked:
        if text not in memory:
            query = weights(text)
            memory[text] = by_hand([round(sum(v * row.get(g, 0) for g, v in query.items()), 5) for row in rows], entries)
        best_scores = dict(memory[text])
        assert len(found[mention_id]) == len(memory[text])
        np.testing.assert_allclose([s for _, s in found[mention_id]], [s for _, s in memory[text]], atol=2e-5)
        for cui, score in found[mention_id][:20]:
            assert cui not in best_scores or abs(best_scores[cui] - score) < 2e-5


@pytest.mark.parametrize("steps", [(), ("plural", "numerals", "order")])
@pytest.mark.parametrize("prefer", [(), ("OMIM", "MSH")])
def test_exact_equals_brute_force(world, steps, prefer):
    folder, names, mentions, synthetic = world
    paths = predicted(folder, ExactLinker(kind="exact", steps=steps), Index(sources=("train", "kb"), prefer_xrefs=prefer))
    entries = entries_of(names, mentions, synthetic)

    def place(cui):
        number = int(cui[1:])
        codes = ["MSH"] * (number % 2) + ["OMIM"] * (number % 3 == 0) if number < 300 else []
        return min([prefer.index(v) for v in codes if v in prefer], default=len(prefer))

    keys = [[normalize_string(t, steps[:n]) for n in range(len(steps) + 1)] for t, _ in entries]
    for path, wanted in zip(paths, (lambda m: m[1] == "test" and m[3], lambda m: m[1] == "dev" or (m[1] == "test" and not m[3])), strict=True):
        found = read(path)
        expected = {}
        for mention_id, _, text, _ in filter(wanted, mentions):
            asked = [normalize_string(text, steps[:n]) for n in range(len(steps) + 1)]
            scores = [max([1 - n / 10 for n in range(len(steps) + 1) if asked[n] == key[n]], default=0) for key in keys]
            expected[mention_id] = by_hand([round(s, 6) for s in scores], entries, place)
        assert dict(found) == {m: e for m, e in expected.items() if e}
        assert any(not e for e in expected.values()) or steps  # what no entry equals has no prediction


def test_normalization_steps():
    assert normalize_string("Type II Carcinomas", ("plural", "numerals", "order")) == "2 carcinoma type"
    assert normalize_string("abscess, diabetes; biopsies", ("plural",)) == "abscess diabete biopsy"
    assert normalize_string("Huntington's  Disease", ()) == "huntington s disease"


def test_abbreviations_are_read_expanded_and_training_mentions_both_ways(tmp_path):
    rows = [("m0", "train", "AT", ["C1"]), ("m1", "test", "A-T", ["C1"]), ("m2", "test", "AT", ["C1"]), ("m3", "dev", "HD", ["C2"])]
    write_mentions(tmp_path, rows, {"m0": "ataxia telangiectasia", "m1": "ataxia-telangiectasia", "m3": "Huntington disease"})
    for expand, expected in ((True, {"m0": "ataxia telangiectasia", "m0|surface": "AT", "m1": "ataxia-telangiectasia"}), (False, {"m0": "AT", "m1": "A-T"})):
        embed_corpus(spec(tmp_path, "linkers", ExactLinker(kind="exact", expand_abbreviations=expand)), None, tmp_path, tmp_path / f"e{expand}")
        texts = {e["entry_id"]: e["text"] for e in tables.read(tables.EMBEDDED, tmp_path / f"e{expand}" / "entries.parquet").to_pylist()}
        assert {k: v for k, v in texts.items() if k[:2] in ("m0", "m1")} == expected and texts["m2"] == "AT"
        assert texts["m3"] == ("Huntington disease" if expand else "HD")


@pytest.mark.parametrize("fusion", ["rank", "score"])
def test_hybrid_equals_brute_force(world, fusion):
    folder, _, mentions, _ = world
    index = Index(sources=("train", "kb"))
    parts = [predicted(folder, TfidfLinker(kind="tfidf"), index), predicted(folder, ExactLinker(kind="exact"), index)]
    hybrid = spec(folder, "linkers", HybridLinker(kind="hybrid", linkers=("a", "b"), fusion=fusion, step=0.25))
    out, other = folder / "h.parquet", folder / "hc.parquet"
    fuse(hybrid, [p for p, _ in parts], [c for _, c in parts], folder / "mentions.parquet", out, other)
    gold = {m[0]: set(m[3]) for m in mentions}

    def fused(lists, weights):
        scores = {}
        for cui in {c for found in lists for c, _ in found}:
            total = 0.0
            for weight, found in zip(weights, lists, strict=True):
                ranks = [c for c, _ in found]
                if fusion == "rank":
                    total += 1 / (60 + 1 + ranks.index(cui)) if cui in ranks else 0
                else:
                    total += weight * (dict(found)[cui] if cui in ranks else found[-1][1] if len(found) == 100 else 0.0)
            scores[cui] = round(total, 6)
        places = [{c: r for r, (c, _) in enumerate(found)} for found in lists]
        order = sorted(scores, key=lambda c: (-scores[c], *(p.get(c, math.inf) for p in places), c))[:100]
        return [(c, scores[c]) for c in order]

    calibrations, tests = [read(c) for _, c in parts], [read(p) for p, _ in parts]
    weights = (0.5, 0.5)
    if fusion == "score":
        dev = [m[0] for m in mentions if m[1] == "dev" and any(m[0] in lists and gold[m[0]] & {c for c, _ in lists[m[0]]} for lists in calibrations)]
        right = {}
        for a in range(5):
            w = (a / 4, 1 - a / 4)
            right[w] = sum(fused([lists.get(m, []) for lists in calibrations], w)[0][0] in gold[m] for m in dev)
        weights = min(right, key=lambda w: (-right[w], (w[0] - 0.5) ** 2, w))
        assert tables.provenance(out)["weights"] == list(weights)
    found = read(out)
    assert len(found) > 900
    for mention_id, ranking in found.items():
        expected = fused([lists.get(mention_id, []) for lists in tests], weights)
        # The sixth decimal may round either way.
        np.testing.assert_allclose([s for _, s in ranking], [s for _, s in expected], atol=2e-6)
        swapped = [i for i, (mine, theirs) in enumerate(zip(ranking, expected, strict=True)) if mine[0] != theirs[0]]
        assert all(abs(dict(expected).get(ranking[i][0], expected[-1][1]) - ranking[i][1]) <= 2e-6 for i in swapped)


def test_an_index_admits_names_as_it_says(world):
    folder, names, _, _ = world
    embed_kb(spec(folder, "linkers", ExactLinker(kind="exact")), None, folder / "names.parquet", folder / "kb")
    entries = tables.read(tables.EMBEDDED, folder / "kb" / "entries.parquet")
    rows, xrefs = tables.read(tables.NAMES, folder / "names.parquet"), tables.read(tables.XREFS, folder / "xrefs.parquet")
    for index, keep in (
        (Index(sources=("kb",), preferred_only=True), lambda i, c: i % 4 == 0),
        (Index(sources=("kb",), name_sources=("S1", "S2")), lambda i, c: i % 3 > 0),
        (Index(sources=("kb",), require_xrefs=("MSH",)), lambda i, c: int(c[1:]) % 2 == 1),
        (Index(sources=("kb",), require_xrefs=("MSH", "OMIM"), preferred_only=True), lambda i, c: (int(c[1:]) % 2 or int(c[1:]) % 3 == 0) and i % 4 == 0),
    ):
        expected = defaultdict(set)
        for i, (cui, name) in enumerate(names):
            if keep(i, cui):
                expected[name].add(cui)
        admitted = admitted_entries(entries, index, rows, xrefs)
        assert {e["text"]: set(e["cuis"]) for e in admitted.to_pylist()} == dict(expected)


def test_approximate_search_measures_its_recall():
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((4000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:50] + 0.1 * rng.standard_normal((50, 16)).astype(np.float32)
    ones = np.ones(4000, np.int64)
    names = IndexedEntries(vectors, np.arange(4000), np.arange(4000) // 2, ones, np.arange(4000))
    exact = best_concepts(queries, names, VectorRetriever("cosine"))
    for method in ("hnsw", "ivf"):
        found = best_concepts(queries, names, VectorRetriever("cosine", method))
        shares = search_recall(found, exact)
        for k in (1, 10, 100):
            by_loop = []
            for q in range(50):
                wanted = set(exact.concept[(exact.query == q) & (exact.rank <= k)].tolist())
                by_loop.append(len(wanted & set(found.concept[found.query == q].tolist())) / len(wanted))
            assert shares[f"recall@{k}"] == pytest.approx(np.mean(by_loop), abs=0.02)
        assert 0.3 < shares["recall@100"] <= 1 and shares["recall@1"] > 0.8
    assert search_recall(exact, exact) == {"recall@1": 1.0, "recall@10": 1.0, "recall@100": 1.0}


def test_dictionary_of_many_equal_entries():
    """More equal entries than are fetched at first, all of other concepts."""
    entries = IndexedEntries(["gout"] * 1000, np.arange(1000), np.arange(1000), np.ones(1000, np.int64), np.arange(1000))
    found = best_concepts(["Gout", "other"], entries, StringRetriever(()))
    assert found.concept.tolist()[:100] == list(range(100)) and set(found.query.tolist()) == {0}


def test_context_linkers_do_not_expand():
    with pytest.raises(ValueError, match="reads the text as it is"):
        EncoderLinker(kind="context", model="x", expand_abbreviations=True)


def test_parts_must_search_by_themselves(root):
    import yaml

    from mentionforge.config import load_config
    from mentionforge.config_files import merge

    def changed(linkers):
        return load_config(merge(yaml.safe_load((root / "config.yaml").read_text()), {"linkers": linkers}))

    one = {"kind": "hybrid", "linkers": ["tfidf", "exact"]}
    assert changed({"one": one}).linkers["one"].linkers == ("tfidf", "exact")
    with pytest.raises(UserError, match=r"linkers\.two.*one is a hybrid linker"):
        changed({"one": one, "two": {"kind": "hybrid", "linkers": ["one", "exact"]}})
    with pytest.raises(UserError, match=r"unknown linker 'nope'.*linkers\.one\.linkers"):
        changed({"one": {"kind": "hybrid", "linkers": ["nope", "exact"]}})
    with pytest.raises(UserError, match="part given twice"):
        changed({"one": {"kind": "hybrid", "linkers": ["exact", "exact"]}})
