"""Files of results/summary for other programs and for papers: tidy CSV files, and the tables as Markdown and LaTeX.

In: paths of a results folder. Out: metrics.csv, comparisons.csv, seeds.csv, errors.csv, hierarchy.csv, runtime.csv, tables.md, tables.tex.
Computes no score of its own. Knows nothing of figures and pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mentionforge.layout import Results
from mentionforge.report.comparable import hierarchy_counts
from mentionforge.report.formatting import FEW, ReportTable, numeric
from mentionforge.report.layouts import report_tables
from mentionforge.report.tidy import benchmarks, error_counts, seed_scores, tidy_comparisons, tidy_metrics


def latex(table: ReportTable) -> str:
    """A table in LaTeX with booktabs: intervals are smaller than the numbers before them, and wide tables are scaled to the width of the text."""
    text = table.frame.fillna("")
    head = [str(c) for c in text.columns]
    wide = len(head) > 6
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escape(f'{table.title}. {table.caption}')}}}",
        rf"\label{{{table.label}}}",
        *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{{''.join('r' if numeric(c) else 'l' for c in head)}}}",
        r"\toprule",
        " & ".join(map(_escape, head)) + r" \\",
        r"\midrule",
    ]
    for row in text.itertuples(index=False):
        cells = []
        for value, name in zip(row, head, strict=True):
            number, _, suffix = str(value).partition(" ") if numeric(name) else (str(value), "", "")
            small = suffix.startswith(("+", "-", "[", "n="))
            cells.append(_escape(number) + (rf" {{\footnotesize {_escape(suffix)}}}" if small else _escape(f" {suffix}" if suffix else "")))
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}" + ("%" if wide else ""), *(["}"] if wide else []), r"\end{table}"]
    return "\n".join(lines)


ESCAPES = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    FEW: r"\textdagger{}",
    "…": r"\dots{}",
    "–": "--",
}


def _escape(text: str) -> str:
    """Text with LaTeX's special characters escaped, minus signs in math mode."""
    return re.sub(r"(?<![\w.)])-(?=\d)", "$-$", "".join(ESCAPES.get(c, c) for c in text))


def write_tables(metrics: pd.DataFrame, comparisons: pd.DataFrame, errors: pd.DataFrame, out: Path, hierarchy: pd.DataFrame | None = None) -> None:
    """Write tables.md and tables.tex: the paper's layout, other scores, groups of mentions, and seeds."""
    collected = report_tables(metrics, comparisons, errors, hierarchy=hierarchy)
    markdown = [f"## {t.title}\n\n{t.frame.fillna('').to_markdown(index=False, disable_numparse=True)}\n\n{t.caption}" for t in collected]
    (out / "tables.md").write_text("# Tables\n\n" + "\n\n".join(markdown) + "\n", encoding="utf-8")
    head = "% needs \\usepackage{booktabs,graphicx,textcomp}\n"
    (out / "tables.tex").write_text(head + "\n\n".join(map(latex, collected)) + "\n", encoding="utf-8")


def write_tidy(
    results: Path,
    metrics: Sequence[Path],
    comparisons: Sequence[Path],
    errors: Sequence[Path],
    models: Sequence[Path],
    config_digest: str,
    wrong: Sequence[Path] = (),
) -> None:
    """Write metrics.csv, comparisons.csv, seeds.csv, errors.csv, hierarchy.csv, runtime.csv, tables.md and tables.tex into results/summary."""
    out = Path(Results(str(results)).summary(""))
    out.mkdir(parents=True, exist_ok=True)
    scores, compared = tidy_metrics(metrics, results, models, config_digest), tidy_comparisons(comparisons, config_digest)
    error_rows, hierarchy = error_counts(errors), hierarchy_counts(wrong, scores)
    frames = {
        "metrics": scores,
        "comparisons": compared,
        "seeds": seed_scores(scores),
        "errors": error_rows,
        "hierarchy": hierarchy,
        "runtime": benchmarks(results),
    }
    for name, frame in frames.items():
        temporary = out / f".{name}.csv.tmp"
        frame.to_csv(temporary, index=False)
        temporary.replace(out / f"{name}.csv")
    write_tables(scores, compared, error_rows, out, hierarchy)
