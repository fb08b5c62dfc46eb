"""Hard pairs: those of SapBERT's miner where no name is ambiguous; strings that share a concept are never pushed apart."""

import itertools

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner, TripletMarginMiner

from mentionforge import tables
from mentionforge.normalization.linkers import Alignment, SelfAlignedLinker
from mentionforge.normalization.linkers.self_aligned import training as alignment
from mentionforge.normalization.linkers.self_aligned.mining import hard_pairs, share_concept

BATCH = [
    ("dm", "diabetes"), ("diabetes mellitus", "diabetes"), ("sugar disease", "diabetes"),
    ("dm", "dermatomyositis"), ("dermatomyositis", "dermatomyositis"),
    ("steinert disease", "dystrophy"), ("myotonic dystrophy", "dystrophy"),
    ("myotonia atrophica", "atrophica"), ("gout", "gout"),
]  # fmt: skip
"""Strings and the concept that each was drawn for."""

OWNERS = {
    "dm": {"diabetes", "dermatomyositis"},
    # Two entries of one disease in two vocabularies; a third concept, which is not in the batch, has both of these names.
    "myotonic dystrophy": {"dystrophy", "dm1"},
    "myotonia atrophica": {"atrophica", "dm1"},
}


def vectors_of(count: int, seed: int, spread: float = 0.6) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(1 + spread * rng.standard_normal((count, 8)), dtype=torch.float32)


def ours(vectors, labels, common, miner, margin):
    a, p, b, n = hard_pairs(vectors, labels, common, miner, margin)
    return set(zip(a.tolist(), p.tolist(), strict=True)), set(zip(b.tolist(), n.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.05, 0.2, 0.5])
def test_without_ambiguous_names_these_are_the_pairs_of_the_published_miners(seed, margin):
    labels = torch.tensor(np.random.default_rng(seed).integers(0, 12, 40))
    vectors, none = vectors_of(40, seed), labels[:, None] == labels[None, :]
    a, p, n = TripletMarginMiner(margin=margin, type_of_triplets="all")(vectors, labels)
    pairs = set(zip(a.tolist(), p.tolist(), strict=True)), set(zip(a.tolist(), n.tolist(), strict=True))
    assert ours(vectors, labels, none, "triplet", margin) == pairs and pairs[0] and pairs[1]
    a, p, b, n = MultiSimilarityMiner(epsilon=margin)(vectors, labels)
    assert ours(vectors, labels, none, "multi_similarity", margin) == (
        set(zip(a.tolist(), p.tolist(), strict=True)),
        set(zip(b.tolist(), n.tolist(), strict=True)),
    )
    # The loss sees a matrix of pairs, so that a pair of many triplets counts once.
    loss = MultiSimilarityLoss(alpha=1, beta=60, base=0.5)
    triplets = TripletMarginMiner(margin=margin, type_of_triplets="all")(vectors, labels)
    torch.testing.assert_close(loss(vectors, labels, triplets), loss(vectors, labels, hard_pairs(vectors, labels, none, "triplet", margin)))


def test_one_concept_or_all_different_has_no_hard_pair():
    vectors = vectors_of(6, 0)
    for labels in (torch.zeros(6, dtype=torch.int64), torch.arange(6)):
        for miner in ("triplet", "multi_similarity"):
            assert ours(vectors, labels, labels[:, None] == labels[None, :], miner, 0.2) == (set(), set())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("miner", ["triplet", "multi_similarity"])
def test_strings_of_one_concept_are_no_negative_pair(seed, miner):
    """Every pair and triplet of a made batch, one by one."""
    concepts = sorted({c for _, c in BATCH})
    labels = torch.tensor([concepts.index(c) for _, c in BATCH])
    of = [OWNERS.get(text, {c}) for text, c in BATCH]
    unit = torch.nn.functional.normalize(vectors_of(len(BATCH), seed), dim=1).double().numpy()
    cosine = unit @ unit.T
    distance = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    positive = {(i, j) for i, j in itertools.permutations(range(9), 2) if BATCH[i][1] == BATCH[j][1]}
    negative = {(i, j) for i, j in itertools.permutations(range(9), 2) if not of[i] & of[j]}
    hard = set(), set()
    for (a, p), (b, n) in itertools.product(positive, negative):
        violates = distance[a, n] - distance[a, p] <= 0.2 if miner == "triplet" else cosine[a, p] - cosine[a, n] < 0.2
        if a == b and violates:
            hard[0].add((a, p))
            hard[1].add((a, n))
    found = ours(torch.tensor(unit, dtype=torch.float32), labels, torch.tensor(share_concept(of)), miner, 0.2)
    assert found == hard
    named = {frozenset((BATCH[i][0], BATCH[j][0])) for i, j in found[1]}
    for kept_together in (("dm",), ("dm", "dermatomyositis"), ("dm", "diabetes mellitus"), ("myotonic dystrophy", "myotonia atrophica")):
        assert frozenset(kept_together) not in named


def test_true_negatives_of_an_ambiguous_name_stay():
    """The other names of the two concepts are still pushed apart, and so is the ambiguous name from third concepts."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2])  # dm and diabetes; dm and dermatomyositis; two names of gout
    common = torch.tensor(share_concept([{"a", "b"}, {"a"}, {"a", "b"}, {"b"}, {"c"}, {"c"}]))
    _, negatives = ours(torch.ones(6, 4), labels, common, "triplet", 0.2)
    assert {(1, 3), (3, 1), (0, 4), (2, 4), (4, 0)} <= negatives
    assert not negatives & {(0, 2), (0, 3), (2, 0), (2, 1), (1, 2), (3, 0)}


def test_all_concepts_of_a_string_are_known(tmp_path):
    """As a name anywhere in the knowledge base, in any case, and as a mention of the training split; not as one of dev or test."""
    names = [("C1", "DM"), ("C1", "diabetes"), ("C2", "dm"), ("C2", "dermatomyositis"), ("C3", "Diabetes"), ("C4", "gout"), ("C4", "podagra")]
    tables.write(tables.NAMES, tmp_path / "names.parquet", [{"cui": c, "name": n, "source": "S", "term_type": "T", "preferred": True} for c, n in names])
    tables.write(tables.XREFS, tmp_path / "xrefs.parquet", [{"source": "MSH", "code": c, "cui": c, "via": "x"} for c in ("C1", "C2", "C4")])
    mentions = []
    for i, (split, surface, cuis) in enumerate([("train", "Gout", ["C2"]), ("dev", "podagra", ["C1"]), ("test", "diabetes", ["C2"])]):
        row = {
            "doc_id": "d", "mention_id": f"m{i}", "split": split, "spans": [{"start": 0, "end": 1}], "surface": surface, "expanded": None, "entity_type": "D",
            "concept_ids": [], "cuis": cuis, "concept_cuis": [], "composite": False, "ood_bucket": "seen_concept",
        }  # fmt: skip
        mentions.append({c.name: row[c.name] for c in tables.MENTIONS.columns})
    tables.write(tables.MENTIONS, tmp_path / "mentions.parquet", mentions)
    linker = SelfAlignedLinker(kind="self_aligned", model="minilm", train=Alignment(xrefs=("MSH",)))
    material = alignment.load_training_data(linker, tmp_path, tmp_path / "mentions.parquet")
    assert list(material.names) == ["C1", "C2", "C4"]
    assert material.concepts_of == {"dm": {"C1", "C2"}, "diabetes": {"C1", "C3"}, "dermatomyositis": {"C2"}, "gout": {"C2", "C4"}, "podagra": {"C4"}}
