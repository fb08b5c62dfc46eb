"""Comparisons of a small run on disk, against counts made row by row in plain Python."""

import json

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mentionforge import tables
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.evaluation.compare import ComparedCell, MentionGroup, Outcomes, compare, comparison_rows, comparisons, count_range, notes_per_concept
from mentionforge.evaluation.seeds import Seeds
from mentionforge.evaluation.settings import Statistics

RNG = np.random.default_rng(17)
DOCUMENTS, PER_DOCUMENT = 30, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A corpus with 180 test mentions, a knowledge base, and cells with two linker settings; the cell smollm2 has two seeds."""
    folder = tmp_path_factory.mktemp("run")
    cuis = [f"C{i}" for i in range(12)]
    mentions, documents = [], []
    for d in range(DOCUMENTS + 5):
        split = "test" if d < DOCUMENTS else "train"
        documents.append({"doc_id": f"d{d:02d}", "split": split, "text": "word " * PER_DOCUMENT, "sentences": [{"start": 0, "end": 5 * PER_DOCUMENT}]})
        for m in range(PER_DOCUMENT):
            own = sorted({cuis[int(c)] for c in RNG.integers(0, 12, RNG.integers(1, 3))}) if m else []
            mentions.append(
                {
                    "doc_id": f"d{d:02d}",
                    "mention_id": f"d{d:02d}-{m}",
                    "split": split,
                    "spans": [{"start": 5 * m, "end": 5 * m + 4}],
                    "surface": "word",
                    "entity_type": "Disease",
                    "concept_ids": [f"MSH:{c}" for c in own],
                    "cuis": own,
                    "composite": False,
                    "ood_bucket": ("seen_concept" if m % 2 else "unseen_concept") if own else "unmapped",
                }
            )
    extra = {"expanded": None, "concept_cuis": None}
    for row in mentions:  # columns that other versions of the table have, too
        row |= {name: ([[c] for c in row["cuis"]] if name == "concept_cuis" else None) for name in extra if name in tables.MENTIONS.schema.names}
    tables.write(tables.MENTIONS, folder / "corpora/c/mentions.parquet", mentions)
    tables.write(tables.DOCUMENTS, folder / "corpora/c/documents.parquet", documents)
    tables.write(
        tables.CONCEPTS,
        folder / "kb/k/concepts.parquet",
        [{"cui": c, "preferred_name": c, "definition": None, "semantic_types": ["T047", "T191"] if i % 3 else ["T191"]} for i, c in enumerate(cuis)],
    )
    names = [(c, f"{c} name {j}") for i, c in enumerate(cuis) for j in range(1 + i * 2)]
    tables.write(
        tables.NAMES, folder / "kb/k/names.parquet", [{"cui": c, "name": n, "source": "X", "term_type": "PT", "preferred": n.endswith(" 0")} for c, n in names]
    )
    settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}).model_dump(mode="json")
    (folder / "corpus.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
    asked = [m for m in mentions if m["split"] == "test" and m["cuis"]]
    ranks, chosen = {}, []
    for generator, strategy, gain in (
        ("none", "none", 0.3),
        ("names", "naive", 0.5),
        ("smollm2~seed=1", "naive", 0.7),
        ("smollm2~seed=2", "naive", 0.6),
    ):
        for index in ("train", "train+kb"):
            rows, found = [], {}
            for m in asked:
                rank = 1 if RNG.random() < gain + (0.1 if "kb" in index else 0) else int(RNG.integers(2, 6))
                found[m["mention_id"]] = rank
                ordered = [f"X{i}" for i in range(5)]
                ordered[rank - 1] = m["cuis"][0]
                rows += [{"mention_id": m["mention_id"], "rank": r + 1, "cui": c, "score": 1 - r / 10, "entry": c} for r, c in enumerate(ordered)]
            path = folder / f"normalization/c/{generator}/{strategy}/mention/{index}/predictions.parquet"
            tables.write(tables.LINKED, path, rows)
            ranks[generator, strategy, index] = found
        if generator != "none":
            path = folder / f"augmentation/c/{generator}/{strategy}/notes.parquet"
            notes = [{"note_id": f"{c}-{j}", "cui": c} for i, c in enumerate(cuis) for j in range(i)]
            tables.write(tables.CHOSEN, path, notes)
            chosen.append(path)
    compare(
        "normalization",
        folder / "corpora/c",
        folder / "corpus.json",
        folder / "kb/k",
        folder / "normalization",
        sorted((folder / "normalization").rglob("*.parquet")),
        chosen,
        ["names"],
        ["train=train+kb"],
        Statistics(resamples=199),
        folder / "out",
    )
    read = {t.name: tables.read(t, folder / f"out/{t.name}.parquet").to_pandas() for t in (tables.COMPARISONS, tables.CHANGES)}
    return asked, mentions, ranks, read["comparisons"], read["changes"]


def side(ranks, generator, index):
    """Ranks of the runs of a cell."""
    return [found for (g, _, i), found in sorted(ranks.items()) if g.split("~")[0] == generator and i == index]


def members(asked, mentions, slice_, group):
    """Mentions of a group, told apart with plain loops."""
    trained = [m for m in mentions if m["split"] == "train"]
    learned = {(t["surface"], c) for t in trained for c in t["cuis"]}  # the run has no dev
    found = []
    for m in asked:
        numbers = [int(c[1:]) for c in m["cuis"]]
        if (
            slice_ == "all"
            or (slice_ == "bucket" and m["ood_bucket"] == group)
            or (slice_ == "subset" and (group == "one_concept" or not learned & {(m["surface"], c) for c in m["cuis"]}))
            or (slice_ == "semantic_type" and (group == "T191" or any(i % 3 for i in numbers)))
            or (slice_ == "names" and count_range(max(1 + 2 * i for i in numbers)) == group)
            or (slice_ == "notes" and count_range(max(numbers)) == group)
            or (slice_ == "train_mentions" and count_range(max(sum(c in t["cuis"] for t in trained) for c in m["cuis"])) == group)
        ):
            found.append(m["mention_id"])
    return found


def test_every_row_equals_plain_counts(run):
    """Value, reference, difference, n, documents, fixed and broken of each comparison and group."""
    asked, mentions, ranks, table, _ = run
    assert set(table["slice"]) == set(tables.SLICES)
    for row in table.itertuples():
        wanted = members(asked, mentions, row.slice, row.group)
        here, there = side(ranks, row.generator, row.variant), side(ranks, row.reference_generator, row.reference_variant)
        score = (lambda rank: 1 / rank) if row.metric == "mrr" else (lambda rank: float(rank == 1))
        values = [np.mean([np.mean([score(found[m]) for m in wanted]) for found in runs]) for runs in (here, there)]
        assert (row.n, row.documents) == (len(wanted), len({m.split("-")[0] for m in wanted}))
        assert (row.runs, row.reference_runs) == (len(here), len(there))
        assert row.few == (len(wanted) < 30)
        assert [row.value, row.reference] == pytest.approx(values) and row.difference == pytest.approx(values[0] - values[1])
        assert row.low <= row.difference <= row.high and 0 < row.p <= row.p_adjusted <= 1
        if row.metric == "acc@1":
            gaps = [np.mean([score(f[m]) for f in here]) - np.mean([score(f[m]) for f in there]) for m in wanted]
            assert row.fixed == pytest.approx(sum(g for g in gaps if g > 0)) and row.broken == pytest.approx(-sum(g for g in gaps if g < 0))
            assert row.difference == pytest.approx((row.fixed - row.broken) / row.n)


def test_threads_change_nothing():
    """Every group has its own random stream: the rows are the same, in the same order, however many threads there are."""
    right = RNG.integers(0, 2, (3, 120)).astype(float)
    cells = [ComparedCell("none", "none", "m", "train"), ComparedCell("llm", "naive", "m", "train"), ComparedCell("names", "naive", "m", "train")]
    outcomes = Outcomes(
        {cell: {Seeds(): i} for i, cell in enumerate(cells)}, np.repeat(np.arange(24), 5), [f"m{i}" for i in range(120)], right, {"mrr": right / 2}
    )
    groups = [MentionGroup("all", "all", np.arange(120)), *(MentionGroup("bucket", str(i), np.flatnonzero(RNG.random(120) < 0.4)) for i in range(6))]
    one, four = (comparison_rows(outcomes, comparisons(cells, ["names"], {}), groups, Statistics(resamples=199), threads=n) for n in (1, 4))
    assert one == four and len(one) == 2 * 7 * 3


def test_groups_partition_the_mentions(run):
    asked, _, _, table, _ = run
    for (slice_, *_), part in table[table["metric"] == "acc@1"].groupby(["slice", *tables.CONTRAST]):
        assert part["n"].sum() == len(asked) or slice_ == "semantic_type"


def test_families_and_correction(run):
    """Declared comparisons stand in a family per linker, index and control, all and unseen mentions together; the others explore, by metric and slice."""
    _, _, _, table, _ = run
    confirmed = table[(table["role"] == "confirmatory")]
    declared = table["against"].isin(["baseline", "control"]) & (table["metric"] == "acc@1") & table["group"].isin(["all", "unseen_concept"])
    assert set(confirmed.index) == set(table[declared].index) and set(confirmed["adjustment"]) == {"holm"}
    assert set(table.loc[~declared, "role"]) == {"exploratory"} and set(table.loc[~declared, "adjustment"]) == {"bh"}
    # Two generators against none, on all and on unseen mentions; one against the control, likewise.
    sizes = confirmed.groupby(["against", "reference_generator", "variant"]).size().to_dict()
    assert sizes == {("baseline", "none", v): 4 for v in ("train", "train+kb")} | {("control", "names", v): 2 for v in ("train", "train+kb")}
    assert confirmed.groupby(["against", "reference_generator", "variant"])["family"].nunique().eq(1).all() and confirmed["family"].nunique() == 4
    for _, own in confirmed.groupby("family"):
        assert set(own["family_size"]) == {len(own)}
        assert own["p_adjusted"].min() == pytest.approx(min(1, own["p"].min() * len(own)))
    for _, own in table[~declared].groupby(["against", "metric", "slice"]):
        assert own["family"].nunique() == 1 and set(own["family_size"]) == {len(own)}
        assert own["p_adjusted"].to_numpy() == pytest.approx(false_discovery_control(own["p"]))
    assert table["family"].nunique() == 4 + table[~declared].groupby(["against", "metric", "slice"]).ngroups
    assert table["resamples"].ge(199).all() and (table.loc[~declared, "resamples"] == 199).all()
    # 30 documents allow 2^30 patterns of swaps; 199 swaps of a group without further ones allow p of 0.005.
    assert table["reachable"].all()


def test_a_family_on_too_few_documents_is_said():
    """Two strategies on three documents: of eight patterns of swaps two are the clearest, so that p is 0.25 at least."""
    cells = [ComparedCell("none", "none", "m", "train"), ComparedCell("llm", "naive", "m", "train"), ComparedCell("llm", "ideal", "m", "train")]
    right = np.concatenate([np.zeros((1, 12)), np.ones((2, 12))])
    for documents, reachable in ((3, False), (6, False), (12, True)):
        of = np.repeat(np.arange(documents), 12 // documents)
        outcomes = Outcomes({cell: {Seeds(): i} for i, cell in enumerate(cells)}, of, [f"m{i}" for i in range(12)], right, {"mrr": right})
        rows = comparison_rows(outcomes, comparisons(cells, [], {}), [MentionGroup("all", "all", np.arange(12))], Statistics(resamples=999, most_resamples=999))
        rows = [row for row in rows if row["metric"] == "acc@1"]
        assert {(row["role"], row["reachable"], row["family_size"]) for row in rows} == {("confirmatory", reachable, 2)}
        assert all((row["p_adjusted"] <= 0.05) == reachable for row in rows)  # they differ as clearly as they can


def test_what_intervals_hold(run):
    _, _, _, table, _ = run
    swept = table["generator"] == "smollm2"
    control = table["against"] == "control"  # its text has one seed
    assert set(table.loc[swept & ~control, "covers"]) == {"documents, generator seeds"} and set(table.loc[~swept, "covers"]) == {"documents"}
    assert set(table.loc[swept & control, "covers"]) == {"documents, generator seeds of the cell"}
    assert set(table.loc[swept, "generator_seeds"]) == {2} and set(table["training_seeds"]) == {1}
    cell, reference = ComparedCell("llm", "naive", "t", "mixed"), ComparedCell("none", "none", "t", "real_only")
    right = np.random.default_rng(3).integers(0, 2, (18, 40)).astype(float)

    def covers(here, there):
        runs = {cell: {s: i for i, s in enumerate(here)}, reference: {s: 9 + i for i, s in enumerate(there)}}
        outcomes = Outcomes(runs, np.repeat(np.arange(8), 5), [f"m{i}" for i in range(40)], right)
        (row,) = comparison_rows(
            outcomes, comparisons([cell, reference], ["template"], {}), [MentionGroup("all", "all", np.arange(40))], Statistics(resamples=99)
        )
        return row["covers"], row["generator_seeds"], row["training_seeds"]

    grid = [Seeds(g, t) for g in "123" for t in "123"]
    assert covers(grid, [Seeds("", t) for t in "123"]) == ("documents, generator seeds, training seeds", 3, 3)
    assert covers(grid[:3], [Seeds("", t) for t in "123"]) == ("documents, training seeds", 1, 3)
    assert covers(grid[::3], [Seeds("", "1")]) == ("documents, generator seeds", 3, 1)
    assert covers(grid[:3], [Seeds("", "1")]) == ("documents", 1, 3)
    reference = cell._replace(generator="template")
    assert covers(grid, grid) == ("documents, generator seeds, training seeds", 3, 3)
    assert covers(grid, grid[:3]) == ("documents, generator seeds of the cell, training seeds", 3, 3)


def test_dose_is_the_mean_over_all_seeds_of_a_generator(tmp_path):
    """Notes of each concept, counted by hand: a seed that kept none of a concept counts as 0."""
    kept = {
        ("llm~seed=1", "naive"): "AAB",
        ("llm~seed=2", "naive"): "ABBB",
        ("llm~seed=3", "naive"): "AAAC",
        ("llm~seed=1", "ideal"): "C",
        ("names", "naive"): "A",
    }
    paths = []
    for (generator, strategy), cuis in kept.items():
        paths.append(tmp_path / f"augmentation/c/{generator}/{strategy}/notes.parquet")
        tables.write(tables.CHOSEN, paths[-1], [{"note_id": f"n{i}", "cui": c} for i, c in enumerate(cuis)])
    found = notes_per_concept(paths)
    assert set(found) == {("llm", "naive"), ("llm", "ideal"), ("names", "naive")}
    assert [found["llm", "naive"][c] for c in "ABCD"] == pytest.approx([2, 4 / 3, 1 / 3, 0])
    assert [count_range(found["llm", "naive"][c]) for c in "ABCD"] == ["2-5", "2-5", "1", "0"]
    assert notes_per_concept(paths[::-1]) == notes_per_concept(paths)


def test_changes_are_those_of_the_ranks(run):
    asked, _, ranks, table, changes = run
    cuis = {m["mention_id"]: m["cuis"] for m in asked}
    for key, part in changes.groupby(list(tables.CONTRAST)):
        names = dict(zip(tables.CONTRAST, key, strict=True))
        here, there = side(ranks, names["generator"], names["variant"]), side(ranks, names["reference_generator"], names["reference_variant"])
        found = {m: (np.mean([f[m] == 1 for f in here]), np.mean([f[m] == 1 for f in there])) for m in cuis}
        expected = {m: ("fixed" if a > b else "broken", a, b) for m, (a, b) in found.items() if a != b}
        assert {r.mention_id: (r.change, r.right, r.reference_right) for r in part.itertuples()} == expected
        for r in part.itertuples():
            assert (r.predicted in cuis[r.mention_id]) == (here[0][r.mention_id] == 1)
            assert (r.reference_predicted in cuis[r.mention_id]) == (there[0][r.mention_id] == 1)
    overall = table[(table["slice"] == "all") & (table["metric"] == "acc@1")]
    assert len(overall) == len(changes.groupby(list(tables.CONTRAST)))


def test_what_is_compared():
    cells = [
        ComparedCell("none", "none", "m", "train"),
        ComparedCell("none", "none", "m", "train+kb"),
        ComparedCell("llm", "naive", "m", "train"),
        ComparedCell("llm", "naive", "m", "train+kb"),
        ComparedCell("names", "naive", "m", "train"),
        ComparedCell("llm", "naive", "other", "train"),
    ]
    found = {
        (c.cell.generator, c.cell.variant, c.against, c.reference.generator, c.reference.variant) for c in comparisons(cells, ["names"], {"train": "train+kb"})
    }
    assert found == {
        ("llm", "train", "baseline", "none", "train"),
        ("llm", "train", "control", "names", "train"),
        ("llm", "train", "kb", "none", "train+kb"),
        ("llm", "train+kb", "baseline", "none", "train+kb"),
        ("names", "train", "baseline", "none", "train"),
    }
    assert [count_range(n) for n in (0, 1, 2, 5, 6, 20, 21, 999)] == ["0", "1", "2-5", "2-5", "6-20", "6-20", "21+", "21+"]


def test_path_of_another_corpus_is_one_line(tmp_path):
    with pytest.raises(UserError, match="path names no cell"):
        from mentionforge.evaluation.compare import _path_levels

        _path_levels(tmp_path / "other/none/none/mention/train/predictions.parquet", tmp_path, "c", 5)
