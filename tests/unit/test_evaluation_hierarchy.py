"""Errors by hierarchy, against walks of networkx on random graphs with cycles, and cells worked out by hand."""

import json
from pathlib import Path

import networkx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mentionforge import tables
from mentionforge.corpora.settings import Corpus
from mentionforge.evaluation.hierarchy import ErrorClassifier, Hierarchy, Relation, first_wrong_concepts
from mentionforge.evaluation.normalization import evaluate
from mentionforge.report.comparable import hierarchy_counts, hierarchy_tables
from mentionforge.report.writers import latex


def parents(*pairs: tuple[str, str]) -> pa.Table:
    return tables.build(tables.PARENTS, [{"cui": c, "parent": p, "source": s} for s in ("A", "B") for c, p in pairs])


#        top
#      /  |  \
#  joint skin  pain      gout and arthritis below joint, acute below gout, eczema below skin
TREE = parents(
    ("joint", "top"), ("skin", "top"), ("pain", "top"), ("gout", "joint"), ("arthritis", "joint"), ("acute", "gout"), ("eczema", "skin"), ("x", "y"), ("y", "x")
)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        (["gout"], "joint", ("ancestor", 1, "gout")),
        (["gout"], "top", ("ancestor", 2, "gout")),
        (["gout"], "acute", ("descendant", 1, "gout")),
        (["top"], "acute", ("descendant", 3, "top")),
        (["gout"], "arthritis", ("sibling", None, "gout")),
        (["gout"], "eczema", ("unrelated", None, None)),
        (["gout"], "nowhere", ("unplaced", None, None)),
        (["nowhere"], "gout", ("unplaced", None, None)),
        (["gout", "nowhere"], "eczema", ("unrelated", None, None)),
        (["eczema", "acute"], "joint", ("ancestor", 2, "acute")),  # a composite: the nearest of its concepts
        (["acute", "top"], "gout", ("ancestor", 1, "acute")),  # one step up, two down
        (["gout", "skin"], "arthritis", ("sibling", None, "gout")),
        (["top", "arthritis"], "gout", ("descendant", 2, "top")),  # a line is nearer than a sibling
        (["x"], "y", ("ancestor", 1, "x")),  # a cycle: up before down
    ],
)
def test_relations_by_hand(gold: list[str], predicted: str, expected: tuple) -> None:
    assert Hierarchy(TREE).relation(gold, predicted) == Relation(*expected)


@pytest.mark.parametrize("seed", range(4))
def test_relations_equal_networkx(seed: int) -> None:
    """Random graphs of 60 concepts, dense enough for cycles: shortest ways up and down, and common parents."""
    rng = np.random.default_rng(seed)
    pairs = sorted({(f"C{a}", f"C{b}") for a, b in rng.integers(0, 60, (75, 2)) if a != b})
    graph, hierarchy = networkx.DiGraph(pairs), Hierarchy(parents(*pairs))
    up = {a: networkx.single_source_shortest_path_length(graph, a) for a in graph}
    seen = set()
    for _ in range(2000):
        gold, wrong = [f"C{i}" for i in rng.choice(64, rng.integers(1, 4), replace=False)], f"C{rng.integers(64)}"
        if wrong in gold:
            continue
        lines = [(up[g][wrong], "ancestor", g) for g in gold if g in up and wrong in up[g]]
        lines += [(up[wrong][g], "descendant", g) for g in gold if wrong in up and g in up[wrong]]
        near = [g for g in gold if wrong in graph and g in graph and set(graph.successors(g)) & set(graph.successors(wrong))]
        if wrong not in graph or not any(g in graph for g in gold):
            expected = Relation("unplaced")
        elif lines:
            distance, kind, g = min(lines)
            expected = Relation(kind, distance, g)
        else:
            expected = Relation("sibling", None, min(near)) if near else Relation("unrelated")
        assert hierarchy.relation(gold, wrong) == expected
        seen.add(expected.kind)
    assert seen == set(tables.RELATIONS) - {"missing"}


@pytest.mark.slow
def test_a_large_hierarchy_with_cycles_is_fast() -> None:
    """Six hundred thousand pairs: lines are walked for the concepts asked for alone."""
    import time

    rng = np.random.default_rng(2)
    size = 250_000
    child = rng.integers(1, size, 600_000)
    parent = (child * rng.random(len(child)) ** 2).astype(np.int64)
    parent[:2000] = rng.integers(0, size, 2000)  # some lead downwards: cycles
    names = np.char.add("C", np.char.zfill(np.arange(size).astype(str), 7))
    table = pa.table({"cui": names[child], "parent": names[parent], "source": np.full(len(child), "X")})
    start = time.process_time()
    judge = ErrorClassifier(table, pa.array([f"m{i}" for i in range(3000)]), [[names[c]] for c in rng.integers(0, size, 3000)])
    linked = tables.build(
        tables.LINKED, [{"mention_id": f"m{i}", "rank": 1, "cui": str(names[c]), "score": 1.0, "entry": "e"} for i, c in enumerate(rng.integers(0, size, 3000))]
    )
    rows = judge.errors(linked, np.full(3000, np.inf))
    assert len(rows) == 3000 and {row["relation"] for row in rows} >= {"ancestor", "unrelated"}
    assert time.process_time() - start < 30


def linked(found: dict[str, list[str]]) -> pa.Table:
    return tables.build(
        tables.LINKED, [{"mention_id": m, "rank": r, "cui": c, "score": 1 / r, "entry": c} for m, cuis in found.items() for r, c in enumerate(cuis, 1)]
    )


def test_the_first_wrong_concept() -> None:
    ids = pa.array(["a", "b", "c", "d"])
    found = {"d": ["1", "2", "9"], "a": ["5", "1"], "b": ["1"]}
    assert first_wrong_concepts(ids, [["1"], ["1"], ["1"], ["2", "1"]], linked(found)) == ["5", None, None, "9"]
    assert first_wrong_concepts(ids, [["1"]] * 4, linked({})) == [None] * 4


def mention(name: str, *concepts: str, bucket: str = "seen_mention", split: str = "test") -> dict:
    place = {"doc_id": "d", "mention_id": name, "split": split, "spans": [{"start": 0, "end": 1}], "surface": name, "expanded": None, "entity_type": "Disease"}
    ids = {"concept_ids": [f"MSH:{c}" for c in concepts], "cuis": sorted(concepts), "concept_cuis": [[c] for c in concepts], "composite": len(concepts) > 1}
    return place | ids | {"ood_bucket": bucket}


@pytest.fixture
def cell(tmp_path: Path):
    """Evaluates one cell of six mentions under a composite policy; returns metrics, errors and the folder."""
    mentions = [mention("m1", "gout"), mention("m2", "gout"), mention("m3", "gout", "skin"), mention("m4", "eczema", bucket="unseen_concept")]
    mentions += [
        mention("m5", "gout", "skin"),
        mention("m6", "pain", bucket="unseen_concept"),
        mention("u", bucket="unmapped"),
        mention("t", "gout", split="train"),
    ]
    tables.write(tables.MENTIONS, tmp_path / "corpora/c/mentions.parquet", mentions)
    found = {"m1": ["gout"], "m2": ["joint", "gout"], "m3": ["gout", "eczema", "skin"], "m4": ["top"], "m5": ["gout"]}
    path = tmp_path / "normalization/c/none/none/l/kb/predictions.parquet"
    tables.write(tables.LINKED, path, linked(found))

    def run(policy: str, table: pa.Table = TREE, missing: str | None = None) -> tuple[dict, list[dict]]:
        settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}, composite=policy).model_dump(mode="json")
        (tmp_path / "c.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
        tables.write(tables.PARENTS, tmp_path / "kb/k/parents.parquet", table, {"hierarchy": {"missing": missing}})
        out, errors = tmp_path / "evaluation/c.parquet", tmp_path / "evaluation/c.errors.parquet"
        evaluate(tmp_path / "corpora/c", tmp_path / "c.json", tmp_path / "normalization", [path], out, None, tmp_path / "kb/k/parents.parquet", errors)
        metrics = tables.read(tables.METRICS, out).to_pylist()
        return {(m["bucket"], m["metric"]): (m["value"], m["n"]) for m in metrics}, tables.read(tables.NORMALIZATION_ERRORS, errors).to_pylist()

    return run


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("any", {"m2": ("joint", "ancestor", 1), "m4": ("top", "ancestor", 2), "m6": (None, "missing", None)}),
        # Both concepts are asked for: eczema, below skin, stands before skin; and m5 lacks skin, though nothing wrong is ranked.
        (
            "all",
            {
                "m2": ("joint", "ancestor", 1),
                "m3": ("eczema", "descendant", 1),
                "m4": ("top", "ancestor", 2),
                "m5": (None, "missing", None),
                "m6": (None, "missing", None),
            },
        ),
    ],
)
def test_a_cell_by_hand(cell, policy: str, expected: dict) -> None:
    metrics, errors = cell(policy)
    assert {e["mention_id"]: (e["predicted"], e["relation"], e["distance"]) for e in errors} == expected
    shares = {kind: metrics["all", f"error_{kind}"][0] for kind in tables.RELATIONS}
    assert sum(shares.values()) == pytest.approx(1 - metrics["all", "acc@1"][0]), "every error is of one kind"
    assert metrics["all", "error_ancestor"] == (pytest.approx(2 / 6), 6)
    assert metrics["unseen_concept", "error_ancestor"] == (0.5, 2) and metrics["unseen_concept", "error_missing"] == (0.5, 2)
    assert metrics["seen_concept", "error_ancestor"] == (None, 0)


def test_no_hierarchy_is_said_and_nothing_else_changes(cell, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    full, _ = cell("any")
    bare, errors = cell("any", TREE[:0], "MRREL.RRF is not in the release")
    assert errors == [] and bare == {k: v for k, v in full.items() if not k[1].startswith("error_")}
    assert "knowledge base k has no hierarchy, so errors are not told by it: MRREL.RRF is not in the release" in capsys.readouterr().err
    counts = hierarchy_counts([tmp_path / "evaluation/c.errors.parquet"], tidy(tmp_path))
    [table, without] = hierarchy_tables(counts)
    assert table.frame.empty and without.frame.values.tolist() == [["c", "k", "MRREL.RRF is not in the release"]]


def tidy(folder: Path) -> pd.DataFrame:
    return tables.read(tables.METRICS, folder / "evaluation/c.parquet").to_pandas()


def test_the_report_counts_kinds_and_steps(cell, tmp_path: Path) -> None:
    cell("all")
    counts = hierarchy_counts([tmp_path / "evaluation/c.errors.parquet"], tidy(tmp_path))
    rows = {(r.relation, None if pd.isna(r.distance) else int(r.distance)): (r.count, r.n, r.share) for r in counts.itertuples(index=False)}
    expected = {("ancestor", 1): 1, ("ancestor", 2): 1, ("descendant", 1): 1, ("missing", None): 2}
    assert {k: v[1:] for k, v in rows.items()} == {k: (6, n / 6) for k, n in expected.items()}
    [table, without] = hierarchy_tables(counts)
    assert without.frame.empty
    row = table.frame.iloc[0].to_dict()
    assert [row[f"error, {c}"] for c in ("all", "parent", "higher", "child", "lower", "sibling", "none ranked")] == [
        "83.3 n=5",
        "16.7",
        "16.7",
        "16.7",
        "0.0",
        "0.0",
        "33.3",
    ]
    assert "83.3" in latex(table)
