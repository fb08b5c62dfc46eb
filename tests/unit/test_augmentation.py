"""The strategies, against set algebra written independently."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mentionforge import tables
from mentionforge.augmentation.strategies import Strategy, choose, choose_notes

CUIS = st.sets(st.sampled_from([f"C{i}" for i in range(8)]))
NOTES = st.dictionaries(st.tuples(st.sampled_from([f"C{i}" for i in range(8)]), st.integers(0, 12)), st.none()).map(lambda d: [(f"{c}-{i}", c) for c, i in d])


def kept(keep: str, notes: list, train: set, test: set, dose: int | None = None) -> set:
    return set(choose(Strategy(keep=keep, notes_per_concept=dose), notes, train, test))


@given(NOTES, CUIS, CUIS)
def test_strategies_are_the_papers_sets(notes: list, train: set, test: set) -> None:
    everything = set(notes)
    assert kept("none", notes, train, test) == set()
    assert kept("all", notes, train, test) == everything
    assert kept("in_test", notes, train, test) == {n for n in everything if n[1] in test}
    # Complements: what one strategy drops, its opposite keeps.
    assert kept("not_in_test", notes, train, test) == everything - kept("in_test", notes, train, test)
    assert kept("not_in_train", notes, train, test) == everything - {n for n in everything if n[1] in train}
    assert not {c for _, c in kept("not_in_test", notes, train, test)} & test
    assert not {c for _, c in kept("not_in_train", notes, train, test)} & train


@given(NOTES, CUIS, CUIS, st.integers(0, 5))
def test_a_larger_dose_contains_a_smaller_one(notes: list, train: set, test: set, dose: int) -> None:
    small, large = (kept("all", notes, train, test, d) for d in (dose, dose + 1))
    assert small <= large
    for cui in {c for _, c in notes}:
        have = sum(c == cui for _, c in notes)
        assert sum(c == cui for _, c in small) == min(dose, have)


@given(NOTES, CUIS, st.integers(0, 20), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_a_mixing_ratio_is_a_number_of_notes_per_mention(notes: list, train: set, mentions: int, ratio: float) -> None:
    def mixed(r: float) -> set:
        return set(choose(Strategy(keep="not_in_train", notes_per_mention=r), notes, train, set(), mentions))

    everything = kept("not_in_train", notes, train, set())
    assert len(mixed(ratio)) == min(len(everything), int(ratio * mentions)) and mixed(ratio) <= everything
    assert mixed(ratio) <= mixed(ratio + 0.5)


def test_a_dose_takes_notes_by_number_not_by_text() -> None:
    notes = [(f"C1-{i}", "C1") for i in (10, 2, 9)]
    assert kept("all", notes, set(), set(), 2) == {("C1-2", "C1"), ("C1-9", "C1")}


def test_concepts_of_a_split_are_all_cuis_of_its_mentions(tmp_path) -> None:
    def mention(split: str, cuis: list[str], n: int) -> dict:
        return {
            "doc_id": "d",
            "mention_id": f"m{n}",
            "split": split,
            "spans": [{"start": 0, "end": 1}],
            "surface": "x",
            "expanded": None,
            "entity_type": "Disease",
            "concept_ids": [],
            "cuis": cuis,
            "concept_cuis": [[c] for c in cuis],
            "composite": False,
            "ood_bucket": "unmapped",
        }

    rows = [mention("train", ["C1", "C2"], 0), mention("dev", ["C4"], 1), mention("test", ["C3"], 2), mention("test", [], 3)]
    tables.write(tables.MENTIONS, tmp_path / "mentions.parquet", rows)
    located = [{"note_id": f"C{i}-0", "cui": f"C{i}", "text": "t", "sentences": []} for i in range(1, 6)]
    tables.write(tables.LOCATED, tmp_path / "located.parquet", located)
    expected = {
        "not_in_train": ["C3", "C4", "C5"],
        "in_test": ["C3"],
        "not_in_test": ["C1", "C2", "C4", "C5"],
        "all": ["C1", "C2", "C3", "C4", "C5"],
        "none": [],
    }
    for keep, cuis in expected.items():
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps({"kind": "strategies", "name": "s", "settings": {"keep": keep}}))
        chosen = choose_notes(spec, tmp_path / "located.parquet", tmp_path / "mentions.parquet", tmp_path / "out.parquet")
        assert chosen["cui"].to_pylist() == cuis
        assert tables.provenance(tmp_path / "out.parquet")["counts"]["kept"] == len(cuis)
