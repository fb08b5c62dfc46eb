"""What the report says of its intervals and p values; and a three-seed table of recognition in one run, against plain counts."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mentionforge import tables
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.evaluation.compare import compare
from mentionforge.evaluation.recognition import evaluate
from mentionforge.evaluation.settings import Statistics
from mentionforge.report import confidence, layouts, summary, tidy
from mentionforge.report.closing import print_closing
from mentionforge.report.document import recognition_over_seeds

DOCUMENTS, WORDS = 40, 12


def row(**changed) -> dict:
    base = {"task": "recognition", "corpus": "c", "system": "tagger", "variant": "mixed", "generator": "llm", "strategy": "naive", "against": "baseline"}
    base |= {"slice": "all", "group": "all", "metric": "strict_f1", "role": "confirmatory", "family": "baseline: tagger, mixed", "family_size": 2}
    base |= {"adjustment": "holm", "p_adjusted": 0.031, "reachable": True, "resamples": 9999, "generator_seeds": 1, "training_seeds": 1, "covers": "documents"}
    return base | changed


def test_what_one_interval_holds_is_said():
    both = "documents, generator seeds, training seeds"
    assert confidence.coverage_text(row()) == "over documents, without what text of another generator seed would give or what another training seed would give"
    assert confidence.coverage_text(row(covers=both, generator_seeds=3, training_seeds=5)) == "over documents, 3 generator seeds and 5 training seeds"
    control = row(covers="documents, generator seeds of the cell, training seeds", generator_seeds=3, training_seeds=3, against="control")
    assert (
        confidence.coverage_text(control)
        == "over documents, 3 generator seeds and 3 training seeds, without what another seed of the text compared with would give"
    )
    assert "training" not in confidence.coverage_text(row(task="normalization", variant="train", metric="acc@1"))
    assert "training" not in confidence.coverage_text(row(variant="untrained"))
    assert confidence.corrected_p_text(row()) == "Holm p 0.031 in a family of 2"
    assert confidence.corrected_p_text(row(adjustment="bh", reachable=False)).startswith(
        "Benjamini-Hochberg p 0.031 in a family of 2, in which nothing could be"
    )


def test_the_page_says_what_single_seeds_leave_out():
    found = pd.DataFrame([row(), row(strategy="ideal"), row(strategy="all", covers="documents, training seeds", training_seeds=3)])
    single, several = confidence.intervals(found)
    assert (
        "2 of 3 cells hold the choice of test documents." in single and "another generator seed would give and what another training seed would give" in single
    )
    assert "1 of 3 cells hold the choice of test documents and training seeds." in several and "another training seed" not in several
    (whole,) = confidence.intervals(pd.DataFrame([row(covers="documents, generator seeds, training seeds")]))
    assert "leave out" not in whole
    assert confidence.intervals(found.iloc[:0]) == [] == confidence.statements(found.iloc[:0])


def test_families_in_which_nothing_could_be_significant_are_named():
    found = pd.DataFrame(
        [row(), row(family="baseline: tagger, synthetic_only", reachable=False), row(family="x", role="exploratory", adjustment="bh", reachable=False)]
    )
    (said,) = confidence.unreachable(found)
    assert "1 of 2 confirmatory families" in said and "recognition, c, baseline: tagger, synthetic_only" in said and "baseline: tagger, mixed" not in said
    assert confidence.unreachable(found.iloc[:1]) == []
    (counted,) = confidence.roles(found)
    assert "2 comparisons were declared" in counted and "in 2 families" in counted and "The other 1" in counted and "exploratory" in counted
    table = confidence.family_table(found).set_index("family")
    assert table["could be significant"].to_dict()["baseline: tagger, synthetic_only"] == "no, nothing could" and table.loc["x", "correction"] == "bh"


# ------------------------------------------------------------------------------------------- several seeds in one run, from files


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Predictions of real text alone with three seeds, and of a schedule with three training seeds and two generator seeds."""
    folder, rng = tmp_path_factory.mktemp("seeds"), np.random.default_rng(5)
    places = [(5 * w, 5 * w + 4) for w in range(WORDS)]
    documents, mentions, gold = [], [], {}
    for d in range(DOCUMENTS):
        name = f"d{d:02d}"
        documents.append({"doc_id": name, "split": "test", "text": "word " * WORDS, "sentences": [{"start": 0, "end": 5 * WORDS - 1}]})
        gold[name] = {int(w) for w in rng.choice(WORDS, rng.integers(1, 5), replace=False)}
        for w in sorted(gold[name]):
            start, end = places[w]
            own = {"doc_id": name, "mention_id": f"{name}-{w:02d}", "split": "test", "spans": [{"start": start, "end": end}], "surface": "word"}
            own |= {"entity_type": "Disease", "concept_ids": ["MSH:C1"], "cuis": ["C1"], "composite": False, "ood_bucket": tables.BUCKETS[w % 3]}
            mentions.append(own | {k: v for k, v in (("expanded", None), ("concept_cuis", [["C1"]])) if k in tables.MENTIONS.schema.names})
    tables.write(tables.DOCUMENTS, folder / "corpora/c/documents.parquet", documents)
    tables.write(tables.MENTIONS, folder / "corpora/c/mentions.parquet", mentions)
    tables.write(tables.CONCEPTS, folder / "kb/k/concepts.parquet", [{"cui": "C1", "preferred_name": "x", "definition": None, "semantic_types": ["T047"]}])
    tables.write(tables.NAMES, folder / "kb/k/names.parquet", [{"cui": "C1", "name": "x", "source": "X", "term_type": "PT", "preferred": True}])
    settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}).model_dump(mode="json")
    (folder / "corpus.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
    found, predictions = {}, []
    cells = [("none", "none", "real_only", t, 0.55) for t in (1, 2, 3)]
    cells += [(f"llm~seed={g}", "naive", "mixed", t, 0.75 + 0.03 * g) for g, t in itertools.product((1, 2), (1, 2, 3))]
    for generator, strategy, schedule, seed, share in cells:
        own = {d: {w for w in range(WORDS) if rng.random() < (share if w in gold[d] else 0.05)} for d in gold}
        path = folder / f"recognition/c/{generator}/{strategy}/tagger/{schedule}/seed{seed}/predictions.parquet"
        rows = [{"doc_id": d, "start": places[w][0], "end": places[w][1], "split": "test", "score": 1.0} for d in sorted(own) for w in sorted(own[d])]
        tables.write(tables.RECOGNIZED, path, rows)
        found[generator, seed] = own
        predictions.append(path)
    corpus, spec, base = folder / "corpora/c", folder / "corpus.json", folder / "recognition"
    evaluate(corpus, spec, base, predictions, folder / "evaluation/recognition/c.parquet")
    out = folder / "statistics/recognition/c"
    compare("recognition", corpus, spec, folder / "kb/k", base, predictions, [], [], [], Statistics(resamples=4999), out)
    metrics = tables.read(tables.METRICS, folder / "evaluation/recognition/c.parquet").to_pandas()
    return gold, found, metrics, tidy.tidy_comparisons([out / "comparisons.parquet"], "digest")


def test_the_table_of_several_seeds_equals_plain_counts(run):
    """Mean over seeds, difference and interval of the table's one cell with notes; the interval from the jackknife and the two-way mean squares."""
    gold, found, metrics, compared = run

    def f1(own, left_out=None):
        documents = [d for d in gold if d != left_out]
        return 2 * sum(len(own[d] & gold[d]) for d in documents) / sum(len(own[d]) + len(gold[d]) for d in documents)

    cell = np.array([[f1(found[f"llm~seed={g}", t]) for t in (1, 2, 3)] for g in (1, 2)])
    base = np.array([f1(found["none", t]) for t in (1, 2, 3)])
    table = layouts.recognition_table(metrics, compared).set_index("schedule")
    column = next(c for c in table.columns if ", F1" in c)
    assert table.loc["real_only", column] == f"{100 * base.mean():.1f}" and table.loc["real_only", "seeds"] == 3
    assert len(table) == 2 and table.loc["mixed", "generator"] == "llm" and table.loc["mixed", "seeds"] == 6
    row = compared[(compared["metric"] == "strict_f1") & (compared["slice"] == "all")].iloc[0]
    assert [row["value"], row["reference"]] == pytest.approx([cell.mean(), base.mean()])
    shown = f"{100 * cell.mean():.1f} {100 * (cell.mean() - base.mean()):+.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    assert table.loc["mixed", column] == shown
    assert (row["generator_seeds"], row["training_seeds"], row["covers"]) == (2, 3, tables.COVERS[-1])

    # Documents: leave each out. Seeds: mean squares of two-way tables, less what the documents give them.
    def mean_squares(grid):
        of_g, of_t = 3 * np.var(grid.mean(1), ddof=1), 2 * np.var(grid.mean(0), ddof=1)
        rest = ((grid - grid.mean(1, keepdims=True) - grid.mean(0, keepdims=True) + grid.mean()) ** 2).sum() / 2
        return np.array([of_g / 6, of_t / 6, -rest / 6])

    without = [np.array([[f1(found[f"llm~seed={g}", t], d) for t in (1, 2, 3)] for g in (1, 2)]) for d in gold]
    base_without = [np.array([f1(found["none", t], d) for t in (1, 2, 3)]) for d in gold]
    gaps = np.array([a.mean() - b.mean() for a, b in zip(without, base_without, strict=True)])
    of_documents = ((gaps - gaps.mean()) ** 2).sum()
    between = mean_squares(cell).sum() + np.var(base, ddof=1) / 3
    moved = sum(mean_squares(a - np.mean(without, axis=0)).sum() for a in without)
    moved += sum(np.var(b - np.mean(base_without, axis=0), ddof=1) / 3 for b in base_without)
    variance = of_documents + max(0.0, between - 0.9 * moved)
    freedom = between**2 / sum(x**2 / f for x, f in zip([*mean_squares(cell), np.var(base, ddof=1) / 3], (1, 2, 2, 2), strict=True))
    widths = [2 * stats.t.ppf(0.975, f) * math.sqrt(variance) for f in (DOCUMENTS, max(1.0, freedom))]
    assert 0.9 * min(widths) <= row["high"] - row["low"] <= 1.1 * max(widths)
    assert row["role"] == "confirmatory" and row["family_size"] == 2  # all mentions by F1, unseen concepts by recall


def test_every_way_of_reading_the_seeds_agrees(run):
    """The page, the CSV of seeds and the other tables count six runs of one cell, whose generator is named without its seed."""
    _, _, metrics, compared = run
    seeds = tidy.seed_scores(metrics)
    own = seeds[(seeds["measure"] == "strict F1, all mentions") & (seeds["generator"] == "llm")]
    assert own["seed"].tolist() == [f"{g}+{t}" for g in (1, 2) for t in (1, 2, 3)]
    scores = layouts.recognition_scores(metrics, tidy.error_counts([]))
    assert scores.loc[scores["schedule"] == "mixed", ["generator", "seeds"]].values.tolist() == [["llm", 6]]
    assert scores.loc[scores["schedule"] == "mixed", "strict, F1"].iloc[0] == f"{own['mean'].iloc[0]:.1f}"
    markdown = next(line for line in summary.recognition_table(metrics).splitlines() if " mixed " in line)
    assert " llm " in markdown and f"{own['mean'].iloc[0]:.1f} ± {own['sd'].iloc[0]:.1f}" in markdown
    (said, *_) = confidence.statements(compared)
    assert said == "Recognition: intervals and p values of 1 of 1 cells hold the choice of test documents, generator seeds and training seeds."


def test_the_document_has_the_table_with_intervals(run, tmp_path):
    _, _, metrics, compared = run
    (tmp_path / "summary").mkdir()
    metrics.to_csv(tmp_path / "summary/metrics.csv", index=False)
    compared.to_csv(tmp_path / "summary/comparisons.csv", index=False)
    text = recognition_over_seeds(tmp_path)
    table = layouts.recognition_table(metrics, compared).set_index("schedule")
    column = next(c for c in table.columns if ", F1" in c)
    assert table.loc["mixed", column] in text and "generator seeds and training seeds" in text and "confirmatory" in text
    compared.drop(columns="covers").to_csv(tmp_path / "summary/comparisons.csv", index=False)
    for asked in (recognition_over_seeds, print_closing):
        with pytest.raises(UserError, match="summary of another version"):
            asked(tmp_path)
