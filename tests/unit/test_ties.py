"""Equal scores: a ranking depends on its query and the index alone, whatever is asked beside it; one order for every metric and method."""

import itertools

import numpy as np
import pytest

from mentionforge.normalization.linkers.encoder import VectorRetriever
from mentionforge.normalization.linkers.exact import StringRetriever
from mentionforge.normalization.linkers.tfidf import NgramRetriever
from mentionforge.normalization.search import IndexedEntries, best_concepts, merge_rankings, query_tolerance, rank_concepts
from mentionforge.ties import level_ties

ENTRIES, CONCEPTS, QUERIES = 1500, 400, 60


def columns(ranking):
    return [column.tolist() for column in ranking]


def in_batches(asked, size, order=None):
    """The ranking of each query, asked in batches of some size: concept, score, votes and entry by rank."""
    found = {}
    order = list(range(QUERIES)) if order is None else order
    for start in range(0, len(order), size):
        some = order[start : start + size]
        ranking = asked(some)
        for i, q in enumerate(some):
            mine = ranking.query == i
            found[q] = columns([ranking.rank[mine], ranking.concept[mine], ranking.score[mine], ranking.votes[mine], ranking.entry[mine]])
    return found


def tied_vectors(rng, lengths):
    """Vectors of which a third are repeated with other last digits, as an encoder gives a string in another batch; of several lengths."""
    vectors = rng.standard_normal((ENTRIES, 24)) @ np.diag(np.linspace(2, 0.2, 24))
    vectors[1000:] = vectors[:500]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= 1 + 1e-7 * rng.standard_normal(vectors.shape)
    factor = np.exp(rng.uniform(-lengths, lengths, ENTRIES))
    factor[1000:] = factor[:500]
    return (vectors * factor[:, None]).astype(np.float32)


@pytest.fixture(params=[20, None], ids=["products", "pairs"])
def faiss_way(request):
    """faiss as it multiplies matrices from so many queries on, whose last digits depend on the batch, and as installed."""
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = request.param or before
    yield
    faiss.cvar.distance_compute_blas_threshold = before


@pytest.mark.parametrize("method", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_batches_do_not_change_a_ranking(metric, method, faiss_way):
    rng = np.random.default_rng(11)
    lengths = 0 if metric == "cosine" else 1.0
    vectors = tied_vectors(rng, lengths)
    queries = vectors[rng.choice(ENTRIES, QUERIES, replace=False)] + 0.05 * rng.standard_normal((QUERIES, 24)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    if metric != "cosine":
        queries *= np.exp(rng.uniform(-3, 3, (QUERIES, 1))).astype(np.float32)  # 0.05 to 20 times as long
    concepts, row = rng.integers(0, CONCEPTS, ENTRIES), np.arange(ENTRIES)
    names = IndexedEntries(vectors[:1100], row[:1100], concepts[:1100], np.ones(1100, np.int64), row[:1100])
    train = IndexedEntries(vectors[1100:], row[:400], concepts[1100:], np.ones(400, np.int64), row[1100:])
    comparison = VectorRetriever(metric, method)

    def asked(some):
        given = np.ascontiguousarray(queries[some])
        parts = [best_concepts(given, names, comparison), best_concepts(given, train, VectorRetriever(metric))]
        return merge_rankings(parts, query_tolerance(given, comparison))

    whole = in_batches(asked, QUERIES)
    assert all(len(ranks) == 100 for ranks, *_ in whole.values())
    equal = sum(a == b for _, _, scores, *_ in whole.values() for a, b in itertools.pairwise(scores))
    assert equal > 500, "too few ties to show anything"
    for size in (1, 2, 7, 31):
        assert in_batches(asked, size) == whole
    assert in_batches(asked, QUERIES, order=rng.permutation(QUERIES).tolist()) == whole


def by_hand(scores, concepts, tolerance, top=100):
    """Ranks of one query, from all its scores in float64: leaders of groups, votes, CUI."""
    of: dict[int, list[float]] = {}
    for score, concept in zip(scores.tolist(), concepts.tolist(), strict=True):
        of.setdefault(concept, []).append(score)
    highest = {c: max(values) for c, values in of.items()}
    votes = {c: sum(v >= highest[c] - tolerance for v in values) for c, values in of.items()}
    leader, level = np.inf, {}
    for concept in sorted(highest, key=lambda c: -highest[c]):
        leader = leader if leader - highest[concept] <= tolerance else highest[concept]
        level[concept] = leader
    return sorted(level, key=lambda c: (-level[c], -votes[c], c))[:top], level


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("scale", [0.01, 1, 50])
def test_rankings_equal_brute_force_in_float64(metric, scale):
    """Long vectors that lie close together too, of which float32 squares would leave little."""
    rng = np.random.default_rng(2)
    vectors = tied_vectors(rng, 0 if metric == "cosine" else 0.3) * np.float32(1 if metric == "cosine" else scale)
    if metric == "l2":
        vectors += np.float32(scale)
    concepts = rng.integers(0, CONCEPTS, ENTRIES)
    queries = vectors[:40]
    index = IndexedEntries(vectors, np.arange(ENTRIES), concepts, np.ones(ENTRIES, np.int64), np.arange(ENTRIES))
    ranking = rank_concepts(queries, [index], VectorRetriever(metric))
    for i, q in enumerate(queries.astype(np.float64)):
        exact = -np.square(vectors - q).sum(1) if metric == "l2" else vectors.astype(np.float64) @ q
        tolerance = {"cosine": 1e-6, "ip": 1e-6 * q @ q, "l2": 2e-6 * q @ q}[metric]
        order, level = by_hand(exact, concepts, tolerance)
        mine = ranking.query == i
        assert ranking.concept[mine].tolist() == order
        np.testing.assert_allclose(ranking.score[mine], [level[c] for c in order], atol=1.01 * tolerance)


def test_last_digits_of_a_query_do_not_split_ties():
    """Of two sources, each has every string in its own last digits; so has the query. Where a grid of decimals would lie is no matter."""
    rng = np.random.default_rng(7)
    strings = rng.standard_normal((600, 16))
    strings /= np.linalg.norm(strings, axis=1, keepdims=True)

    def noisy(vectors):
        return (vectors * (1 + 2e-7 * rng.standard_normal(vectors.shape))).astype(np.float32)

    queries = strings[:200] + 0.3 * rng.standard_normal((200, 16))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    row, ones = np.arange(600), np.ones(600, np.int64)
    sources = [IndexedEntries(noisy(strings), row, row * 2, ones, row), IndexedEntries(noisy(strings), row, row * 2 + 1, ones, row)]
    for metric in ("cosine", "ip", "l2"):
        rankings = [rank_concepts(noisy(queries), sources, VectorRetriever(metric), top=20) for _ in range(3)]
        # Each string stands for two concepts, which tie: by CUI.
        for ranking in rankings:
            pairs = ranking.concept.reshape(200, 10, 2)
            assert (pairs[:, :, 0] + 1 == pairs[:, :, 1]).all() and (pairs[:, :, 0] % 2 == 0).all()
        assert all(np.array_equal(rankings[0].concept, other.concept) for other in rankings[1:])


def test_ngrams_and_dictionary_do_not_depend_on_the_batch_either():
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("abcdefg"), 4)) for _ in range(40)]
    texts = sorted({" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(700)})
    queries = [" ".join(rng.choice(words, 2)) for _ in range(QUERIES)]
    concepts = rng.integers(0, 200, len(texts))
    index = IndexedEntries(texts, np.arange(len(texts)), concepts, np.ones(len(texts), np.int64), np.arange(len(texts)))
    for comparison in (NgramRetriever(3, 5, NgramRetriever.weights(texts, 3, 5)), StringRetriever(("plural", "order"))):

        def asked(some, comparison=comparison):
            return rank_concepts([queries[i] for i in some], [index], comparison)

        whole = in_batches(asked, QUERIES)
        for size in (1, 2, 7):
            assert in_batches(asked, size) == whole


def test_votes_preference_and_cui_order_equal_scores_for_every_comparison():
    """Four concepts of one string, by any metric and kind: the preferred, then the most entries, then the lowest CUI."""
    votes, preference = np.array([1, 3, 1, 1, 9]), np.array([1, 1, 1, 0, 1])
    for inputs, asked, comparison in (
        (np.array([[3.0, 4.0], [1, 0]], np.float32), np.array([[3.0, 4.0]], np.float32), VectorRetriever("ip")),
        (np.array([[3.0, 4.0], [1, 0]], np.float32), np.array([[3.0, 4.0]], np.float32), VectorRetriever("l2")),
        (np.array([[0.6, 0.8], [1, 0]], np.float32), np.array([[0.6, 0.8]], np.float32), VectorRetriever("cosine")),
        (["gout", "gouty"], ["gout"], NgramRetriever(3, 5, NgramRetriever.weights(["gout", "gouty"], 3, 5))),
        (["gout", "ague"], ["gout"], StringRetriever(())),
    ):
        index = IndexedEntries(inputs, np.array([0, 0, 0, 0, 1]), np.arange(5), votes, np.arange(5))
        assert rank_concepts(asked, [index], comparison).concept.tolist()[:4] == [1, 0, 2, 3]
        assert rank_concepts(asked, [index], comparison, preference).concept.tolist()[:4] == [3, 1, 0, 2]


def test_levels_by_hand():
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 30, 4000)
    tolerance = 10.0 ** -rng.integers(0, 5, 30)
    tolerance[3] = 0
    score = np.round(rng.standard_normal(4000), 3) * 1.0
    found = level_ties(owner, score, tolerance)
    for o in range(30):
        mine = np.flatnonzero(owner == o)
        leader, expected = np.inf, {}
        for i in mine[np.argsort(-score[mine], kind="stable")]:
            leader = leader if leader - score[i] <= tolerance[o] else score[i]
            expected[i] = leader
        grid = max(tolerance[o], 1e-12)
        np.testing.assert_allclose(found[mine], [expected[i] for i in mine], atol=0.51 * grid)
        assert len(np.unique(found[mine])) == len(set(expected.values())), "other groups show other scores"
    assert level_ties(np.empty(0, np.int64), np.empty(0), np.empty(0)).tolist() == []
    # Scores near each other in a chain are no group wider than the tolerance.
    assert level_ties(np.zeros(4, np.int64), np.array([0.7, 0.9, 1.0, 0.8]), np.array([0.25])).tolist() == [0.7, 1.0, 1.0, 1.0]


def test_annotating_one_mention_links_as_many_do(minilm, tmp_path):
    """Asked alone, an encoder's batch has other last digits; the concepts stand in the same order."""
    import json

    from mentionforge import tables
    from mentionforge.normalization.embed import embed_kb
    from mentionforge.normalization.linkers import EncoderLinker
    from mentionforge.normalization.loaded import IndexedLinker, Searcher
    from mentionforge.normalization.settings import Index

    rng = np.random.default_rng(1)
    words = ["breast", "colon", "cancer", "tumour", "of the", "familial", "type 2", "renal", "carcinoma", "syndrome", "acute", "chronic", "lung", "failure"]
    names = sorted({" ".join(rng.choice(words, rng.integers(1, 5), replace=False)) for _ in range(400)})
    for source, shift in (("kb", 0), ("train", 1)):
        rows = [{"cui": f"C{(i * 7 + shift) % 150:03d}", "name": n, "source": "S", "term_type": "T", "preferred": True} for i, n in enumerate(names[shift::2])]
        tables.write(tables.NAMES, tmp_path / f"{source}.parquet", rows + [{**r, "cui": "C" + r["cui"]} for r in rows[::3]])
    linker = EncoderLinker(kind="mention", model="minilm", pooling="mean")
    spec = tmp_path / "linker.json"
    spec.write_text(json.dumps({"kind": "linkers", "name": "x", "part": None, "stage_version": 1, "settings": linker.model_dump(mode="json")}))
    entries = {}
    for source in ("train", "kb"):
        embed_kb(spec, minilm, tmp_path / f"{source}.parquet", tmp_path / source)
        entries[source] = (
            tables.read(tables.EMBEDDED, tmp_path / source / "entries.parquet"),
            np.load(tmp_path / source / "vectors.npy", allow_pickle=False),
        )
    part = IndexedLinker(linker, Index(sources=("train", "kb")), minilm, entries)
    asked = [f"{name} disease" for name in names[::10]] + names[1::20]
    together = Searcher(part, 20).rank(asked, [None] * len(asked), [], [])
    alone = Searcher(part, 20)
    for text, expected in zip(asked, together, strict=True):
        (found,) = alone.rank([text], [None], [], [])
        assert [(c.cui, c.entry) for c in found] == [(c.cui, c.entry) for c in expected]
        assert [c.score for c in found] == pytest.approx([c.score for c in expected], abs=2e-6)


@pytest.mark.parametrize("fusion", ["score", "rank"])
def test_fused_rankings_do_not_depend_on_the_mentions_beside_them(fusion):
    """Scores of six decimals, halved, lie on the very borders of six decimals: mentions with the same lists are ranked alike wherever they stand."""
    import pyarrow as pa

    from mentionforge.normalization.linkers import HybridLinker
    from mentionforge.normalization.linkers.hybrid.fusion import candidate_lists, fused_scores, ranking_table
    from mentionforge.normalization.search import sorted_distinct

    rng = np.random.default_rng(5)
    shape = [[(f"C{c:02d}", round(0.9 - 0.1 * (i // 3) - 1e-6 * (i % 2), 6)) for i, c in enumerate(rng.permutation(12))] for _ in range(3)]

    def table(linker, mentions):
        rows = [(f"m{m:03d}", r, c, s * factor, c) for m, factor in mentions for r, (c, s) in enumerate(shape[linker], 1)]
        return pa.table({n: list(v) for n, v in zip(("mention_id", "rank", "cui", "score", "entry"), zip(*rows, strict=True), strict=True)})

    linker = HybridLinker(kind="hybrid", linkers=("a", "b", "c"), fusion=fusion)

    def fused(mentions):
        given = [table(i, mentions) for i in range(3)]
        cuis, sets = sorted_distinct([t["cui"] for t in given]), sorted_distinct([t["entry"] for t in given])
        ids, lists = candidate_lists(given, cuis, sets)
        found: dict[str, list] = {}
        for row in ranking_table(lists, fused_scores(lists, linker, np.array([0.5, 0.3, 0.2])), ids, cuis, sets).to_pylist():
            found.setdefault(row.pop("mention_id"), []).append(row)
        return found

    alone = fused([(0, 1.0)])["m000"]
    assert all(ranking == alone for ranking in fused([(m, 1.0) for m in range(57)]).values())
    # Long vectors beside it, whose scores and ties are on another scale, do not change it, nor it them.
    long = fused([(1, 1e4)])["m001"]
    assert fused([(0, 1.0), (1, 1e4)]) == {"m000": alone, "m001": long}
    assert [row["cui"] for row in long] == [row["cui"] for row in alone]


@pytest.mark.parametrize("constant", [1, 60, 1000, 5000])
def test_rank_fusion_tells_apart_what_differs_as_fractions(constant):
    """Sums of reciprocals come very near each other at deep ranks, and with a large constant everywhere: only equal fractions are equal."""
    from fractions import Fraction

    import pyarrow as pa

    from mentionforge.normalization.linkers import HybridLinker
    from mentionforge.normalization.linkers.hybrid.fusion import candidate_lists, fused_scores, ranking_table
    from mentionforge.normalization.search import sorted_distinct

    rng = np.random.default_rng(constant)
    concepts = [f"C{c:03d}" for c in range(100)]
    orders = [rng.permutation(concepts).tolist() for _ in range(3)]
    given = [pa.table({"mention_id": ["m"] * 100, "rank": range(1, 101), "cui": own, "score": [1.0] * 100, "entry": own}) for own in orders]
    cuis, sets = sorted_distinct([t["cui"] for t in given]), sorted_distinct([t["entry"] for t in given])
    ids, lists = candidate_lists(given, cuis, sets)
    linker = HybridLinker(kind="hybrid", linkers=("a", "b", "c"), fusion="rank", constant=constant)
    found = ranking_table(lists, fused_scores(lists, linker, np.ones(3)), ids, cuis, sets)
    exact = {c: sum(Fraction(1, constant + own.index(c) + 1) for own in orders) for c in concepts}
    assert found["cui"].to_pylist() == sorted(concepts, key=lambda c: (-exact[c], *(own.index(c) for own in orders)))


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_where_all_entries_are_equally_near_the_search_stays_in_its_memory(metric, monkeypatch):
    """A collapsed encoder: all entries must be fetched for every query, which is done a few queries at a time, and changes no ranking."""
    from mentionforge.normalization import search

    class Counting(VectorRetriever):
        most = 0

        def neighbours(self, queries, entries, fetch):
            self.most = max(self.most, len(queries) * fetch)
            return super().neighbours(queries, entries, fetch)

    rng = np.random.default_rng(6)
    vectors = np.tile(np.float32([0.6, 0.8]), (3000, 1))
    vectors[:5] = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 0]]
    index = IndexedEntries(vectors, np.arange(3000), rng.permutation(3000), np.ones(3000, np.int64), np.arange(3000))
    queries = np.tile(np.float32([[0.6, 0.8], [0.8, 0.6], [0.0, 0.0]]), (20, 1))
    whole = rank_concepts(queries, [index], VectorRetriever(metric))
    assert (np.bincount(whole.query) == 100).all()
    monkeypatch.setattr(search, "MAX_FETCHED", 20_000)
    counting = Counting(metric)
    assert columns(rank_concepts(queries, [index], counting)) == columns(whole) and 10_000 < counting.most <= 20_000
