"""Figures: their class, their Vega-Lite style, and writing them as SVG and PDF.

In: one frame of data, panels (charts) that filter it, and selectors whose values are parameters of the panels. Out: files. On the page the reader
chooses the values; files show the first ones and name them in the subtitle. Knows nothing of scores or cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge.entries import NONE
from mentionforge.report.entry_order import by_generator

INK, RULE, FAINT = "#333a41", "#c9ced3", "#7b858e"

PALETTE = ("#2f6690", "#b9770e", "#4f8a6d", "#8e4a6b", "#6b705c", "#5d5fa8")

FONT = "Helvetica Neue, Helvetica, Arial, sans-serif"

LINE_SEPARATOR = " | "
"""Separates the lines of a label."""


@dataclass
class Figure:
    """One figure: `panels` are (title, chart) over the data set `name`; `selectors` map a parameter to (label, values).

    `legend` holds names and their colours. The page shows it once above the panels; in files Vega draws it.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    panels: list[tuple[str, Any]]
    selectors: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    legend: list[tuple[str, str]] = field(default_factory=list)


def config(ink: str = INK, rule: str = RULE, faint: str = FAINT) -> dict[str, Any]:
    """The Vega-Lite style: thin axes, no frame, tabular figures."""
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "gridColor": rule,
            "gridOpacity": 0.5,
            "domainColor": faint,
            "tickColor": faint,
            "labelLimit": 190,
        },
        # The title of the y axis is horizontal and above the plot: a vertical one is cut in panels of few rows.
        "axisY": {"grid": False, "ticks": False, "domain": False, "labelPadding": 6, "titleAngle": 0, "titleAlign": "left", "titleX": 0, "titleY": -7},
        "legend": {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "orient": "bottom", "labelFontSize": 11, "symbolSize": 60, "columns": 3},
        "title": {"color": ink, "fontSize": 12, "fontWeight": 600, "anchor": "start"},
        "range": {"category": list(PALETTE)},
    }


def colour_domain(values: pd.Series) -> list[str]:
    """Generators in a fixed order, so that each has the same colour in all figures."""
    return sorted(set(values) - {NONE}, key=by_generator)


def multiline_axis() -> Any:
    """An axis whose labels are broken at `LINE_SEPARATOR`."""
    import altair as alt

    return alt.Axis(labelExpr=f"split(datum.label, '{LINE_SEPARATOR}')", labelLineHeight=13)


def legend_of(names: list[str], colours: Sequence[str] = PALETTE) -> list[tuple[str, str]]:
    """Names with their colours; colours repeat if there are more names."""
    return [(name, colours[i % len(colours)]) for i, name in enumerate(names)]


def save(figures: list[Figure], out: Path) -> None:
    """Write NAME.svg and NAME.pdf of every figure; selectors have their first values."""
    import altair as alt
    import vl_convert

    out.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        panels = [chart.properties(width=230, title=title) for title, chart in figure.panels]
        declared: set[str] = set()
        for chart in panels:  # a file may declare a parameter once
            parameters = chart.params if chart.params is not alt.Undefined else []
            chart.params = [p for p in parameters if p.name not in declared] or alt.Undefined
            declared |= {p.name for p in parameters}
        parameters_of = [p for chart in panels if chart.params is not alt.Undefined for p in chart.params]
        for chart in panels:
            chart.params = alt.Undefined
        whole = alt.hconcat(*panels, spacing=28)
        if parameters_of:
            whole.params = parameters_of
        subtitle = "; ".join(f"{label} {values[0]}" for label, values in figure.selectors.values())
        spec = whole.properties(title=alt.TitleParams(figure.title, subtitle=subtitle or alt.Undefined, subtitleColor=INK, offset=14)).to_dict(validate=False)
        spec["datasets"] = {figure.name: records(figure.data)}
        spec["config"] = config() | {"background": "white"}
        spec["padding"] = {"left": 24, "right": 12, "top": 6, "bottom": 6}  # labels may be wider in the reader's font than in the one measured here
        (out / f"{figure.name}.svg").write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
        (out / f"{figure.name}.pdf").write_bytes(vl_convert.vegalite_to_pdf(spec))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON data, missing values as null."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)]
