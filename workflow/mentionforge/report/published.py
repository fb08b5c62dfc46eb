"""The page docs/comparison.md: published scores and ours side by side, a table per task and corpus.

In: a CSV file with one published score per row, its protocol and source; metrics.csv of a run of config/comparison.yaml. Out: the page, whose tables
between `<!-- TASK, CORPUS -->` and `<!-- end -->` are replaced. Text around the tables is written by hand.
Knows no entry of the configuration: a YAML file names the cells.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from mentionforge import measures
from mentionforge.config.messages import as_user_error
from mentionforge.config_files import read
from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.layout import Results

OF_LINKING, OF_RECOGNITION, OF_MENTIONS = measures.main("normalization"), measures.main("recognition"), measures.of_groups("recognition")
OF_FIVE = measures.accuracy_at(5)
"""Share of mentions with a right concept among the first five."""
OF_NAMES = measures.accuracy_at(1, entries=True)
"""Share of mentions whose first name is right for any of its concepts."""

COLUMNS = {
    "normalization": (OF_LINKING.label, "relaxed", OF_FIVE.label, "one concept", "distinct", "distinct, new surface", "new surface and concept"),
    "recognition": (
        OF_RECOGNITION.label,
        *(f"{OF_MENTIONS.short}, {mentions}" for mentions in ("known surface", "new surface, known concept", "new surface and concept")),
    ),
}
"""Columns of the tables: values of `measure` in the CSV file."""

OURS = {
    "normalization": {
        OF_LINKING.label: ("all", OF_LINKING.name),
        "relaxed": ("all", OF_NAMES.name),
        OF_FIVE.label: ("all", OF_FIVE.name),
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


class OurCorpus(Entry):
    """A corpus of the run."""

    name: str = Field(description="Corpus in the tables.")
    suffix: str = Field("", description="What its policy for composites adds to the protocol.")


class OurCell(Entry):
    """A cell of the run that stands in a table."""

    task: Literal["normalization", "recognition"] = Field(description="Task of the table.")
    system: str = Field(description="Linker or recognizer.")
    variant: str = Field(description="Index or schedule.")
    label: str = Field(description="Label of the row.")
    protocol: str = Field(description="Letter of the protocol.")


class OurRows(Entry):
    """Which corpora and cells of a run stand in the tables."""

    corpora: dict[str, OurCorpus]
    cells: tuple[OurCell, ...]


def our_rows(path: Path) -> OurRows:
    """Read the file that names our corpora and cells.

    Raises:
        UserError: It is missing, no plain YAML, or has other keys.
    """
    content = read([path])
    try:
        return OurRows.model_validate(content.data)
    except ValidationError as error:
        raise as_user_error(error, content.positions) from error


TABLE = re.compile(r"<!-- (?P<task>\w+), (?P<corpus>[^>]+?) -->\n.*?<!-- end -->", re.S)


def our_scores_of(metrics: pd.DataFrame, ours: OurRows) -> pd.DataFrame:
    """Our cells as rows of the CSV file: scores on the test split in per cent, mean over seeds."""
    cells = metrics[(metrics["split"] == "test") & (metrics["strategy"] == "none") & metrics["corpus"].isin(list(ours.corpora))]
    rows: list[dict[str, Any]] = []
    for cell in ours.cells:
        cell_scores = cells[(cells["task"] == cell.task) & (cells["system"] == cell.system) & (cells["variant"] == cell.variant)]
        for measure, (bucket, metric) in OURS[cell.task].items():
            matching = cell_scores[(cell_scores["bucket"] == bucket) & (cell_scores["metric"] == metric)]
            for key, corpus_scores in matching.groupby("corpus"):
                corpus = ours.corpora[str(key)]
                row = {"task": cell.task, "corpus": corpus.name, "system": cell.label, "protocol": cell.protocol + corpus.suffix, "measure": measure}
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


def write_page(csv: Path, page: Path, results: Path | None, ours: Path) -> None:
    """Fill the tables of the page.

    Args:
        csv: Published scores.
        page: Markdown with the marks of the tables.
        results: Folder of a finished run of config/comparison.yaml; none: published scores only.
        ours: Which corpora and cells of that run stand in the tables (`our_rows`).

    Raises:
        UserError: The run has no metrics.csv, or the page has no marks.
    """
    scores = pd.read_csv(csv)
    text = page.read_text(encoding="utf-8")
    if results:
        metrics = Path(Results(str(results)).summary("metrics.csv"))
        if not metrics.is_file():
            raise UserError("no metrics", str(metrics), "the workflow has not finished", "run make comparison")
        our_scores = our_scores_of(pd.read_csv(metrics, keep_default_na=False, na_values=[""]), our_rows(ours))
        scores = pd.concat([scores, our_scores], ignore_index=True)
    if not TABLE.search(text):
        raise UserError("no place for a table", str(page), "there is no <!-- TASK, CORPUS --> with its <!-- end -->", "put them where the tables are to stand")
    filled = TABLE.sub(lambda m: f"<!-- {m['task']}, {m['corpus']} -->\n{table(scores, m['task'], m['corpus'])}\n<!-- end -->", text)
    temporary = page.with_name(f".{page.name}.tmp")
    temporary.write_text(filled, encoding="utf-8")
    temporary.replace(page)
