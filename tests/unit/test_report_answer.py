"""The answer on the report's first screen: sentences and figure of comparisons whose numbers are given."""

import pandas as pd
import pytest

from mentionforge.report.answer import answer_figure, answer_sentences


def comparison(corpus: str, variant: str, generator: str, against: str, difference: float, p: float, **changed) -> dict:
    names = "names" if against == "control" else "none"
    base = {"task": "normalization", "corpus": corpus, "system": "mention", "variant": variant, "generator": generator, "strategy": "supplemental"}
    base |= {"against": against, "reference_generator": names, "reference_system": "mention", "slice": "bucket", "group": "unseen_concept", "metric": "acc@1"}
    base |= {
        "value": 0.5,
        "reference": 0.5 - difference,
        "difference": difference,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "p": p,
        "p_adjusted": p,
    }
    return base | {"role": "confirmatory", "n": 100, "documents": 40, "runs": 1, "covers": "documents", "few": False} | changed


ROWS = [
    comparison("a", "train", "llm", "baseline", 0.10, 0.001),
    comparison("b", "train", "llm", "baseline", 0.203, 0.2),
    comparison("a", "train", "names", "baseline", 0.5, 0.001),
    comparison("a", "train+kb", "llm", "baseline", 0.0, 1.0),
    comparison("b", "train+kb", "llm", "baseline", -0.012, 0.04),
    comparison("a", "kb", "llm", "baseline", 0.4, 0.001),
    comparison("a", "train", "llm", "control", -0.05, 0.01),
    comparison("b", "train", "llm", "control", 0.05, 0.01),
    # none of these is meant: all mentions, another linker, another strategy, another score
    comparison("a", "train", "llm", "baseline", 0.9, 0.001, slice="all", group="all"),
    comparison("a", "train", "llm", "baseline", 0.9, 0.001, system="tfidf"),
    comparison("a", "train", "llm", "baseline", 0.9, 0.001, strategy="naive"),
    comparison("a", "train", "llm", "baseline", 0.9, 0.001, metric="mrr"),
]


def test_three_sentences() -> None:
    assert answer_sentences(pd.DataFrame(ROWS), ["names"]) == [
        "With the paper's index (train), the text of llm changes acc@1 on concepts that the training data lack by +10.0 to +20.3 points "
        "(above zero beyond chance on 1 of 2 corpora).",
        "With the dictionary in the index (train+kb), it changes that score by −1.2 to +0.0 points (below zero beyond chance on 1 of 2 corpora).",
        "Against the control names, which has the same concepts without a language model, its score differs by −5.0 to +5.0 points "
        "(above zero beyond chance on 1 of 2 corpora and below zero beyond chance on 1 of 2 corpora).",
    ]


def test_nothing_is_said_without_text_of_a_model() -> None:
    controls_alone = [row for row in ROWS if row["generator"] == "names"]
    assert answer_sentences(pd.DataFrame(controls_alone), ["names"]) == []
    assert answer_sentences(pd.DataFrame(ROWS)[:0], ["names"]) == [] and answer_figure(pd.DataFrame(ROWS)[:0], ["names"]) == []


def test_figure_has_a_panel_for_each_comparison() -> None:
    [figure] = answer_figure(pd.DataFrame(ROWS), ["names"])
    assert [title for title, _ in figure.panels] == [
        "gain over no synthetic text, index train",
        "the same, index train+kb",
        "llm over the controls, index train",
    ]
    assert figure.legend[0][0] == "llm" and [name for name, _ in figure.legend] == ["llm", "names"]
    drawn = figure.data[(figure.data["variant"] == "train") & (figure.data["against"] == "baseline") & (figure.data["generator"] == "llm")]
    assert dict(zip(drawn["corpus"], drawn["points"], strict=True)) == {"a": pytest.approx(10.0), "b": pytest.approx(20.3)}


def test_one_corpus_is_one_number() -> None:
    rows = [row for row in ROWS if row["corpus"] == "a" and row["variant"] == "train"]
    assert answer_sentences(pd.DataFrame(rows), ["names"])[0].endswith("by +10.0 points (above zero beyond chance).")
