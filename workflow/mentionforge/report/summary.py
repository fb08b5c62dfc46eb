"""The summary of an experiment: one CSV file per task with a row per cell, and the tables of summary.md.

In: metrics, funnels, counts and stamps of a results folder. Out: the files. Scores are shares (0 to 1) in CSV files and per cent in Markdown.
Knows nothing of intervals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import __version__, measures, tables
from mentionforge.entries import NONE
from mentionforge.errors import UserError
from mentionforge.layout import TRAINED_ON, Results, entry_in
from mentionforge.provenance import git_revision, sha256_file, versions
from mentionforge.report.comparable import subset_table
from mentionforge.report.entry_order import by_size_of_index
from mentionforge.report.external import external_section
from mentionforge.report.formatting import FEW
from mentionforge.report.layouts import end_to_end_table, recognition_scores
from mentionforge.report.tidy import error_counts, seeds_as_column

VERSION = 1
"""Of the part report.summary: raise it where earlier results would be wrong (mentionforge.versions)."""

BUCKETS = ("all", "seen_mention", "seen_concept", "unseen_concept")
RECOGNITION_CELL = ["corpus", "generator", "strategy", "system", "variant", "seed"]
NORMALIZATION_CELL = ["corpus", "generator", "strategy", "system", "variant"]
NAMES = {
    "recognition": {"system": "recognizer", "variant": "schedule"},
    "normalization": {"system": "linker", "variant": "index"},
    "end_to_end": {"system": "recognizer/linker", "variant": "schedule/index"},
}
FUNNEL = (
    "generator",
    "concepts_prompted",
    "prompted",
    "generated",
    "finished_by_length",
    "with_tags",
    "located",
    "located_by_match",
    "rejected",
    "rejected_by_reason",
    "concepts_covered",
    "mentions",
    "mentions_by_match",
    "unlisted_surface_share",
    "notes_by_mentions",
)
"""Order of the counts of a funnel in tables."""

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "faiss-cpu", "seqeval", "snakemake")


def summarize(
    metrics: Sequence[Path],
    funnels: Sequence[Path],
    corpora: Sequence[Path],
    kbs: Sequence[Path],
    models: Sequence[Path],
    out: Path,
    errors: Sequence[Path] = (),
    external: Sequence[Path] = (),
) -> None:
    """Write recognition.csv, normalization.csv, end_to_end.csv, generation.csv and summary.md into a folder.

    Args:
        metrics: Metrics tables (tables.METRICS), one per task and corpus.
        funnels: funnel.json of each generator; the folder's name is the generator's.
        corpora: stats.json of each corpus; the folder's name is the corpus'.
        kbs: stats.json of each knowledge base.
        models: Stamps (fetched.json) of the weights used.
        out: Folder to write to.
        errors: Tables of recognition errors, one per corpus.
        external: Predictions of external systems.
    """
    frame = pd.concat([tables.read(tables.METRICS, path).to_pandas() for path in metrics], ignore_index=True)
    digests = {entry_in(path): sha256_file(path)[:12] for path in [*corpora, *kbs]}
    revisions = {entry_in(path): json.loads(path.read_text(encoding="utf-8"))["revision"] for path in models}
    common = {
        "mentionforge": __version__,
        "git_revision": git_revision(),
        "kb_digests": " ".join(f"{entry_in(path)}={digests[entry_in(path)]}" for path in kbs),
        "models": " ".join(f"{name}={revision}" for name, revision in sorted(revisions.items())),
    }
    out.mkdir(parents=True, exist_ok=True)
    recognition = wide(frame, "recognition").assign(**common)
    normalization = wide(frame, "normalization").assign(**common)
    end_to_end = wide(frame, "end_to_end").assign(**common)
    for table in (recognition, normalization, end_to_end):
        table["corpus_digest"] = table["corpus"].map(digests)
    generation = funnel_frame(funnels).assign(**{k: v for k, v in common.items() if k != "kb_digests"})
    recognition.to_csv(out / "recognition.csv", index=False)
    normalization.to_csv(out / "normalization.csv", index=False)
    end_to_end.to_csv(out / "end_to_end.csv", index=False)
    generation.to_csv(out / "generation.csv", index=False)
    (out / "summary.md").write_text(markdown(frame, generation, common, error_counts(errors), external) + "\n", encoding="utf-8")


def wide(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """One row per cell: columns `SPLIT.BUCKET.METRIC`, and `SPLIT.BUCKET.n` (gold mentions of the bucket)."""
    cell = NORMALIZATION_CELL if task == "normalization" else RECOGNITION_CELL
    rows = frame[frame["task"] == task]
    if rows.empty:
        return pd.DataFrame(columns=[NAMES[task].get(c, c) for c in cell])
    keys = rows["split"] + "." + rows["bucket"]
    values = rows.assign(column=keys + "." + rows["metric"]).pivot(index=cell, columns="column", values="value")
    gold = rows[rows["metric"].isin(list(measures.OF_GROUPS.values()))]
    counts = gold.assign(column=gold["split"] + "." + gold["bucket"] + ".n").pivot(index=cell, columns="column", values="n")
    joined = values.join(counts.fillna(0).astype("int64"))
    columns: list[str] = [str(c) for c in joined.columns]
    ordered = sorted(columns, key=_column_order)
    joined = joined[ordered]
    return joined.reset_index().rename(columns=NAMES[task])


def _column_order(column: str) -> tuple[int, int, str, str]:
    split, bucket, metric = column.split(".", 2)
    return (0 if split == "test" else 1, BUCKETS.index(bucket) if bucket in BUCKETS else len(BUCKETS), "" if metric == "n" else "x", metric)


def funnel_frame(funnels: Sequence[Path]) -> pd.DataFrame:
    """One row per generator: its funnel, nested counts as `a.b` columns."""
    rows = []
    for path in funnels:
        flat = pd.json_normalize(json.loads(path.read_text(encoding="utf-8"))).iloc[0].to_dict()
        rows.append({"generator": entry_in(path), **flat})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["generator"])


# ------------------------------------------------------------------------------------------------------------ Markdown


def percent(value: Any) -> str:
    """A share in per cent with one decimal; a dash for a missing value."""
    return "–" if value is None or pd.isna(value) else f"{100 * float(value):.1f}"


def markdown(frame: pd.DataFrame, generation: pd.DataFrame, common: dict[str, str], errors: pd.DataFrame, external: Sequence[Path] = ()) -> str:
    """The text of summary.md."""
    sections = [
        "# Summary",
        f"mentionforge {common['mentionforge']}, revision {common['git_revision']}; "
        + ", ".join(f"{name} {version}" for name, version in versions(*PACKAGES).items())
        + f". Weights: {common['models'] or 'none'}. Knowledge base: {common['kb_digests']}.",
        "Test split throughout. Buckets against the training split: seen mention (same surface and concept), seen concept (new surface), "
        "unseen concept (out of distribution). Without a knowledge base or synthetic mentions in the index, the accuracy on unseen concepts "
        "is 0 by construction.",
    ]
    for corpus in sorted(frame.loc[frame["task"] == "normalization", "corpus"].unique()):
        sections += ["\n".join([f"## Normalization, {corpus}: {measures.main('normalization').label} in per cent", "", normalization_table(frame, corpus)])]
    if (frame["task"] == "recognition").any():
        sections += ["## Recognition: strict entity scores in per cent\n\n" + recognition_table(frame)]
    further_tables = (
        (f"Recognition: partial and token {measures.F1.short}, scores by bucket, errors", recognition_scores(frame, errors)),
        ("Recognition across corpora", recognition_scores(frame, errors, crossed=True)),
        (f"Normalization: {measures.of_groups('normalization').label} by subset that others score", subset_table(frame, "normalization")),
        (f"Recognition: {measures.of_groups('recognition').label} by subset that others score", subset_table(frame, "recognition")),
        ("End to end: predicted mentions, linked; span and concept together", end_to_end_table(frame)),
    )
    for title, table in further_tables:
        if len(table):
            note = "Per cent, mean over seeds. "
            if "by subset" in title:
                note += "New: not in train or dev; distinct: each pair of surface and concepts once. "
            elif title.startswith("Recognition"):
                note = f"Per cent, mean over seeds; {measures.of_groups('recognition').head} {measures.of_groups('recognition').short}. Errors: mean number per seed. "
            sections += [f"## {title}\n\n{note}n: gold mentions, {FEW} below 30.\n\n" + table.fillna("").to_markdown(index=False, disable_numparse=True)]
    if external:
        sections.append(external_section(external))
    if not generation.empty:
        sections += ["## Generation: from prompts to located mentions\n\n" + generation_table(generation)]
    return "\n\n".join(sections)


def normalization_table(frame: pd.DataFrame, corpus: str) -> str:
    """The main score in per cent: one row per linker, generator and strategy, one column per index with overall / seen concept / unseen concept."""
    scores = frame[(frame["task"] == "normalization") & (frame["corpus"] == corpus) & (frame["metric"] == measures.MAIN["normalization"])]
    buckets = ("all", "seen_concept", "unseen_concept")
    n = {bucket: int(scores.loc[scores["bucket"] == bucket, "n"].max()) for bucket in buckets if (scores["bucket"] == bucket).any()}
    values = {(row.system, row.generator, row.strategy, row.variant, row.bucket): row.value for row in scores.itertuples()}
    rows = []
    for system, generator, strategy in sorted({key[:3] for key in values}, key=lambda k: (k[0], k[1] != NONE, k[2], k[1])):
        row = {"linker": system, "strategy": strategy, "generator": generator}
        for index in sorted(scores["variant"].unique(), key=by_size_of_index):
            row[f"index {index}"] = " / ".join(percent(values.get((system, generator, strategy, index, bucket))) for bucket in n)
        rows.append(row)
    head = "Each cell: " + " / ".join(f"{bucket.replace('_', ' ')} (n={count})" for bucket, count in n.items()) + "."
    return head + "\n\n" + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def recognition_table(frame: pd.DataFrame) -> str:
    """Precision, recall, F1 and recall per bucket in per cent, one row per cell; several seeds as mean ± standard deviation."""
    scores = seeds_as_column(frame[(frame["task"] == "recognition") & (frame["split"] == "test") & ~frame["variant"].str.contains(TRAINED_ON)])
    columns = {
        **{s.ratio.short: ("all", s.name) for s in measures.of_level("strict") if s.ratio},
        **{
            f"{measures.of_groups('recognition').head} {bucket.replace('_', ' ')}": (bucket, measures.OF_GROUPS["recognition"])
            for bucket in ("seen_mention", "seen_concept", "unseen_concept")
        },
    }
    rows = []
    for key, cells in scores.groupby(["corpus", "system", "generator", "strategy", "variant"], sort=True):
        row = dict(zip(["corpus", "recognizer", "generator", "strategy", "schedule"], key, strict=True))
        row["seeds"] = str(cells["seed"].nunique())
        for name, (bucket, metric) in columns.items():
            values = cells.loc[(cells["bucket"] == bucket) & (cells["metric"] == metric), "value"].dropna()
            text = percent(values.mean() if len(values) else None)
            row[name] = f"{text} ± {100 * values.std():.1f}" if len(values) > 1 else text
        gold = cells.loc[(cells["bucket"] == "all") & (cells["metric"] == measures.OF_GROUPS["recognition"]), "n"]
        row["n"] = str(int(gold.max())) if len(gold) else "0"
        rows.append(row)
    rows.sort(key=lambda r: (r["corpus"], r["recognizer"], r["generator"] != NONE, r["generator"], r["strategy"], r["schedule"]))
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def generation_table(generation: pd.DataFrame) -> str:
    """Counts of the funnel, one column per generator."""
    hidden = {"mentionforge", "git_revision", "models"}
    columns = [c for c in generation.columns if c not in hidden]
    ordered = sorted(columns, key=lambda c: FUNNEL.index(c.split(".")[0]) if c.split(".")[0] in FUNNEL else len(FUNNEL))
    table = generation[ordered].set_index("generator").T
    table = table.map(lambda v: "–" if pd.isna(v) else f"{v:,.0f}" if float(v).is_integer() else f"{v:.3f}")
    return table.rename_axis("count").reset_index().to_markdown(index=False, disable_numparse=True)


def show(results: Path) -> None:
    """Print the summary of a results folder on the terminal, and the paths of its files.

    Raises:
        UserError: There is no summary yet.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    page = Path(Results(str(results)).summary("summary.md"))
    if not page.is_file():
        raise UserError("no summary", str(page), "the workflow has not finished", "run snakemake")
    console = Console()
    if not console.is_terminal:  # the default of 80 columns for files and pipes would cut every name
        console.width = 140
    console.print(Markdown(page.read_text(encoding="utf-8")))
    console.print(f"\nTables: {results}/summary/*.csv, {page}")
