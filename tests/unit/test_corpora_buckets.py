"""Out-of-distribution buckets against an independent brute force."""

from hypothesis import given
from hypothesis import strategies as st

from mentionforge import tables
from mentionforge.corpora.buckets import is_cut, ood_buckets

MENTIONS = st.lists(
    st.tuples(st.sampled_from(["gout", "flu", "ms", "pain"]), st.sets(st.sampled_from(["C1", "C2", "C3", "C4", "C5"]), max_size=3), st.booleans()), max_size=14
)


def brute_force(mentions):
    for surface, cuis, _ in mentions:
        train = [(s, c) for s, c, is_train in mentions if is_train]
        shared = [s for s, c in train if c & cuis]
        if not cuis:
            yield "unmapped"
        elif not shared:
            yield "unseen_concept"
        else:
            yield "seen_mention" if surface in shared else "seen_concept"


@given(MENTIONS)
def test_buckets_agree_with_brute_force(mentions):
    surfaces, cuis, train = ([m[i] for m in mentions] for i in range(3))
    found = ood_buckets(surfaces, cuis, train)
    assert found == list(brute_force(mentions))
    assert set(found) <= set(tables.BUCKETS)
    assert all(bucket in ("seen_mention", "unmapped") for bucket, is_train in zip(found, train, strict=True) if is_train)


def test_same_surface_of_another_concept_is_not_seen():
    """MS, multiple sclerosis in train: as mitral stenosis it is an unseen concept."""
    assert ood_buckets(["ms", "ms", "disseminated sclerosis"], [["C1"], ["C2"], ["C1"]], [True, False, False]) == [
        "seen_mention",
        "unseen_concept",
        "seen_concept",
    ]


SENTENCES = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted).map(lambda cuts: list(zip(cuts[::2], cuts[1::2], strict=False)))
SPANS = st.lists(st.integers(0, 42), min_size=2, max_size=4, unique=True).map(sorted).map(lambda cuts: list(zip(cuts[::2], cuts[1::2], strict=False)))


@given(SPANS, SENTENCES)
def test_cut_agrees_with_brute_force(spans, sentences):
    assert is_cut(spans, sentences) == (not any(all(start <= a and b <= end for a, b in spans) for start, end in sentences))
