"""Out-of-distribution buckets against an independent brute force."""

from hypothesis import given
from hypothesis import strategies as st

from mentionforge import tables
from mentionforge.corpora.buckets import Buckets, is_cut

MENTIONS = st.lists(
    st.tuples(st.sampled_from(["gout", "flu", "ms", "pain"]), st.sets(st.sampled_from(["C1", "C2", "C3", "C4", "C5"]), max_size=3), st.booleans()), max_size=14
).map(lambda mentions: sorted(mentions, key=lambda m: not m[2]))
"""Training mentions first."""


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
    buckets = Buckets()
    found = [buckets.add(*mention) for mention in mentions]
    assert found == list(brute_force(mentions))
    assert set(found) <= set(tables.BUCKETS)
    assert all(bucket in ("seen_mention", "unmapped") for bucket, is_train in zip(found, (m[2] for m in mentions), strict=True) if is_train)


def test_same_surface_of_another_concept_is_not_seen():
    """MS, multiple sclerosis in train: as mitral stenosis it is an unseen concept."""
    buckets = Buckets()
    assert not buckets.any_train
    assert buckets.add("ms", ["C1"], True) == "seen_mention"
    assert buckets.add("ms", ["C2"], False) == "unseen_concept"
    assert buckets.add("disseminated sclerosis", ["C1"], False) == "seen_concept"
    assert buckets.any_train


SENTENCES = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted).map(lambda cuts: list(zip(cuts[::2], cuts[1::2], strict=False)))
SPANS = st.lists(st.integers(0, 42), min_size=2, max_size=4, unique=True).map(sorted).map(lambda cuts: list(zip(cuts[::2], cuts[1::2], strict=False)))


@given(SPANS, SENTENCES)
def test_cut_agrees_with_brute_force(spans, sentences):
    assert is_cut(spans, sentences) == (not any(all(start <= a and b <= end for a, b in spans) for start, end in sentences))
