"""Figures: Vega-Lite specifications (altair) that the page shows and vl-convert writes as SVG and PDF.

A figure is one frame of data, one or more panels that filter it, and selectors whose values are parameters of the panels.
On the page the reader chooses their values; in files they have the first ones, which the title names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures
from mentionforge.entries import NONE

INK, RULE, FAINT = "#333a41", "#c9ced3", "#7b858e"
PALETTE = ("#2f6690", "#b9770e", "#4f8a6d", "#8e4a6b", "#6b705c", "#5d5fa8")
FONT = "Helvetica Neue, Helvetica, Arial, sans-serif"
BUCKETS = {"all": "all mentions", "seen_mention": "seen mention", "seen_concept": "seen concept, new surface", "unseen_concept": "unseen concept"}
ORDER = ["0", "1", "2-5", "6-20", "21+"]
TYPES = {
    "T019": "congenital abnormality",
    "T020": "acquired abnormality",
    "T033": "finding",
    "T037": "injury or poisoning",
    "T046": "pathologic function",
    "T047": "disease or syndrome",
    "T048": "mental dysfunction",
    "T049": "cell dysfunction",
    "T050": "model of disease",
    "T184": "sign or symptom",
    "T190": "anatomical abnormality",
    "T191": "neoplastic process",
}
"""The UMLS group Disorders, in short words."""

SWEPT = re.compile(r"~(notes_per_concept|notes_per_mention)=([0-9.]+)(?=~|$)")
"""A dose in the name of a strategy or generator that a sweep unfolded."""

DOSES = {"notes_per_concept": "notes per concept", "notes_per_mention": "notes per training mention"}
ERRORS = {"missed": "missed", "boundary": "wrong boundary", "spurious": "spurious"}


@dataclass
class Figure:
    """One figure: `panels` are (title, chart) over the data set `name`; `selectors` map a parameter to (label, values).

    `legend` holds names and their colours; on the page it stands once above the panels, in files Vega draws it.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    panels: list[tuple[str, Any]]
    selectors: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    legend: list[tuple[str, str]] = field(default_factory=list)


def config(ink: str = INK, rule: str = RULE, faint: str = FAINT) -> dict[str, Any]:
    """Vega-Lite's look: thin axes, no frame, tabular figures."""
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
        # Level, above the plot: a turned title is cut where a panel has few rows, one beside the labels takes the plot's width.
        "axisY": {"grid": False, "ticks": False, "domain": False, "labelPadding": 6, "titleAngle": 0, "titleAlign": "left", "titleX": 0, "titleY": -7},
        "legend": {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "orient": "bottom", "labelFontSize": 11, "symbolSize": 60, "columns": 3},
        "title": {"color": ink, "fontSize": 12, "fontWeight": 600, "anchor": "start"},
        "range": {"category": list(PALETTE)},
    }


def _domain(values: pd.Series) -> list[str]:
    """Generators in a fixed order, so that a colour means the same in every figure."""
    return sorted(set(values) - {NONE}, key=lambda g: (g.split("~")[0] in ("names", "template", "dictionary"), g))


LINE = " | "
"""Parts the lines of a label."""


def _lines() -> Any:
    """An axis whose labels have as many lines as parts."""
    import altair as alt

    return alt.Axis(labelExpr=f"split(datum.label, '{LINE}')", labelLineHeight=13)


def _legend(names: list[str], colours: Sequence[str] = PALETTE) -> list[tuple[str, str]]:
    """Names with their colours, which repeat where there are more names."""
    return [(name, colours[i % len(colours)]) for i, name in enumerate(names)]


def forest(data: str, frame: pd.DataFrame, y: str, y_title: str, colour: str, where: str, parameters: dict[str, str], order: list[str] | None = None) -> Any:
    """Differences in points with intervals, one row per `y`, shifted by `colour`; pale where few mentions."""
    import altair as alt

    names = _domain(frame[colour])
    base = alt.Chart(alt.NamedData(name=data)).transform_filter(where)
    shift = alt.YOffset(f"{colour}:N", scale=alt.Scale(domain=names))
    # A variant's name has a line for each swept key.
    axis = alt.Axis(labelExpr="split(datum.label, '~')", labelLineHeight=12)
    rows = alt.Y(f"{y}:N", title=y_title, sort=order or "ascending", scale=alt.Scale(paddingInner=0.35), axis=axis)
    colours = alt.Color(f"{colour}:N", scale=alt.Scale(domain=names, range=list(PALETTE)), title=None)
    tip = ["corpus", "system", "variant", "generator", "strategy", "reference", "mentions", "role", "covers"]
    numbers = ["n", "documents", "runs"]
    tooltip: list[Any] = [alt.Tooltip(f"{t}:N") for t in tip] + [alt.Tooltip(f"{t}:Q", format=",") for t in numbers]
    tooltip += [alt.Tooltip(f"{t}:Q", format="+.1f") for t in ("points", "from", "to")] + [alt.Tooltip(f"{t}:Q", format=".4f") for t in ("p", "p_adjusted")]
    x = alt.X("from:Q", title="difference in percentage points", axis=alt.Axis(tickCount=5))
    zero = alt.Chart(alt.NamedData(name=data)).transform_aggregate(k="count()").transform_calculate(zero="0")
    line = zero.mark_rule(color=FAINT, strokeWidth=1).encode(x="zero:Q")
    bars = base.mark_rule(strokeWidth=2).encode(y=rows, yOffset=shift, x=x, x2="to:Q", color=colours, tooltip=tooltip)
    points = base.mark_point(filled=True, size=58).encode(
        y=rows, yOffset=shift, x="points:Q", color=colours, opacity=alt.condition("datum.few", alt.value(0.35), alt.value(1)), tooltip=tooltip
    )
    room = zero.transform_calculate(one="1", less="-1").mark_rule(opacity=0).encode(x="less:Q", x2="one:Q")  # an axis also where nothing differs
    height = {"step": max(11, 30 // max(1, len(names)) + 5)}
    chart = alt.layer(room, line, bars, points).properties(width="container", height=height)
    return chart.add_params(*(alt.param(name=name, value=value) for name, value in parameters.items()))


def points_of(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Comparisons as the figures need them: points of a per cent, and names for people."""
    frame = comparisons[comparisons["metric"].isin(measures.ranked("recognition", "normalization"))].copy()
    frame = frame[~((frame["metric"] == "strict_recall") & (frame["slice"] == "all"))]
    for name, column in (("points", "difference"), ("from", "low"), ("to", "high")):
        frame[name] = (100 * frame[column]).round(3)
    frame["mentions"] = frame["group"].map(lambda g: BUCKETS.get(g, g))
    typed = frame["slice"] == "semantic_type"
    frame.loc[typed, "mentions"] = frame.loc[typed, "group"].map(lambda g: f"{TYPES[g]} ({g})" if g in TYPES else g)
    dictionary = frame["against"] == "kb"
    frame["reference"] = frame["reference_generator"].where(~dictionary, "dictionary")
    frame["reference"] = frame["reference"].where(frame["against"] != "external", frame["reference_system"])
    columns = ["task", "corpus", "system", "variant", "generator", "strategy", "against", "reference", "slice", "group", "mentions", "metric"]
    return frame[[*columns, "points", "from", "to", "p", "p_adjusted", "role", "n", "documents", "runs", "covers", "few"]]


def difference_figures(comparisons: pd.DataFrame) -> list[Figure]:
    """Gains over the baseline, over controls and dictionary, by group, and by dose, for normalization; gains of recognition."""
    frame = points_of(comparisons)
    figures = []
    linking = frame[frame["task"] == "normalization"]
    indexes = sorted(linking["variant"].unique(), key=lambda v: (len(v.split("+")), v != "train", v))
    common = {
        "corpus": ("corpus", sorted(linking["corpus"].unique())),
        "system": ("linker", sorted(linking["system"].unique(), key=lambda s: (s != "mention", s))),
    }
    chosen = "datum.corpus == corpus && datum.system == system"
    mentions = ("mentions", [BUCKETS[b] for b in ("all", "unseen_concept", "seen_concept", "seen_mention") if b in set(linking["group"])])
    protocol = "acc@1 on the test split. Bars: 95 % bootstrap intervals, paired, over documents and, where there are several, seeds. Pale: fewer than 30 mentions. Pointing at a mark tells n and p."
    for name, title, against, colour in (
        ("gains", "What synthetic mentions add to none", ["baseline"], "generator"),
        ("controls", "What a language model adds to the names alone", ["control", "kb"], "reference"),
    ):
        part = linking[linking["against"].isin(against) & linking["slice"].isin(["all", "bucket"])]
        if part.empty:
            continue
        selectors = {**common, "mentions": mentions}
        if name == "controls":
            selectors["generator"] = ("generator", sorted(part["generator"].unique()))
        values = {k: v[1][0] for k, v in selectors.items()}
        extra = " && datum.generator == generator" if name == "controls" else ""
        panels = []
        for index in [i for i in indexes if i in set(part["variant"])]:
            where = f"datum.variant == '{index}' && {chosen} && datum.mentions == mentions{extra}"
            panels.append((f"index {index}", forest(name, part, "strategy", "strategy", colour, where, values)))
        caption = protocol
        if name == "gains":
            caption += " With the index train (the paper's), unseen concepts cannot be found without synthetic text: that baseline is 0 by construction."
        else:
            caption += " Against names and template: same strategy, same index. Dictionary: no synthetic text, but the knowledge base's names in the index."
        figures.append(Figure(name, title, caption, part, panels, selectors, _legend(_domain(part[colour]))))
    base = linking[linking["against"] == "baseline"]
    figures += _groups(base, common, indexes, protocol) + _doses(base, common, indexes, protocol) + _sweeps(base, common, indexes)
    tagging = frame[(frame["task"] == "recognition") & frame["slice"].isin(["all", "bucket"])].copy()
    tagging = tagging[tagging["against"] == "baseline"]
    if len(tagging):
        tagging["mentions"] = tagging["mentions"].where(tagging["slice"] == "bucket", "strict F1, all mentions")
        tagging.loc[tagging["slice"] == "bucket", "mentions"] = "recall, " + tagging["mentions"]
        corpora = sorted(tagging["corpus"].unique())
        measures = sorted(tagging["mentions"].unique(), key=lambda m: (not m.startswith("strict"), m))
        panels = [
            (
                c,
                forest(
                    "recognition",
                    tagging,
                    "strategy",
                    "strategy",
                    "generator",
                    f"datum.corpus == '{c}' && datum.mentions == mentions",
                    {"mentions": measures[0]},
                ),
            )
            for c in corpora
        ]
        caption = "Strict entity scores on the test split, differences to training on real text alone; intervals as above, over documents and, with several seeds, runs."
        figures.append(
            Figure("recognition", "Recognition", caption, tagging, panels, {"mentions": ("measure", measures)}, _legend(_domain(tagging["generator"])))
        )
    return figures


def _swept(names: pd.Series) -> pd.Series:
    """Which names carry a swept dose."""
    return names.map(lambda name: SWEPT.search(name) is not None).astype(bool)


def _groups(base: pd.DataFrame, common: dict[str, Any], indexes: list[str], protocol: str) -> list[Figure]:
    """Gains by rarity of the concept and by semantic type."""
    slices = [
        ("train_mentions", "by frequency in training", "training mentions of the concept"),
        ("names", "by names in the knowledge base", "names of the concept"),
        ("semantic_type", "by semantic type", "UMLS semantic type"),
    ]
    part = base[base["slice"].isin([s for s, *_ in slices]) & ~_swept(base["strategy"])]
    if part.empty:
        return []
    strategies = sorted(part["strategy"].unique(), key=lambda s: (s != "supplemental", s))
    selectors = {**common, "variant": ("index", indexes), "strategy": ("strategy", strategies)}
    values = {k: v[1][0] for k, v in selectors.items()}
    panels = []
    for slice_, title, label in slices:
        where = f"datum.slice == '{slice_}' && datum.corpus == corpus && datum.system == system && datum.variant == variant && datum.strategy == strategy"
        order = [g for g in ORDER if g in set(part["group"])] if slice_ != "semantic_type" else None
        panels.append((title, forest("groups", part, "mentions", label, "generator", where, values, order)))
    note = "Groups by the mention's concept: how often the training split has it, how many names the knowledge base has for it, its UMLS semantic type. Exploratory."
    return [
        Figure(
            "groups",
            "Which mentions gain: rarity and semantic type",
            f"{protocol} {note} Differences to none.",
            part,
            panels,
            selectors,
            _legend(_domain(part["generator"])),
        )
    ]


def _doses(base: pd.DataFrame, common: dict[str, Any], indexes: list[str], protocol: str) -> list[Figure]:
    """Gains by the number of synthetic notes that reached a mention's concept, a panel per strategy."""
    part = base[(base["slice"] == "notes") & ~_swept(base["strategy"])]
    if part.empty:
        return []
    selectors = {**common, "variant": ("index", indexes)}
    values = {k: v[1][0] for k, v in selectors.items()}
    order = [g for g in ORDER if g in set(part["group"])]
    panels = []
    for strategy in sorted(part["strategy"].unique(), key=lambda s: (s != "supplemental", s)):
        where = f"datum.strategy == '{strategy}' && datum.corpus == corpus && datum.system == system && datum.variant == variant"
        panels.append((strategy, forest("dose", part, "mentions", "synthetic notes of the concept", "generator", where, values, order)))
    note = "Mentions by the number of synthetic notes that their concept has in the cell, one panel per strategy. Differences to none. Exploratory."
    return [Figure("dose", "Dose and response", f"{protocol} {note}", part, panels, selectors, _legend(_domain(part["generator"])))]


def _sweeps(base: pd.DataFrame, common: dict[str, Any], indexes: list[str]) -> list[Figure]:
    """Gains along a swept dose (notes per concept, or per training mention), a panel per strategy."""
    import altair as alt

    part = base[base["slice"].isin(["all", "bucket"])].copy()
    found = []
    for column in ("strategy", "generator"):
        swept = part[_swept(part[column])].copy()
        hits = swept[column].str.extract(SWEPT)
        swept["key"], swept["dose"] = hits[0], hits[1].astype(float)
        swept[column] = swept[column].str.replace(SWEPT, "", regex=True)
        found.append(swept)
    figures = []
    whole = pd.concat(found, ignore_index=True) if found else part
    for key, rows in whole.groupby("key") if len(whole) else ():
        name = f"sweep_{key}"
        names = _domain(rows["generator"])
        shown = [BUCKETS[b] for b in BUCKETS if b in set(rows["group"])]
        selectors = {
            "corpus": ("corpus", sorted(rows["corpus"].unique())),
            "system": ("linker", [s for s in common["system"][1] if s in set(rows["system"])]),
            "variant": ("index", [i for i in indexes if i in set(rows["variant"])]),
            "mentions": ("mentions", shown),
        }
        values = {k: v[1][0] for k, v in selectors.items()}
        panels = []
        for strategy in sorted(rows["strategy"].unique(), key=lambda s: (s != "supplemental", s)):
            where = (
                f"datum.strategy == '{strategy}' && datum.corpus == corpus && datum.system == system && datum.variant == variant && datum.mentions == mentions"
            )
            chart = alt.Chart(alt.NamedData(name=name)).transform_filter(where)
            x = alt.X(
                "dose:Q",
                title=DOSES[str(key)],
                scale=alt.Scale(zero=True, nice=False, padding=14),
                axis=alt.Axis(tickCount=5, tickMinStep=1 if key == "notes_per_concept" else 0),
            )
            y = alt.Y("from:Q", title="difference in percentage points", axis=alt.Axis(grid=True))
            colours = alt.Color("generator:N", scale=alt.Scale(domain=names, range=list(PALETTE)), title=None)
            tooltip = [alt.Tooltip(f"{t}:N") for t in ("corpus", "system", "variant", "generator", "mentions")]
            tooltip += [alt.Tooltip("dose:Q", title=DOSES[str(key)]), alt.Tooltip("n:Q", format=",")]
            tooltip += [alt.Tooltip(f"{t}:Q", format="+.1f") for t in ("points", "from", "to")]
            bars = chart.mark_rule(strokeWidth=1.5).encode(x=x, y=y, y2="to:Q", color=colours, tooltip=tooltip)
            line = chart.mark_line(strokeWidth=1.5).encode(x=x, y="points:Q", color=colours)
            points = chart.mark_point(filled=True, size=55, opacity=1).encode(x=x, y="points:Q", color=colours, tooltip=tooltip)
            layers = alt.layer(bars, line, points).properties(width="container", height=200)
            panels.append((strategy, layers.add_params(*(alt.param(name=k, value=v) for k, v in values.items()))))
        caption = (
            "Difference to none in acc@1 on the test split along the dose, a setting of the strategy or generator; bars: 95 % bootstrap intervals, paired, "
            "over documents and, where there are several, seeds. One panel per strategy."
        )
        figures.append(Figure(name, f"Dose-response: {DOSES[str(key)]}", caption, rows.drop(columns="key"), panels, selectors, _legend(names)))
    return figures


def seed_figures(seeds: pd.DataFrame) -> list[Figure]:
    """Each seed's score, and mean and standard deviation over seeds, for each task that has cells with several.

    Args:
        seeds: `tidy.seed_scores`.
    """
    import altair as alt

    figures = []
    for task, frame in seeds.groupby("task", sort=False):
        name = f"seeds_{task}"
        measures = sorted(frame["measure"].unique(), key=lambda m: (not m.endswith("all mentions"), m))
        selectors = {"corpus": ("corpus", sorted(frame["corpus"].unique())), "measure": ("measure", measures)}
        values = {k: v[1][0] for k, v in selectors.items()}
        names = [*([NONE] if NONE in set(frame["generator"]) else []), *_domain(frame["generator"])]
        range_ = [FAINT, *PALETTE] if NONE in names else list(PALETTE)
        panels = []
        for system in sorted(frame["system"].unique()):
            where = f"datum.system == '{system}' && datum.corpus == corpus && datum.measure == measure"
            chart = alt.Chart(alt.NamedData(name=name)).transform_filter(where)
            title = {"recognition": "strategy, schedule", "end_to_end": "strategy, schedule/index"}.get(str(task), "strategy, index")
            rows = alt.Y("cell:N", title=title, axis=_lines(), scale=alt.Scale(paddingInner=0.35))
            shift = alt.YOffset("generator:N", scale=alt.Scale(domain=names))
            colours = alt.Color("generator:N", scale=alt.Scale(domain=names, range=range_), title=None)
            tooltip = [alt.Tooltip(f"{t}:N") for t in ("generator", "cell", "seed")]
            tooltip += [
                alt.Tooltip("percent:Q", format=".1f"),
                alt.Tooltip("mean:Q", format=".1f"),
                alt.Tooltip("sd:Q", format=".2f"),
                alt.Tooltip("n:Q", format=","),
            ]
            x = alt.X("percent:Q", title="score in per cent", scale=alt.Scale(zero=False, nice=True, padding=12), axis=alt.Axis(tickCount=5))
            spread = chart.mark_rule(strokeWidth=2, opacity=0.55).encode(y=rows, yOffset=shift, x=alt.X("low:Q"), x2="high:Q", color=colours, tooltip=tooltip)
            mean = chart.mark_tick(thickness=2.5, size=15).encode(y=rows, yOffset=shift, x=alt.X("mean:Q"), color=colours, tooltip=tooltip)
            points = chart.mark_point(filled=False, size=46, strokeWidth=1.5, opacity=1).encode(y=rows, yOffset=shift, x=x, color=colours, tooltip=tooltip)
            height = {"step": max(16, 36 // max(1, len(names)))}
            whole = alt.layer(points, spread, mean).properties(width="container", height=height)
            panels.append((system, whole.add_params(*(alt.param(name=k, value=v) for k, v in values.items()))))
        caption = (
            "Circles: the score of each seed. Upright stroke: their mean; bar: one standard deviation to either side (n - 1). Test split; n is in the tooltip."
        )
        head = {"recognition": "Seeds: recognition", "end_to_end": "Seeds: end to end"}.get(str(task), "Seeds of the generator: normalization")
        figures.append(Figure(name, head, caption, frame, panels, selectors, _legend(names, range_)))
    return figures


def error_figure(errors: pd.DataFrame) -> list[Figure]:
    """What recognizers get wrong: gold mentions missed or found with another boundary, and spurious predictions.

    Args:
        errors: `tidy.error_counts`.
    """
    import altair as alt

    if errors.empty:
        return []
    frame = errors.assign(error=errors["error"].map(ERRORS))
    text = (frame["generator"] + " " + frame["strategy"]).where(frame["generator"] != NONE, "no synthetic text")
    frame["cell"] = frame["system"] + ", " + text + LINE + frame["variant"]
    panels = []
    for corpus in sorted(frame["corpus"].unique()):
        chart = alt.Chart(alt.NamedData(name="errors")).transform_filter(f"datum.corpus == '{corpus}'")
        bars = chart.mark_bar(height=12).encode(
            y=alt.Y("cell:N", title="recognizer, text, schedule", axis=_lines()),
            x=alt.X("count:Q", title="errors, mean over seeds", stack=True, axis=alt.Axis(tickCount=5)),
            color=alt.Color("error:N", scale=alt.Scale(domain=list(ERRORS.values()), range=list(PALETTE)), title=None),
            order=alt.Order("rank:Q"),
            tooltip=["system:N", "generator:N", "strategy:N", "variant:N", "error:N", alt.Tooltip("count:Q", format=",.1f"), alt.Tooltip("seeds:Q")],
        )
        panels.append((corpus, bars.properties(width="container", height={"step": 34})))
    caption = "Test split. Missed: no prediction overlaps the gold mention. Wrong boundary: one does. Spurious: a prediction that overlaps no gold mention."
    return [Figure("errors", "What recognizers get wrong", caption, frame, panels, {}, _legend(list(ERRORS.values())))]


def index_figure(metrics: pd.DataFrame) -> list[Figure]:
    """Accuracy by index, with and without synthetic mentions."""
    import altair as alt

    frame = metrics[(metrics["task"] == "normalization") & (metrics["metric"] == measures.MAIN["normalization"]) & (metrics["split"] == "test")]
    frame = frame[frame["bucket"].isin(list(BUCKETS))].copy()
    if frame.empty:
        return []
    frame = frame.assign(percent=(100 * frame["value"]).round(3), mentions=frame["bucket"].map(BUCKETS))
    # The baseline belongs to every strategy, so that it stands in each choice.
    strategies = sorted(set(frame["strategy"]) - {NONE}, key=lambda s: (s != "supplemental", s)) or [NONE]
    base = frame[frame["strategy"] == NONE]
    frame = pd.concat([frame[frame["strategy"] != NONE], *(base.assign(strategy=s) for s in strategies)])
    frame = frame[["corpus", "system", "variant", "generator", "strategy", "mentions", "percent", "n"]]
    names = [NONE, *_domain(frame["generator"])]
    indexes = sorted(frame["variant"].unique(), key=lambda v: (len(v.split("+")), v != "train", v))
    selectors = {
        "corpus": ("corpus", sorted(frame["corpus"].unique())),
        "system": ("linker", sorted(frame["system"].unique(), key=lambda s: (s != "mention", s))),
        "strategy": ("strategy", strategies),
    }
    panels = []
    for bucket in ("all", "seen_concept", "unseen_concept"):
        where = f"datum.mentions == '{BUCKETS[bucket]}' && datum.corpus == corpus && datum.system == system && datum.strategy == strategy"
        colours = alt.Color("generator:N", scale=alt.Scale(domain=names, range=[FAINT, *PALETTE]), title=None)
        shift = alt.YOffset("generator:N", scale=alt.Scale(domain=names))
        chart = alt.Chart(alt.NamedData(name="indexes")).transform_filter(where)
        rows = alt.Y("variant:N", title="index", sort=indexes)
        x = alt.X(
            "percent:Q",
            title=f"{measures.BY_NAME[measures.MAIN['normalization']].label} in per cent",
            scale=alt.Scale(domain=[0, 100]),
            axis=alt.Axis(tickCount=5),
        )
        tooltip = [alt.Tooltip("generator:N"), alt.Tooltip("variant:N", title="index"), alt.Tooltip("percent:Q", format=".1f"), alt.Tooltip("n:Q", format=",")]
        marks = chart.mark_point(filled=True, size=60, opacity=1).encode(y=rows, yOffset=shift, x=x, color=colours, tooltip=tooltip)
        values = {k: v[1][0] for k, v in selectors.items()}
        chart = marks.properties(width="container", height={"step": 9}).add_params(*(alt.param(name=k, value=v) for k, v in values.items()))
        panels.append((BUCKETS[bucket], chart))
    caption = "acc@1 on the test split by what the index holds: training mentions (the paper's), all names of the knowledge base, or both; each with the generator's mentions added."
    return [Figure("indexes", "The index decides first", caption, frame, panels, selectors, _legend(names, [FAINT, *PALETTE]))]


def funnel_figure(generation: pd.DataFrame) -> list[Figure]:
    """From prompts to kept mentions, and why notes were dropped."""
    import altair as alt

    if generation.empty:
        return []
    steps = {"prompted": "prompted", "generated": "written", "located": "kept, with a mention", "concepts_covered": "concepts covered"}
    rows = [
        {"generator": r["generator"], "step": label, "notes": r[key], "panel": "steps"}
        for _, r in generation.iterrows()
        for key, label in steps.items()
        if key in r
    ]
    reasons = [c for c in generation.columns if c.startswith("rejected_by_reason.")]
    rows += [
        {"generator": r["generator"], "step": c.split(".")[1].replace("_", " "), "notes": r[c], "panel": "reasons"}
        for _, r in generation.iterrows()
        for c in reasons
        if r[c] > 0
    ]
    frame = pd.DataFrame(rows).dropna()
    names = _domain(frame["generator"])
    panels = []
    for panel, title in (("steps", "from prompts to mentions"), ("reasons", "why notes were dropped")):
        part = frame[frame["panel"] == panel]
        if part.empty:
            continue
        chart = alt.Chart(alt.NamedData(name="funnel")).transform_filter(f"datum.panel == '{panel}'")
        bars = chart.mark_bar().encode(
            y=alt.Y("step:N", title=None, sort=list(dict.fromkeys(part["step"]))),
            yOffset=alt.YOffset("generator:N", scale=alt.Scale(domain=names)),
            x=alt.X("notes:Q", title="notes" if panel == "reasons" else "notes (concepts in the last row)", axis=alt.Axis(tickCount=5)),
            color=alt.Color("generator:N", scale=alt.Scale(domain=names, range=list(PALETTE)), title=None),
            tooltip=["generator:N", "step:N", alt.Tooltip("notes:Q", format=",")],
        )
        panels.append((title, bars.properties(width="container", height={"step": 9})))
    caption = "Notes of each generator: asked for, written, and kept because a mention of the concept was located and no filter objected."
    return [Figure("funnel", "From prompts to mentions", caption, frame, panels, {}, _legend(names))]


def runtime_figure(jobs: pd.DataFrame) -> list[Figure]:
    """Wall time and peak memory by rule."""
    import altair as alt

    if jobs.empty:
        return []
    frame = jobs.groupby("stage").agg(jobs=("wall_s", "size"), minutes=("wall_s", lambda s: s.sum() / 60), mib=("peak_mib", "max")).reset_index().round(3)
    tooltip = [
        alt.Tooltip("stage:N"),
        alt.Tooltip("jobs:Q", format=","),
        alt.Tooltip("minutes:Q", format=",.2f"),
        alt.Tooltip("mib:Q", format=",.0f", title="MiB"),
    ]
    panels = []
    for title, column, unit in (("time", "minutes", "wall time of all jobs, minutes"), ("memory", "mib", "peak memory of one job, MiB")):
        bars = alt.Chart(alt.NamedData(name="runtime")).mark_bar(color=PALETTE[0], height=8)
        chart = bars.encode(y=alt.Y("stage:N", title=None), x=alt.X(f"{column}:Q", title=unit, axis=alt.Axis(tickCount=5)), tooltip=tooltip)
        panels.append((title, chart.properties(width="container", height={"step": 17})))
    return [Figure("runtime", "Time and memory", "From Snakemake's benchmark of every job of this results folder.", frame, panels)]


def save(figures: list[Figure], out: Path) -> None:
    """Write NAME.svg and NAME.pdf of every figure, with its selectors at their first values."""
    import altair as alt
    import vl_convert

    out.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        panels = [chart.properties(width=230, title=title) for title, chart in figure.panels]
        seen: set[str] = set()
        for chart in panels:  # a parameter is declared once per file
            parameters = chart.params if chart.params is not alt.Undefined else []
            chart.params = [p for p in parameters if p.name not in seen] or alt.Undefined
            seen |= {p.name for p in parameters}
        parameters_of = [p for chart in panels if chart.params is not alt.Undefined for p in chart.params]
        for chart in panels:
            chart.params = alt.Undefined
        whole = alt.hconcat(*panels, spacing=28)
        if parameters_of:
            whole.params = parameters_of
        chosen = "; ".join(f"{label} {values[0]}" for label, values in figure.selectors.values())
        spec = whole.properties(title=alt.TitleParams(figure.title, subtitle=chosen or alt.Undefined, subtitleColor=INK, offset=14)).to_dict(validate=False)
        spec["datasets"] = {figure.name: records(figure.data)}
        spec["config"] = config() | {"background": "white"}
        (out / f"{figure.name}.svg").write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
        (out / f"{figure.name}.pdf").write_bytes(vl_convert.vegalite_to_pdf(spec))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON data, missing values as null."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)]
