"""Figures of scores by seed, recognition errors, accuracy by index, the funnel of generation, and run time.

In: frames of `tidy` and the funnels. Out: `vega.Figure` objects. Knows nothing of files and pages. Figures of differences between cells: `gains`.
"""

from __future__ import annotations

import pandas as pd

from mentionforge.entries import NONE
from mentionforge.measures import main
from mentionforge.report.entry_order import by_linker, by_size_of_index, by_strategy
from mentionforge.report.gains import BUCKETS
from mentionforge.report.vega import FAINT, LINE_SEPARATOR, PALETTE, Figure, colour_domain, legend_of, multiline_axis

ERRORS = {"missed": "missed", "boundary": "wrong boundary", "spurious": "spurious"}


def seed_figures(seeds: pd.DataFrame) -> list[Figure]:
    """Score of each seed, with mean and standard deviation: one figure per task that has cells with several seeds.

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
        names = [*([NONE] if NONE in set(frame["generator"]) else []), *colour_domain(frame["generator"])]
        range_ = [FAINT, *PALETTE] if NONE in names else list(PALETTE)
        panels = []
        for system in sorted(frame["system"].unique()):
            where = f"datum.system == '{system}' && datum.corpus == corpus && datum.measure == measure"
            chart = alt.Chart(alt.NamedData(name=name)).transform_filter(where)
            title = {"recognition": "strategy, schedule", "end_to_end": "strategy, schedule/index"}.get(str(task), "strategy, index")
            rows = alt.Y("cell:N", title=title, axis=multiline_axis(), scale=alt.Scale(paddingInner=0.35))
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
        figures.append(Figure(name, head, caption, frame, panels, selectors, legend_of(names, range_)))
    return figures


def error_figure(errors: pd.DataFrame) -> list[Figure]:
    """Errors of recognizers: gold mentions missed or found with another boundary, and spurious predictions.

    Args:
        errors: `tidy.error_counts`.
    """
    import altair as alt

    if errors.empty:
        return []
    frame = errors.assign(error=errors["error"].map(ERRORS))
    text = (frame["generator"] + " " + frame["strategy"]).where(frame["generator"] != NONE, "no synthetic text")
    frame["cell"] = frame["system"] + ", " + text + LINE_SEPARATOR + frame["variant"]
    panels = []
    for corpus in sorted(frame["corpus"].unique()):
        chart = alt.Chart(alt.NamedData(name="errors")).transform_filter(f"datum.corpus == '{corpus}'")
        bars = chart.mark_bar(height=12).encode(
            y=alt.Y("cell:N", title="recognizer, text, schedule", axis=multiline_axis()),
            x=alt.X("count:Q", title="errors, mean over seeds", stack=True, axis=alt.Axis(tickCount=5)),
            color=alt.Color("error:N", scale=alt.Scale(domain=list(ERRORS.values()), range=list(PALETTE)), title=None),
            order=alt.Order("rank:Q"),
            tooltip=["system:N", "generator:N", "strategy:N", "variant:N", "error:N", alt.Tooltip("count:Q", format=",.1f"), alt.Tooltip("seeds:Q")],
        )
        panels.append((corpus, bars.properties(width="container", height={"step": 34})))
    caption = "Test split. Missed: no prediction overlaps the gold mention. Wrong boundary: one does. Spurious: a prediction that overlaps no gold mention."
    return [Figure("errors", "What recognizers get wrong", caption, frame, panels, {}, legend_of(list(ERRORS.values())))]


def index_figure(metrics: pd.DataFrame) -> list[Figure]:
    """Accuracy by index, with and without synthetic mentions."""
    import altair as alt

    frame = metrics[(metrics["task"] == "normalization") & (metrics["metric"] == main("normalization").name) & (metrics["split"] == "test")]
    frame = frame[frame["bucket"].isin(list(BUCKETS))].copy()
    if frame.empty:
        return []
    frame = frame.assign(percent=(100 * frame["value"]).round(3), mentions=frame["bucket"].map(BUCKETS))
    # The baseline is repeated under every strategy, so that each choice of a strategy shows it.
    strategies = sorted(set(frame["strategy"]) - {NONE}, key=by_strategy) or [NONE]
    base = frame[frame["strategy"] == NONE]
    frame = pd.concat([frame[frame["strategy"] != NONE], *(base.assign(strategy=s) for s in strategies)])
    frame = frame[["corpus", "system", "variant", "generator", "strategy", "mentions", "percent", "n"]]
    names = [NONE, *colour_domain(frame["generator"])]
    indexes = sorted(frame["variant"].unique(), key=by_size_of_index)
    selectors = {
        "corpus": ("corpus", sorted(frame["corpus"].unique())),
        "system": ("linker", sorted(frame["system"].unique(), key=by_linker)),
        "strategy": ("strategy", strategies),
    }
    panels = []
    for bucket in ("all", "seen_concept", "unseen_concept"):
        where = f"datum.mentions == '{BUCKETS[bucket]}' && datum.corpus == corpus && datum.system == system && datum.strategy == strategy"
        colours = alt.Color("generator:N", scale=alt.Scale(domain=names, range=[FAINT, *PALETTE]), title=None)
        shift = alt.YOffset("generator:N", scale=alt.Scale(domain=names))
        chart = alt.Chart(alt.NamedData(name="indexes")).transform_filter(where)
        rows = alt.Y("variant:N", title="index", sort=indexes)
        x = alt.X("percent:Q", title=f"{main('normalization').label} in per cent", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
        tooltip = [alt.Tooltip("generator:N"), alt.Tooltip("variant:N", title="index"), alt.Tooltip("percent:Q", format=".1f"), alt.Tooltip("n:Q", format=",")]
        marks = chart.mark_point(filled=True, size=60, opacity=1).encode(y=rows, yOffset=shift, x=x, color=colours, tooltip=tooltip)
        values = {k: v[1][0] for k, v in selectors.items()}
        chart = marks.properties(width="container", height={"step": 9}).add_params(*(alt.param(name=k, value=v) for k, v in values.items()))
        panels.append((BUCKETS[bucket], chart))
    caption = (
        f"{main('normalization').label} on the test split by what the index holds: training mentions (the paper's), all names of the knowledge base, or both; "
        "each with the generator's mentions added."
    )
    return [Figure("indexes", "The index decides first", caption, frame, panels, selectors, legend_of(names, [FAINT, *PALETTE]))]


def funnel_figure(generation: pd.DataFrame) -> list[Figure]:
    """Notes at each step from prompts to kept mentions, and the reasons for which notes were dropped."""
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
    names = colour_domain(frame["generator"])
    panels = []
    for panel, title in (("steps", "from prompts to mentions"), ("reasons", "why notes were dropped")):
        panel_rows = frame[frame["panel"] == panel]
        if panel_rows.empty:
            continue
        chart = alt.Chart(alt.NamedData(name="funnel")).transform_filter(f"datum.panel == '{panel}'")
        bars = chart.mark_bar().encode(
            y=alt.Y("step:N", title=None, sort=list(dict.fromkeys(panel_rows["step"]))),
            yOffset=alt.YOffset("generator:N", scale=alt.Scale(domain=names)),
            x=alt.X("notes:Q", title="notes" if panel == "reasons" else "notes (concepts in the last row)", axis=alt.Axis(tickCount=5)),
            color=alt.Color("generator:N", scale=alt.Scale(domain=names, range=list(PALETTE)), title=None),
            tooltip=["generator:N", "step:N", alt.Tooltip("notes:Q", format=",")],
        )
        panels.append((title, bars.properties(width="container", height={"step": 9})))
    caption = "Notes of each generator: asked for, written, and kept because a mention of the concept was located and no filter objected."
    return [Figure("funnel", "From prompts to mentions", caption, frame, panels, {}, legend_of(names))]


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
