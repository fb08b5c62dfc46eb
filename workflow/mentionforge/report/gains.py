"""Figures of gains: differences between cells with their intervals, by cell, group of mentions, dose and swept setting.

In: the comparisons of `tidy.tidy_comparisons`. Out: `vega.Figure` objects. Computes no interval or p value. Knows nothing of files and pages.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from mentionforge.measures import OF_GROUPS, main, of_groups, ranked
from mentionforge.report.entry_order import by_linker, by_size_of_index, by_strategy
from mentionforge.report.vega import FAINT, PALETTE, Figure, colour_domain, legend_of

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
"""Short names of the semantic types in the UMLS group Disorders."""

SWEPT = re.compile(r"~(notes_per_concept|notes_per_mention)=([0-9.]+)(?=~|$)")
"""A dose in the name of a strategy or generator that a sweep unfolded."""

DOSES = {"notes_per_concept": "notes per concept", "notes_per_mention": "notes per training mention"}


def forest_plot(
    data: str, frame: pd.DataFrame, y: str, y_title: str, colour: str, where: str, parameters: dict[str, str], order: list[str] | None = None
) -> Any:
    """A forest plot: differences in points with their intervals, one row per `y`, one colour per `colour`, pale where mentions are few.

    Args:
        data: Name of the data set.
        frame: Its rows, from `in_percentage_points`.
        y: Column of the rows.
        y_title: Title of that axis.
        colour: Column of the colours.
        where: Vega expression that selects the rows of this panel.
        parameters: Parameters of that expression with their first values.
        order: Order of the values of `y`; none: ascending.
    """
    import altair as alt

    names = colour_domain(frame[colour])
    base = alt.Chart(alt.NamedData(name=data)).transform_filter(where)
    shift = alt.YOffset(f"{colour}:N", scale=alt.Scale(domain=names))
    # The name of a swept variant gets one line per swept key.
    axis = alt.Axis(labelExpr="split(datum.label, '~')", labelLineHeight=12)
    rows = alt.Y(f"{y}:N", title=y_title, sort=order or "ascending", scale=alt.Scale(paddingInner=0.35), axis=axis)
    colours = alt.Color(f"{colour}:N", scale=alt.Scale(domain=names, range=list(PALETTE)), title=None)
    text_fields = ["corpus", "system", "variant", "generator", "strategy", "reference", "mentions", "role", "covers"]
    count_fields = ["n", "documents", "runs"]
    tooltip: list[Any] = [alt.Tooltip(f"{t}:N") for t in text_fields] + [alt.Tooltip(f"{t}:Q", format=",") for t in count_fields]
    tooltip += [alt.Tooltip(f"{t}:Q", format="+.1f") for t in ("points", "from", "to")] + [alt.Tooltip(f"{t}:Q", format=".4f") for t in ("p", "p_adjusted")]
    x = alt.X("from:Q", title="difference in points", axis=alt.Axis(tickCount=5))
    zero = alt.Chart(alt.NamedData(name=data)).transform_aggregate(k="count()").transform_calculate(zero="0")
    line = zero.mark_rule(color=FAINT, strokeWidth=1).encode(x="zero:Q")
    bars = base.mark_rule(strokeWidth=2).encode(y=rows, yOffset=shift, x=x, x2="to:Q", color=colours, tooltip=tooltip)
    points = base.mark_point(filled=True, size=58).encode(
        y=rows, yOffset=shift, x="points:Q", color=colours, opacity=alt.condition("datum.few", alt.value(0.35), alt.value(1)), tooltip=tooltip
    )
    full_range = zero.transform_calculate(one="1", less="-1").mark_rule(opacity=0).encode(x="less:Q", x2="one:Q")  # keeps the axis where all differences are 0
    height = {"step": max(11, 30 // max(1, len(names)) + 5)}
    chart = alt.layer(full_range, line, bars, points).properties(width="container", height=height)
    return chart.add_params(*(alt.param(name=name, value=value) for name, value in parameters.items()))


def in_percentage_points(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Comparisons for figures: differences in percentage points, and labels instead of codes."""
    frame = comparisons[comparisons["metric"].isin(ranked("recognition", "normalization"))].copy()
    frame = frame[~((frame["metric"] == OF_GROUPS["recognition"]) & (frame["slice"] == "all"))]
    for name, column in (("points", "difference"), ("from", "low"), ("to", "high")):
        frame[name] = (100 * frame[column]).round(3)
    frame["mentions"] = frame["group"].map(lambda g: BUCKETS.get(g, g))
    by_type = frame["slice"] == "semantic_type"
    frame.loc[by_type, "mentions"] = frame.loc[by_type, "group"].map(lambda g: f"{TYPES[g]} ({g})" if g in TYPES else g)
    against_names = frame["against"] == "kb"
    frame["reference"] = frame["reference_generator"].where(~against_names, "dictionary")
    frame["reference"] = frame["reference"].where(frame["against"] != "external", frame["reference_system"])
    columns = ["task", "corpus", "system", "variant", "generator", "strategy", "against", "reference", "slice", "group", "mentions", "metric"]
    return frame[[*columns, "points", "from", "to", "p", "p_adjusted", "role", "n", "documents", "runs", "covers", "few"]]


def difference_figures(comparisons: pd.DataFrame) -> list[Figure]:
    """Gains of normalization over the baseline, over controls and dictionary, by group and by dose; gains of recognition over the baseline."""
    frame = in_percentage_points(comparisons)
    figures = []
    linking = frame[frame["task"] == "normalization"]
    indexes = sorted(linking["variant"].unique(), key=by_size_of_index)
    common = {
        "corpus": ("corpus", sorted(linking["corpus"].unique())),
        "system": ("linker", sorted(linking["system"].unique(), key=by_linker)),
    }
    selection = "datum.corpus == corpus && datum.system == system"
    mentions = ("mentions", [BUCKETS[b] for b in ("all", "unseen_concept", "seen_concept", "seen_mention") if b in set(linking["group"])])
    protocol = (
        f"{main('normalization').label} on the test split. Bars: 95 % bootstrap intervals, paired, over documents and, where there are several, seeds. "
        "Pale: fewer than 30 mentions. Pointing at a mark tells n and p."
    )
    for name, title, against, colour in (
        ("gains", "What synthetic mentions add to none", ["baseline"], "generator"),
        ("controls", "What a language model adds to the names alone", ["control", "kb"], "reference"),
    ):
        rows = linking[linking["against"].isin(against) & linking["slice"].isin(["all", "bucket"])]
        if rows.empty:
            continue
        selectors = {**common, "mentions": mentions}
        if name == "controls":
            selectors["generator"] = ("generator", sorted(rows["generator"].unique()))
        values = {k: v[1][0] for k, v in selectors.items()}
        extra = " && datum.generator == generator" if name == "controls" else ""
        panels = []
        for index in [i for i in indexes if i in set(rows["variant"])]:
            where = f"datum.variant == '{index}' && {selection} && datum.mentions == mentions{extra}"
            panels.append((f"index {index}", forest_plot(name, rows, "strategy", "strategy", colour, where, values)))
        caption = protocol
        if name == "gains":
            caption += " With the index train (the paper's), unseen concepts cannot be found without synthetic text: that baseline is 0 by construction."
        else:
            caption += " Against controls: same strategy, same index. Dictionary: no synthetic text, but the knowledge base's names in the index."
        figures.append(Figure(name, title, caption, rows, panels, selectors, legend_of(colour_domain(rows[colour]))))
    base = linking[linking["against"] == "baseline"]
    figures += _group_figures(base, common, indexes, protocol) + _dose_figures(base, common, indexes, protocol) + _sweep_figures(base, common, indexes)
    tagging = frame[(frame["task"] == "recognition") & frame["slice"].isin(["all", "bucket"])].copy()
    tagging = tagging[tagging["against"] == "baseline"]
    if len(tagging):
        tagging["mentions"] = tagging["mentions"].where(tagging["slice"] == "bucket", f"{main('recognition').label}, all mentions")
        tagging.loc[tagging["slice"] == "bucket", "mentions"] = f"{of_groups('recognition').short}, " + tagging["mentions"]
        corpora = sorted(tagging["corpus"].unique())
        measures = sorted(tagging["mentions"].unique(), key=lambda m: (not m.startswith(main("recognition").label), m))
        panels = [
            (
                c,
                forest_plot(
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
        caption = f"{main('recognition').level.capitalize()} entity scores on the test split, differences to training on real text alone; intervals as above, over documents and, with several seeds, runs."
        figures.append(
            Figure("recognition", "Recognition", caption, tagging, panels, {"mentions": ("measure", measures)}, legend_of(colour_domain(tagging["generator"])))
        )
    return figures


def _has_swept_dose(names: pd.Series) -> pd.Series:
    """Whether each name holds a swept dose."""
    return names.map(lambda name: SWEPT.search(name) is not None).astype(bool)


def _group_figures(base: pd.DataFrame, common: dict[str, Any], indexes: list[str], protocol: str) -> list[Figure]:
    """Gains by rarity of the concept and by semantic type."""
    slices = [
        ("train_mentions", "by frequency in training", "training mentions of the concept"),
        ("names", "by names in the knowledge base", "names of the concept"),
        ("semantic_type", "by semantic type", "UMLS semantic type"),
    ]
    rows = base[base["slice"].isin([s for s, *_ in slices]) & ~_has_swept_dose(base["strategy"])]
    if rows.empty:
        return []
    strategies = sorted(rows["strategy"].unique(), key=by_strategy)
    selectors = {**common, "variant": ("index", indexes), "strategy": ("strategy", strategies)}
    values = {k: v[1][0] for k, v in selectors.items()}
    panels = []
    for slice_, title, label in slices:
        where = f"datum.slice == '{slice_}' && datum.corpus == corpus && datum.system == system && datum.variant == variant && datum.strategy == strategy"
        order = [g for g in ORDER if g in set(rows["group"])] if slice_ != "semantic_type" else None
        panels.append((title, forest_plot("groups", rows, "mentions", label, "generator", where, values, order)))
    note = "Groups by the mention's concept: how often the training split has it, how many names the knowledge base has for it, its UMLS semantic type. Exploratory."
    return [
        Figure(
            "groups",
            "Which mentions gain: rarity and semantic type",
            f"{protocol} {note} Differences to none.",
            rows,
            panels,
            selectors,
            legend_of(colour_domain(rows["generator"])),
        )
    ]


def _dose_figures(base: pd.DataFrame, common: dict[str, Any], indexes: list[str], protocol: str) -> list[Figure]:
    """Gains by the number of synthetic notes of a mention's concept, a panel per strategy."""
    rows = base[(base["slice"] == "notes") & ~_has_swept_dose(base["strategy"])]
    if rows.empty:
        return []
    selectors = {**common, "variant": ("index", indexes)}
    values = {k: v[1][0] for k, v in selectors.items()}
    order = [g for g in ORDER if g in set(rows["group"])]
    panels = []
    for strategy in sorted(rows["strategy"].unique(), key=by_strategy):
        where = f"datum.strategy == '{strategy}' && datum.corpus == corpus && datum.system == system && datum.variant == variant"
        panels.append((strategy, forest_plot("dose", rows, "mentions", "synthetic notes of the concept", "generator", where, values, order)))
    note = "Mentions by the number of synthetic notes that their concept has in the cell, one panel per strategy. Differences to none. Exploratory."
    return [Figure("dose", "Dose and response", f"{protocol} {note}", rows, panels, selectors, legend_of(colour_domain(rows["generator"])))]


def _sweep_figures(base: pd.DataFrame, common: dict[str, Any], indexes: list[str]) -> list[Figure]:
    """Gains along a swept dose (notes per concept, or per training mention), a panel per strategy."""
    import altair as alt

    differences = base[base["slice"].isin(["all", "bucket"])].copy()
    swept_frames = []
    for column in ("strategy", "generator"):
        swept = differences[_has_swept_dose(differences[column])].copy()
        matches = swept[column].str.extract(SWEPT)
        swept["key"], swept["dose"] = matches[0], matches[1].astype(float)
        swept[column] = swept[column].str.replace(SWEPT, "", regex=True)
        swept_frames.append(swept)
    figures = []
    all_swept = pd.concat(swept_frames, ignore_index=True) if swept_frames else differences
    for key, rows in all_swept.groupby("key") if len(all_swept) else ():
        name = f"sweep_{key}"
        names = colour_domain(rows["generator"])
        groups = [BUCKETS[b] for b in BUCKETS if b in set(rows["group"])]
        selectors = {
            "corpus": ("corpus", sorted(rows["corpus"].unique())),
            "system": ("linker", [s for s in common["system"][1] if s in set(rows["system"])]),
            "variant": ("index", [i for i in indexes if i in set(rows["variant"])]),
            "mentions": ("mentions", groups),
        }
        values = {k: v[1][0] for k, v in selectors.items()}
        panels = []
        for strategy in sorted(rows["strategy"].unique(), key=by_strategy):
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
            y = alt.Y("from:Q", title="difference in points", axis=alt.Axis(grid=True))
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
            f"Difference to none in {main('normalization').label} on the test split along the dose, a setting of the strategy or generator; bars: 95 % bootstrap intervals, paired, "
            "over documents and, where there are several, seeds. One panel per strategy."
        )
        figures.append(Figure(name, f"Dose-response: {DOSES[str(key)]}", caption, rows.drop(columns="key"), panels, selectors, legend_of(names)))
    return figures
