"""The page docs/comparison.md: published scores and ours side by side, a table per task and corpus.

In: a CSV file with one published score per row, its protocol and source; metrics.csv of a run of config/comparison.yaml. Out: the page, whose tables
between `<!-- TASK, CORPUS -->` and `<!-- end -->` are replaced. Text around the tables is written by hand.
Knows nothing of cells but those in `CELLS`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures
from mentionforge.errors import UserError
from mentionforge.layout import Results

OF_LINKING, OF_RECOGNITION, OF_MENTIONS = measures.main("normalization"), measures.main("recognition"), measures.of_groups("recognition")

COLUMNS = {
    "normalization": (OF_LINKING.label, "relaxed", "acc@5", "one concept", "distinct", "distinct, new surface", "new surface and concept"),
    "recognition": (
        OF_RECOGNITION.label,
        *(f"{OF_MENTIONS.short}, {mentions}" for mentions in ("known surface", "new surface, known concept", "new surface and concept")),
    ),
}
"""Columns of the tables: values of `measure` in the CSV file."""

OURS = {
    "normalization": {
        OF_LINKING.label: ("all", OF_LINKING.name),
        "relaxed": ("all", f"{OF_LINKING.name}_relaxed"),
        "acc@5": ("all", measures.BY_NAME["acc@5"].name),
        "one concept": ("one_concept", OF_LINKING.name),
        "distinct": ("distinct", OF_LINKING.name),
        "distinct, new surface": ("distinct_new_surface", OF_LINKING.name),
        "new surface and concept": ("new_surface_concept", OF_LINKING.name),
    },
    "recognition": {
        OF_RECOGNITION.label: ("all", OF_RECOGNITION.name),
        f"{OF_MENTIONS.short}, new surface and concept": ("new_surface_concept", OF_MENTIONS.name),
    },
}
"""Bucket and metric of our score for each column that we can fill."""

CORPORA = {
    "ncbi_all": ("NCBI Disease", ""),
    "ncbi_split": ("NCBI Disease", " split"),
    "bc5cdr_all": ("BC5CDR diseases", ""),
    "bc5cdr_split": ("BC5CDR diseases", " split"),
}
"""Corpora of config/comparison.yaml: name in the tables, and the suffix that their policy for composites adds to the protocol."""

CELLS = {
    ("normalization", "exact_abbr", "train+medic"): ("here: equal strings, `exact_abbr`", "D"),
    ("normalization", "tfidf", "train+medic"): ("here: TF-IDF, `tfidf`, abbreviations not resolved", "D"),
    ("normalization", "tfidf_abbr", "train+medic"): ("here: TF-IDF, `tfidf_abbr`", "D"),
    ("normalization", "mention", "train+medic"): ("here: MiniLM, `mention`, abbreviations not resolved", "D"),
    ("normalization", "mention_abbr", "train+medic"): ("here: MiniLM, `mention_abbr`", "D"),
    ("normalization", "hybrid", "train+medic"): ("here: MiniLM and TF-IDF, `hybrid`", "D"),
    ("recognition", "minilm", "real_only"): ("here: MiniLM", "G"),
    ("recognition", "dictionary", "untrained"): ("here: names of the knowledge base and of train", "G"),
}
"""Our cells in the tables: task, system and variant; label and protocol."""

TABLE = re.compile(r"<!-- (?P<task>\w+), (?P<corpus>[^>]+?) -->\n.*?<!-- end -->", re.S)


def our_scores_of(metrics: pd.DataFrame) -> pd.DataFrame:
    """Our cells as rows of the CSV file: scores on the test split in per cent, mean over seeds."""
    cells = metrics[(metrics["split"] == "test") & (metrics["strategy"] == "none") & metrics["corpus"].isin(list(CORPORA))]
    rows: list[dict[str, Any]] = []
    for (task, system, variant), (label, protocol) in CELLS.items():
        cell_scores = cells[(cells["task"] == task) & (cells["system"] == system) & (cells["variant"] == variant)]
        for measure, (bucket, metric) in OURS[task].items():
            matching = cell_scores[(cell_scores["bucket"] == bucket) & (cell_scores["metric"] == metric)]
            for key, corpus_scores in matching.groupby("corpus"):
                corpus, policy = CORPORA[str(key)]
                row = {"task": task, "corpus": corpus, "system": label, "protocol": protocol + policy, "measure": measure}
                rows.append(row | {"value": round(100 * corpus_scores["value"].mean(), 1), "n": int(corpus_scores["n"].max()), "source": "`make comparison`"})
    return pd.DataFrame(rows)


def table(scores: pd.DataFrame, task: str, corpus: str) -> str:
    """Markdown of one table, by protocol, best score first. n follows the first score of a row, and each score on another number of mentions."""
    corpus_scores = scores[(scores["task"] == task) & (scores["corpus"] == corpus)]
    columns = [c for c in COLUMNS[task] if c in set(corpus_scores["measure"])]
    rows = []
    for (system, protocol), system_scores in corpus_scores.groupby(["system", "protocol"], sort=False):
        row: dict[str, Any] = {"protocol": protocol, "system": system}
        first_n = None
        for column in columns:
            matching = system_scores[system_scores["measure"] == column]
            if matching.empty:
                row[column] = ""
                continue
            value, n = matching["value"].iloc[0], matching["n"].iloc[0]
            row[column] = f"{value:.1f}" + ("" if pd.isna(n) or n == first_n else f" ({int(n):,})")
            first_n = n if first_n is None else first_n
        rows.append(row | {"source": system_scores["source"].iloc[0]})
    rows.sort(key=lambda r: (r["protocol"], -float(r[columns[0]].split(" ")[0] or 0)))
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def write_page(csv: Path, page: Path, results: Path | None) -> None:
    """Fill the tables of the page.

    Args:
        csv: Published scores.
        page: Markdown with the marks of the tables.
        results: Folder of a finished run of config/comparison.yaml; none: published scores only.

    Raises:
        UserError: The run has no metrics.csv, or the page has no marks.
    """
    scores = pd.read_csv(csv)
    text = page.read_text(encoding="utf-8")
    if results:
        metrics = Path(Results(str(results)).summary("metrics.csv"))
        if not metrics.is_file():
            raise UserError("no metrics", str(metrics), "the workflow has not finished", "run make comparison")
        our_scores = our_scores_of(pd.read_csv(metrics, keep_default_na=False, na_values=[""]))
        scores = pd.concat([scores, our_scores], ignore_index=True)
    if not TABLE.search(text):
        raise UserError("no place for a table", str(page), "there is no <!-- TASK, CORPUS --> with its <!-- end -->", "put them where the tables are to stand")
    filled = TABLE.sub(lambda m: f"<!-- {m['task']}, {m['corpus']} -->\n{table(scores, m['task'], m['corpus'])}\n<!-- end -->", text)
    temporary = page.with_name(f".{page.name}.tmp")
    temporary.write_text(filled, encoding="utf-8")
    temporary.replace(page)
