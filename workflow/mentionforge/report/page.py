"""The report page: one HTML file with data, charts, tables and libraries inside; it opens offline, without a server.

In: paths of a results folder. Out: index.html, and the figures as SVG and PDF. Vega comes from vl-convert, DataTables from itables; page/ holds
template, style and script. Computes no score, knows nothing of rules. Texts of licensed inputs are left out unless the page is private.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import __version__, measures, tables
from mentionforge.augmentation.strategies import Strategy
from mentionforge.entries import EXTERNAL, NONE
from mentionforge.generation.kinds import CONTROLS
from mentionforge.layout import PREDICTIONS, NormalizationCell, RecognitionCell, Results
from mentionforge.provenance import git_revision, versions
from mentionforge.report import answer, confidence, figures, formatting, gains, layouts, tidy, vega
from mentionforge.report.browser import concept_browser
from mentionforge.report.comparable import hierarchy_counts
from mentionforge.report.external import systems
from mentionforge.report.headline import CLAIMS, claims, headline_of
from mentionforge.report.summary import PACKAGES, funnel_frame

VERSION = 2
"""Of the part report.page: raise it where earlier results would be wrong (mentionforge.versions)."""

FOLDER = Path(__file__).parent / "page"


def write_page(
    results: Path,
    metrics: Sequence[Path],
    comparisons: Sequence[Path],
    errors: Sequence[Path],
    models: Sequence[Path],
    config_digest: str,
    licensed: Collection[str],
    private: bool,
    concepts: int,
    out: Path,
    hierarchy: Sequence[Path] = (),
) -> None:
    """Write index.html, and the figures as SVG and PDF into results/summary/figures.

    Args:
        results: Results folder.
        metrics: tables.METRICS of each task and corpus.
        comparisons: tables.COMPARISONS of each task and corpus; tables.CHANGES lies beside each.
        errors: tables.RECOGNITION_ERRORS of each corpus.
        models: Stamps (fetched.json) of the weights used.
        config_digest: Digest of the resolved configuration.
        licensed: Licensed entries, as KIND/NAME (kbs/umls); their texts are left out unless `private`.
        private: Whether only people with these licences will read the page.
        concepts: Most concepts in the mention browser.
        out: index.html.
        hierarchy: tables.NORMALIZATION_ERRORS of each corpus.
    """
    import jinja2

    scores = tidy.tidy_metrics(metrics, results, models, config_digest)
    comparison_rows = tidy.tidy_comparisons(comparisons, config_digest)
    generators = sorted(set(scores["generator"]) - {NONE})
    paths = Results(str(results))
    generation = funnel_frame([Path(paths.generation(g, "funnel.json")) for g in generators])
    error_rows = tidy.error_counts(errors)
    controls = [name for name, settings in tidy.specs(results, "generators").items() if settings.get("kind") in CONTROLS]
    all_figures = [
        *answer.answer_figure(comparison_rows, controls),
        *gains.difference_figures(comparison_rows),
        *figures.error_figure(error_rows),
        *figures.index_figure(scores),
        *figures.seed_figures(tidy.seed_scores(scores)),
        *figures.funnel_figure(generation),
        *figures.runtime_figure(tidy.benchmarks(results)),
    ]
    vega.save(all_figures, Path(paths.summary("figures")))
    hidden = set() if private else set(licensed)
    browser = concept_browser(results, scores, comparisons, generators, hidden, concepts)
    page_data = {
        "figures": {f.name: vega.records(f.data) for f in all_figures},
        "specs": [
            {
                "name": f.name,
                "panels": [{"spec": chart.to_dict(validate=False)} for _, chart in f.panels],
                "selectors": {k: v for k, (_, v) in f.selectors.items()},
            }
            for f in all_figures
        ],
        "config": {
            name: {**look, "legend": {"disable": True}} for name, look in (("light", vega.config()), ("dark", vega.config("#e4e6e7", "#363d43", "#7b858e")))
        },
        "tables": data_tables(scores, comparison_rows, tidy.benchmarks(results), browser),
        "browser": browser,
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    template = environment.from_string((FOLDER / "page.html.jinja").read_text(encoding="utf-8"))
    raw = _libraries() | {name: (FOLDER / file).read_text(encoding="utf-8") for name, file in (("css", "page.css"), ("js", "page.js"))}
    raw["data"] = json.dumps(page_data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("</", "<\\/").replace("<!--", "<\\!--")
    page = template.render(
        **{name: _safe(text) for name, text in raw.items()},
        **_template_values(results, scores, comparison_rows, error_rows, hierarchy_counts(hierarchy, scores), all_figures, hidden, config_digest, generators),
        has_browser=bool(browser),
        version=__version__,
        itables=versions("itables")["itables"],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(out)


def _safe(text: str) -> Any:
    import markupsafe

    return markupsafe.Markup(text)


def _libraries() -> dict[str, str]:
    """Vega's bundle, and DataTables' with its exports as names of the page's own module."""
    from importlib import resources

    import vl_convert

    folder = resources.files("itables") / "html"
    bundle = (folder / "dt_bundle.js").read_text(encoding="utf-8")
    exported = re.search(r"export\s*\{([^}]*)\}", bundle)
    if exported is None:
        raise AssertionError("itables' bundle exports nothing; it has changed its form")
    table = next(pair.split(" as ")[0].strip() for pair in exported[1].split(",") if pair.strip().endswith(" as default"))
    bundle = bundle.replace(exported[0], f"const DataTable={table}")
    bundle_of: Any = vl_convert.javascript_bundle  # its argument is optional, contrary to its type hints
    vega = str(bundle_of())
    # Browsers end an inline script at the first closing tag, even inside a string.
    return {
        "vega": vega.replace("</script", "<\\/script"),
        "tables_js": bundle.replace("</script", "<\\/script"),
        "table_css": (folder / "dt_bundle.css").read_text(encoding="utf-8"),
    }


def _template_values(
    results: Path,
    scores: pd.DataFrame,
    comparison_rows: pd.DataFrame,
    error_rows: pd.DataFrame,
    hierarchy: pd.DataFrame,
    all_figures: Sequence[vega.Figure],
    hidden: set[str],
    config_digest: str,
    generators: Sequence[str],
) -> dict[str, Any]:
    """Values of the template's variables, besides the libraries and the data."""
    cells = scores.groupby([*tidy.CELL, "seed"]).ngroups
    entries = {kind: tidy.specs(results, kind) for kind in ("kbs", "corpora", "generators", "strategies", "recognizers", "linkers", "indexes")}
    controls = [name for name, settings in entries["generators"].items() if settings.get("kind") in CONTROLS]
    ablations = [name for name, settings in entries["strategies"].items() if Strategy.model_validate(settings).avoids_test]
    score_tables = [_html_table(table) for table in layouts.report_tables(scores, comparison_rows, error_rows, hierarchy=hierarchy)]
    gains_and_claims = claims(comparison_rows, controls, ablations)
    claims_table = [_html_table(formatting.ReportTable("Published and here", gains_and_claims, CLAIMS, ""))] if len(gains_and_claims) else []
    current = {
        "corpora": set(scores["corpus"]),
        "generators": set(generators),
        "strategies": set(scores["strategy"]),
        "linkers": set(scores.loc[scores["task"] == "normalization", "system"]),
        "recognizers": set(scores.loc[scores["task"] == "recognition", "system"]),
        "indexes": set(scores.loc[scores["task"] == "normalization", "variant"]),
        "kbs": set(scores["kb"].dropna()),
    }
    specs = [
        (f"{kind}/{name}", json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False))
        for kind, entries_of_kind in entries.items()
        for name, settings in sorted(entries_of_kind.items())
        if name in current[kind]
    ]
    sources: Any = scores.drop_duplicates(["corpus", "kb"])[["corpus", "corpus_digest", "kb", "kb_release", "kb_digest"]]
    revisions = sorted({*scores["model_revision"].dropna(), *scores["generator_revision"]} - {""})
    run = [
        {"title": "Versions", "rows": [("mentionforge", f"{__version__}, revision {git_revision()}"), *versions(*PACKAGES).items()]},
        {"title": "Weights", "rows": [tuple(r.split("=", 1)) for r in sorted({w for r in revisions for w in r.split(" ")})]},
        {
            "title": "Corpora and knowledge bases",
            "rows": [
                (r.corpus, f"digest {r.corpus_digest}; knowledge base {r.kb}, digest {r.kb_digest}, release {r.kb_release or 'unnamed'}")
                for r in sources.itertuples()
            ],
        },
    ]
    if replayed := [(g, entries["generators"][g]) for g in generators if entries["generators"].get(g, {}).get("kind") == "replay"]:
        rows = [(g, f"licence: {settings.get('licence') or 'not stated'}. Cite: {settings.get('cite') or 'not stated'}") for g, settings in replayed]
        run.append({"title": "Notes written elsewhere", "rows": rows})
    imported = {
        "normalization": NormalizationCell("*", NONE, NONE, "*", EXTERNAL).path,
        "recognition": RecognitionCell("*", NONE, NONE, "*", EXTERNAL, 0).path,
    }
    external_predictions = sorted(p for task, cells in imported.items() for p in Path(Results(str(results)).cells(task)).glob(f"{cells}/{PREDICTIONS}"))
    systems_read = [
        row for row in systems(external_predictions) if row["system"] in current["linkers"] | current["recognizers"] and row["corpus"] in current["corpora"]
    ]
    if systems_read:
        external_rows = [
            (f"{r['system']}, {r['corpus']}", f"{r['answers']}; left out or wrong: {r['left out or wrong']}. {r['file']}. Cite: {r['cite']}")
            for r in systems_read
        ]
        run.append({"title": "External systems", "rows": external_rows})
    jobs = tidy.benchmarks(results)
    licensed_note = " Texts of licensed inputs are left out: " + ", ".join(sorted(hidden)) + "." if hidden else ""
    return {
        "title": "Synthetic disease mentions: what they buy",
        "lead": "Differences between cells of one experiment, each with the interval that its documents allow. Everything shown is in the results folder.",
        "facts": [
            ("cells", f"{cells:,}"),
            ("corpora", ", ".join(sorted(current["corpora"]))),
            ("generators", ", ".join(generators) or "none"),
            ("job time", f"{jobs['wall_s'].sum() / 60:,.0f} min in {len(jobs):,} jobs"),
            ("revision", git_revision()),
            ("configuration", config_digest),
        ],
        "answer": answer.answer_sentences(comparison_rows, controls),
        "headline": headline_of(comparison_rows),
        "statements": confidence.statements(comparison_rows),
        "paper": [*score_tables[:1], *claims_table, *score_tables[1:]],
        "open_tables": 1 + len(claims_table),
        "figures": all_figures,
        "browser_note": "Search a concept by name or CUI; choose a row to see its names, its synthetic notes with the mention marked, how each was found or why it was dropped, "
        "and the test mentions that it fixed or broke." + licensed_note,
        "tables": [
            (
                "comparisons",
                "Comparisons",
                "Differences to none (baseline), to controls, to the dictionary in the index (kb), and to external systems, in points. p_adjusted is corrected over the "
                "family: declared (confirmatory) ones after Holm, exploratory ones after Benjamini and Hochberg. Where reachable is false, nothing in the family could be "
                "significant.",
            ),
            ("cells", "Cells", "Scores of every cell and seed on the test split in per cent."),
            ("runtime", "Jobs", "Wall time and peak memory of every job."),
        ],
        "sections": [("headline", "Headline"), ("figures", "Figures"), ("mentions", "Mentions"), ("numbers", "Numbers"), ("run", "Run")],
        "run": run,
        "specs": specs,
    }


def _html_table(table: formatting.ReportTable) -> dict[str, Any]:
    """A table for the template: each cell has its number (`main`) and what follows it (`small`); a name equal to the one above is left out."""
    columns = [{"name": str(c), "num": formatting.numeric(str(c)) or str(c).startswith("here")} for c in table.frame.columns]
    rows: list[list[dict[str, Any]]] = []
    above: list[str] = []
    for values in table.frame.fillna("").itertuples(index=False):
        texts = [str(v) for v in values]
        cells, repeats = [], True
        for i, (text, column) in enumerate(zip(texts, columns, strict=True)):
            repeats = repeats and i < 2 and bool(above) and text == above[i] and not column["num"]
            main, _, small = text.replace("-", "−").partition(" ") if column["num"] else (text, "", "")
            if small.startswith(("±", "to ")) or ";" in small:
                main, small = f"{main} {small}", ""
            cells.append({"main": "" if repeats else main, "small": small, "num": column["num"], "again": text if repeats else ""})
        rows.append(cells)
        above = texts
    return {"title": table.title, "columns": columns, "rows": rows, "caption": table.caption}


def data_tables(scores: pd.DataFrame, comparison_rows: pd.DataFrame, jobs: pd.DataFrame, browser: dict[str, Any]) -> dict[str, Any]:
    """Rows of the page's sortable tables."""
    compared = comparison_rows[
        comparison_rows["metric"].isin([s.name for s in measures.SCORES if s.compared and (s.ratio or s.name in measures.OF_GROUPS.values())])
    ].copy()
    for name, column in (("points", "difference"), ("from", "low"), ("to", "high"), ("score", "value")):
        compared[name] = (100 * compared[column]).round(4)
    key_columns = [
        "task",
        "corpus",
        "system",
        "variant",
        "generator",
        "strategy",
        "against",
        "reference_system",
        "reference_generator",
        "slice",
        "group",
        "metric",
    ]
    count_columns = ["n", "documents", "runs", "covers", "fixed", "broken"]
    # The most important rows come first: confirmatory ones, then all mentions against the baseline.
    sort_rank = {"confirmatory": -1, "all": 0, "bucket": 1, "baseline": 0}
    compared = compared.sort_values(["role", "slice", "against"], key=lambda c: c.map(sort_rank).fillna(9), kind="stable")
    compared = compared[[*key_columns, "score", "points", "from", "to", "p", "p_adjusted", "role", "family", "family_size", "reachable", *count_columns]]
    cells = scores[(scores["split"] == "test") & ~scores["metric"].isin([s.name for s in measures.SCORES if not s.on_page])].copy()
    # Keeps the page small: of subsets only the first score, of kinds of errors only those of all mentions; metrics.csv has all rows.
    cells = cells[~cells["bucket"].isin(list(tables.SUBSETS)) | cells["metric"].isin(list(measures.OF_GROUPS.values()))]
    cells = cells[~cells["metric"].str.startswith("error_") | (cells["bucket"] == "all")].copy()
    cells["percent"] = (100 * cells["value"]).round(4)
    cells = cells[["task", "corpus", "system", "variant", "generator", "strategy", "seed", "bucket", "metric", "percent", "n", "wall_s", "peak_mib"]]
    result = {
        "comparisons": _rows(compared, {"score": 1, "points": 1, "from": 1, "to": 1, "p": 4, "p_adjusted": 4, "fixed": 1, "broken": 1}),
        "cells": _rows(cells, {"percent": 1, "wall_s": 1, "peak_mib": 0}),
        "runtime": _rows(jobs, {"wall_s": 1, "cpu_s": 1, "peak_mib": 0}),
    }
    if browser:
        frame = pd.DataFrame(
            [
                {
                    "cui": cui,
                    "concept": c["name"],
                    "notes": c["notes_total"],
                    "dropped": c["rejected_total"],
                    "fixed": sum(len(m["fixed"]) for m in c["changes"]),
                    "broken": sum(len(m["broken"]) for m in c["changes"]),
                    "all names": "; ".join(c["names"]),
                }
                for cui, c in browser.items()
            ]
        )
        result["concepts"] = _rows(frame, {}, hidden=["all names"])
    return result


def _rows(frame: pd.DataFrame, digits: dict[str, int], hidden: Sequence[str] = ()) -> dict[str, Any]:
    columns = list(frame.columns)
    numbers = [i for i, c in enumerate(columns) if pd.api.types.is_numeric_dtype(frame[c]) and frame[c].dtype != bool]
    rows = frame.astype(object).where(frame.notna(), None).values.tolist()
    return {
        "columns": columns,
        "rows": rows,
        "numbers": numbers,
        "digits": {columns.index(c): d for c, d in digits.items()},
        "hidden": [columns.index(c) for c in hidden],
    }
