"""Comparisons of all cells of a task and corpus: overall and by group of mentions.

In: predictions of each cell, corpus, knowledge base, chosen notes. Out: tables.COMPARISONS and tables.CHANGES. Knows no intervals and corrections.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import measures, provenance, tables
from mentionforge.corpora.settings import Corpus
from mentionforge.entries import EXTERNAL, NONE, REAL_ONLY
from mentionforge.errors import UserError
from mentionforge.evaluation.families import Family, corrected_rows, family_of, most_resamples
from mentionforge.evaluation.seeds import Seeds, factors
from mentionforge.evaluation.settings import Statistics
from mentionforge.evaluation.statistics import Contrast, Estimates, estimate
from mentionforge.evaluation.subsets import subset_weights, train_and_dev
from mentionforge.layout import chosen_in, levels_below
from mentionforge.progress import say, track
from mentionforge.specs import read_spec

# Comparisons; all but the last stay within one system (recognizer or linker):
#
# - `baseline`: a cell, and the cell without synthetic text in the same index; for recognition, the schedule real_only.
# - `control`: a cell of a generator that is no control, and the cell of each control with the same strategy, index or schedule.
# - `kb`: a cell of a generator that is no control in an index without the knowledge base, and the cell without synthetic text in the same index
#   with the knowledge base.
# - `external`: each cell, and the predictions of each external system; overall and by bucket only. Two external systems are compared once.
#
# Groups of mentions (`slice`): all; OOD bucket; number of training mentions with one of the mention's concepts; number of names of its concepts in the
# knowledge base; semantic type (a mention may have several); subsets that other papers score (`subsets`); number of synthetic notes of its concepts in
# the cell (the dose), as the mean over the generator's seeds, rounded up. Of a mention with several concepts the largest number counts.
#
# A sweep over `seed` of a generator gives runs of one cell, as training seeds of a recognizer do: two crossed factors (`seeds`).


VERSION = 2
"""Of the part statistics.compare: raise it where earlier results would be wrong (mentionforge.versions)."""

SEED = re.compile(r"~seed=(\d+)(?=~|$)")
"""Suffix of a generator's name in a sweep over its seeds."""

RANGES = ((0, "0"), (1, "1"), (5, "2-5"), (20, "6-20"), (float("inf"), "21+"))
"""Ranges of counts that form groups: upper limit and name."""


class ComparedCell(NamedTuple):
    """A cell without its seeds: the unit of comparison."""

    generator: str
    strategy: str
    system: str
    variant: str


@dataclass
class Outcomes:
    """Results of all runs of a task and corpus on the test split.

    Attributes:
        runs: Row numbers of each cell's runs, by seed.
        documents: Number of each mention's document, from 0, [mentions].
        mention_ids: Ids of the mentions, in the order of the columns.
        right: 1 where a mention is right at rank 1 (normalization) or predicted (recognition), else 0, [runs, mentions].
        further: By name, values of other scores that are means over mentions, [runs, mentions]; normalization only.
        counts: True positives, predictions and gold mentions, [3, runs, documents]; recognition only.
        predicted: First concept, an index into `cuis` or -1, [runs, mentions]; normalization only.
    """

    runs: dict[ComparedCell, dict[Seeds, int]]
    documents: np.ndarray
    mention_ids: list[str]
    right: np.ndarray
    further: Mapping[str, np.ndarray] | None = None
    counts: np.ndarray | None = None
    predicted: np.ndarray | None = None
    cuis: list[str] | None = None  # of the predicted concepts


class MentionGroup(NamedTuple):
    """A group of mentions; `members` are column numbers. `of` is the generator and strategy that a group of the slice `notes` belongs to."""

    slice: str
    name: str
    members: np.ndarray
    of: tuple[str, str] | None = None


class Comparison(NamedTuple):
    """A pair of cells; `against` says what the reference is to the cell: baseline, control, kb or external."""

    cell: ComparedCell
    against: str
    reference: ComparedCell


def compare(
    task: str,
    corpus: Path,
    corpus_spec: Path,
    kb: Path,
    base: Path,
    predictions: Sequence[Path],
    chosen: Sequence[Path],
    controls: Sequence[str],
    with_kb: Sequence[str],
    settings: Statistics,
    out: Path,
    threads: int = 1,
) -> None:
    """Compare all cells of a task and corpus, and write comparisons.parquet and changes.parquet.

    Args:
        task: recognition or normalization.
        corpus: Folder with tables.DOCUMENTS and tables.MENTIONS.
        corpus_spec: Spec of the corpus.
        kb: Folder of its knowledge base, with tables.CONCEPTS and tables.NAMES.
        base: Folder below which the path of a prediction names its cell.
        predictions: Predictions of each run.
        chosen: tables.CHOSEN of each generator and strategy, at CORPUS/GENERATOR/STRATEGY/notes.parquet.
        controls: Generators that are controls.
        with_kb: INDEX=INDEX, an index without the knowledge base and the same index with it.
        settings: Settings of the statistics.
        out: Folder to write to.
        threads: Number of groups of mentions to work on at a time.
    """
    outcomes = (normalization_outcomes if task == "normalization" else recognition_outcomes)(corpus, corpus_spec, base, predictions)
    cell_pairs = comparisons(list(outcomes.runs), [SEED.sub("", c) for c in controls], dict(pair.split("=", 1) for pair in with_kb))
    groups = mention_groups(corpus, kb, outcomes.mention_ids, chosen)
    say(f"{len(cell_pairs):,} comparisons of {len(outcomes.runs):,} cells on {len(outcomes.mention_ids):,} mentions, {len(groups):,} groups")
    rows = comparison_rows(outcomes, cell_pairs, groups, settings, threads)
    inputs: dict[str, str | Path] = {"corpus_spec": corpus_spec, "mentions": corpus / "mentions.parquet", "documents": corpus / "documents.parquet"}
    inputs |= {str(path.relative_to(base)): path for path in sorted(predictions)}
    stamp = provenance.stamp(f"evaluation compare {task}", inputs, settings=settings.model_dump(), controls=sorted(controls), with_kb=sorted(with_kb))
    tables.write(tables.CHANGES, out / "changes.parquet", change_rows(outcomes, cell_pairs), stamp)
    tables.write(tables.COMPARISONS, out / "comparisons.parquet", rows, stamp)
    say(f"{len(rows):,} rows in {out}/comparisons.parquet")


# -------------------------------------------------------------------------------------------------------------- outcomes


def cell_and_seeds(generator: str, strategy: str, system: str, variant: str, training: str = "") -> tuple[ComparedCell, Seeds]:
    """The cell that a run belongs to, and the seeds of the run."""
    swept = SEED.search(generator)
    return ComparedCell(SEED.sub("", generator), strategy, system, variant), Seeds(swept[1] if swept else "", training)


def normalization_outcomes(corpus: Path, corpus_spec: Path, base: Path, predictions: Sequence[Path]) -> Outcomes:
    """Scores and first concept of every test mention with a concept, in every run."""
    from mentionforge.evaluation.normalization import gold_mentions, gold_ranks

    mentions = tables.read(tables.MENTIONS, corpus / "mentions.parquet")
    gold = gold_mentions(mentions.to_pylist(), read_spec(corpus_spec, Corpus).composite)
    document_of = dict(zip(mentions["mention_id"].to_pylist(), mentions["doc_id"].to_pylist(), strict=True))
    ids = gold.mention_ids.to_pylist()
    runs: dict[ComparedCell, dict[Seeds, int]] = defaultdict(dict)
    scores = [score for score in measures.of_ranks() if score.compared]
    values = {score.name: np.zeros((len(predictions), len(ids))) for score in scores}
    predicted = np.full((len(predictions), len(ids)), -1, dtype=np.int64)
    cuis: dict[str, int] = {}
    with track("cells", len(predictions)) as tick:
        for i, path in enumerate(sorted(predictions)):
            levels = _path_levels(path, base, corpus.name, 5)
            cell, seed = cell_and_seeds(levels[1], levels[2], levels[3], levels[4])
            runs[cell][seed] = i
            linked = tables.read(tables.LINKED, path)
            ranks = gold_ranks(gold, linked, str(path))
            for score in scores:
                values[score.name][i] = score.of_rank(ranks) if score.of_rank else 0
            first = linked.filter(pc.equal(linked["rank"], 1))
            place = pc.index_in(first["mention_id"], value_set=gold.mention_ids).to_numpy()
            predicted[i, place] = [cuis.setdefault(cui, len(cuis)) for cui in first["cui"].to_pylist()]
            tick()
    documents = np.unique([document_of[m] for m in ids], return_inverse=True)[1] if ids else np.empty(0, np.int64)
    return Outcomes(dict(runs), documents, ids, values.pop(measures.OF_GROUPS["normalization"]), values, None, predicted, list(cuis))


def recognition_outcomes(corpus: Path, corpus_spec: Path, base: Path, predictions: Sequence[Path]) -> Outcomes:
    """Which gold mentions of the test split every run predicts, and its counts per document."""
    from mentionforge.evaluation.recognition import load_gold, load_predictions

    gold, _ = load_gold(corpus, read_spec(corpus_spec, Corpus).discontinuous)
    test = {doc_id: doc for doc_id, doc in gold.items() if doc.split == "test"}
    ids = [mention for doc in test.values() for mention in doc.mention_ids]
    documents = np.repeat(np.arange(len(test)), [len(doc.spans) for doc in test.values()])
    runs: dict[ComparedCell, dict[Seeds, int]] = defaultdict(dict)
    right = np.zeros((len(predictions), len(ids)))
    counts = np.zeros((3, len(predictions), len(test)))
    for i, path in enumerate(sorted(predictions)):
        levels = _path_levels(path, base, corpus.name, 6)
        cell, seed = cell_and_seeds(levels[1], levels[2], levels[3], levels[4], levels[5].removeprefix("seed"))
        runs[cell][seed] = i
        predicted = load_predictions(path, gold)
        spans = [set(predicted.get(doc_id, ())) for doc_id in test]
        right[i] = [span in own for own, doc in zip(spans, test.values(), strict=True) for span in doc.spans]
        counts[0, i] = [len(own & set(doc.spans)) for own, doc in zip(spans, test.values(), strict=True)]
        counts[1, i] = [len(own) for own in spans]
        counts[2, i] = [len(doc.spans) for doc in test.values()]
    return Outcomes(dict(runs), documents, ids, right, None, counts)


def _path_levels(path: Path, base: Path, corpus: str, depth: int) -> tuple[str, ...]:
    levels = levels_below(path, base)
    if len(levels) != depth or levels[0] != corpus:
        raise UserError("path names no cell", str(path), f"it is not {depth} levels below {base}/{corpus}", "give predictions of this corpus, below --base")
    return levels


# ---------------------------------------------------------------------------------------------------- cells and groups


def comparisons(cells: Sequence[ComparedCell], controls: Sequence[str], with_kb: dict[str, str]) -> list[Comparison]:
    """All comparisons whose two cells exist, in the order of the cells."""
    known = set(cells)
    cell_pairs = []
    others = sorted(cell for cell in known if cell.variant == EXTERNAL)
    for cell in sorted(known):
        cell_pairs += [Comparison(cell, "external", other) for other in others if cell.variant != EXTERNAL or cell < other]
        if cell.strategy == NONE:
            continue
        same = ComparedCell(NONE, NONE, cell.system, cell.variant)
        real = ComparedCell(NONE, NONE, cell.system, REAL_ONLY)
        cell_pairs += [Comparison(cell, "baseline", reference) for reference in (same, real) if reference in known]
        if cell.generator in controls:
            continue
        cell_pairs += [Comparison(cell, "control", c) for c in (cell._replace(generator=control) for control in sorted(set(controls))) if c in known]
        dictionary = ComparedCell(NONE, NONE, cell.system, with_kb.get(cell.variant, ""))
        cell_pairs += [Comparison(cell, "kb", dictionary)] if dictionary in known else []
    return cell_pairs


def count_range(number: float) -> str:
    """Name of the range that a count falls into. A mean of counts is rounded up, so that 0 means 0 in every run."""
    return next(name for limit, name in RANGES if number <= limit)


def notes_per_concept(chosen: Sequence[Path]) -> dict[tuple[str, str], Mapping[str, float]]:
    """By generator and strategy, the number of notes of each concept, as the mean over the generator's seeds; 0 for other concepts."""
    counts: dict[tuple[str, str], list[Counter[str]]] = defaultdict(list)
    for path in sorted(chosen):
        _, generator, strategy = chosen_in(path)
        counts[SEED.sub("", generator), strategy].append(Counter(tables.read(tables.CHOSEN, path)["cui"].to_pylist()))
    return {cell: defaultdict(float, {cui: sum(c[cui] for c in own) / len(own) for cui in sorted(set().union(*own))}) for cell, own in counts.items()}


def mention_groups(corpus: Path, kb: Path, mention_ids: Sequence[str], chosen: Sequence[Path]) -> list[MentionGroup]:
    """All non-empty groups of mentions."""
    rows = tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist()
    known = {row["mention_id"]: row for row in rows}
    mentions = [known[m] for m in mention_ids]
    trained = Counter(cui for row in rows if row["split"] == "train" for cui in set(row["cuis"]))
    cuis = pa.array(sorted({cui for row in mentions for cui in row["cuis"]}), tables.STR)
    concepts = tables.read(tables.CONCEPTS, kb / "concepts.parquet")
    concepts = concepts.filter(pc.is_in(concepts["cui"], value_set=cuis))
    types = dict(zip(concepts["cui"].to_pylist(), concepts["semantic_types"].to_pylist(), strict=True))
    names = tables.read(tables.NAMES, kb / "names.parquet").select(["cui", "name"])
    names = names.filter(pc.is_in(names["cui"], value_set=cuis)).group_by(["cui", "name"]).aggregate([])
    named = Counter(names["cui"].to_pylist())

    numbers: dict[tuple[str, str, tuple[str, str] | None], list[int]] = defaultdict(list)
    notes = notes_per_concept(chosen)
    for i, row in enumerate(mentions):
        numbers["all", "all", None].append(i)
        numbers["bucket", row["ood_bucket"], None].append(i)
        if not row["cuis"]:
            continue
        numbers["train_mentions", count_range(max(trained[cui] for cui in row["cuis"])), None].append(i)
        numbers["names", count_range(max(named[cui] for cui in row["cuis"])), None].append(i)
        for semantic_type in sorted({t for cui in row["cuis"] for t in types.get(cui, ())}):
            numbers["semantic_type", semantic_type, None].append(i)
        for cell, dose in notes.items():
            numbers["notes", count_range(max(dose[cui] for cui in row["cuis"])), cell].append(i)
    for subset, weights in subset_weights(mentions, train_and_dev(rows)).items():
        if members := np.flatnonzero(weights == 1).tolist() if not subset.startswith("distinct") else []:
            numbers["subset", subset, None] = members
    order = {name: i for i, name in enumerate(tables.SLICES)}
    return [MentionGroup(s, g, np.array(numbers[s, g, of]), of) for s, g, of in sorted(numbers, key=lambda k: (order[k[0]], k[1], k[2] or ("", "")))]


# ------------------------------------------------------------------------------------------------------------------ results


def comparison_rows(
    outcomes: Outcomes, cell_pairs: Sequence[Comparison], groups: Sequence[MentionGroup], settings: Statistics, threads: int = 1
) -> list[dict[str, Any]]:
    """Rows of tables.COMPARISONS; they do not depend on `threads`, because every group has its own random stream."""
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    contrasts = {c: _contrast(outcomes, c) for c in cell_pairs}
    shares = {cell: outcomes.right[sorted(runs.values())].mean(0) for cell, runs in outcomes.runs.items()}
    sizes = Counter(_family(c, g, metric, settings) for g in groups for c in _comparisons_for(cell_pairs, g) for metric in _compared_metrics(outcomes, g))
    rows: list[dict[str, Any]] = []
    # The matrix products are many and short: one thread per group uses the cores better than several threads per product.
    with track("groups", len(groups)) as tick, threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for part in pool.map(lambda group: _group_rows(outcomes, cell_pairs, group, contrasts, shares, sizes, settings), groups):
            rows += part
            tick()
    return corrected_rows(rows, settings.alpha)


def _compared_metrics(outcomes: Outcomes, group: MentionGroup) -> list[str]:
    """Names of the metrics that are compared on a group of mentions."""
    declared = measures.compared("recognition" if outcomes.counts is not None else "normalization", group.slice)
    known = {*measures.OF_GROUPS.values(), *(outcomes.further or ())}
    return [score.name for score in declared if score.name in known or (score.ratio and outcomes.counts is not None)]


def _family(c: Comparison, group: MentionGroup, metric: str, settings: Statistics) -> Family:
    return family_of(c.against, c.reference.generator, c.cell.system, c.cell.variant, c.cell.strategy, group.slice, group.name, metric, settings)


def _comparisons_for(cell_pairs: Sequence[Comparison], group: MentionGroup) -> list[Comparison]:
    """The comparisons that apply to a group of mentions."""
    of_group = [c for c in cell_pairs if group.of is None or group.of == (c.cell.generator, c.cell.strategy)]
    return [c for c in of_group if c.against != "external" or group.slice in ("all", "bucket")]


def _group_rows(
    outcomes: Outcomes,
    cell_pairs: Sequence[Comparison],
    group: MentionGroup,
    contrasts: Mapping[Comparison, Contrast],
    shares: Mapping[ComparedCell, np.ndarray],
    sizes: Mapping[Family, int],
    settings: Statistics,
) -> list[dict[str, Any]]:
    """Rows of one group of mentions, before the correction over families; `sizes` gives the number of comparisons per family."""
    from scipy.sparse import csr_array

    rows: list[dict[str, Any]] = []
    compared = _comparisons_for(cell_pairs, group)
    if not compared:
        return rows
    documents, column = np.unique(outcomes.documents[group.members], return_inverse=True)
    sums = csr_array((np.ones(len(column)), (np.arange(len(column)), column)))  # [mentions, documents]
    used = sorted({run for c in compared for run in (*contrasts[c].runs, *contrasts[c].reference)})
    place = {run: i for i, run in enumerate(used)}
    for metric in _compared_metrics(outcomes, group):
        families = [_family(c, group, metric, settings) for c in compared]
        sized = [replace(contrasts[c], most=most_resamples(f, sizes[f], settings)) for c, f in zip(compared, families, strict=True)]
        extra: dict[str, Any] = {"fixed": None, "broken": None, "n": len(group.members), "documents": len(documents)}
        ratio = measures.BY_NAME[metric].ratio
        if ratio and outcomes.counts is not None and metric not in measures.OF_GROUPS.values():
            right, predicted, gold = outcomes.counts
            numerator, denominator = ratio.of(right, gold, predicted)
            # n and documents are those of the whole test split: a document without gold mentions can still have false positives.
            extra |= {"n": int(gold[0].sum()), "documents": gold.shape[1]}
        else:
            values = (outcomes.further or {}).get(metric, outcomes.right)
            numerator, denominator = values[np.ix_(np.array(used, np.int64), group.members)] @ sums, np.bincount(column).astype(float)
            sized = [replace(c, runs=tuple(place[r] for r in c.runs), reference=tuple(place[r] for r in c.reference)) for c in sized]
        result = estimate(
            numerator, denominator, sized, resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed, settled=settings.settled
        )
        extra["few"] = extra["n"] < settings.small
        for i, (c, family) in enumerate(zip(compared, families, strict=True)):
            if metric in measures.OF_GROUPS.values():
                gap = shares[c.cell][group.members] - shares[c.reference][group.members]
                extra |= {"fixed": float(gap.clip(0).sum()), "broken": float((-gap).clip(0).sum())}
            rows.append(_row(c, sized[i], group, metric, result, i, extra | {"family": family}))
    return rows


def change_rows(outcomes: Outcomes, cell_pairs: Sequence[Comparison]) -> pa.Table:
    """Rows of tables.CHANGES: the mentions that a cell answers more often (fixed) or less often (broken) than its reference."""
    names: dict[str, list[Any]] = {column.name: [] for column in tables.CHANGES.columns}
    ids = np.array(outcomes.mention_ids, dtype=object)
    for c in cell_pairs:
        cell_runs, reference_runs = (sorted(outcomes.runs[cell].values()) for cell in (c.cell, c.reference))
        right, reference = outcomes.right[cell_runs].mean(0), outcomes.right[reference_runs].mean(0)
        moved = np.flatnonzero(right != reference)
        for name, value in _cell_columns(c).items():
            names[name] += [value] * len(moved)
        names["mention_id"] += ids[moved].tolist()
        names["change"] += np.where(right > reference, "fixed", "broken")[moved].tolist()
        names["right"] += right[moved].tolist()
        names["reference_right"] += reference[moved].tolist()
        for column, row in (("predicted", cell_runs[0]), ("reference_predicted", reference_runs[0])):
            names[column] += [None] * len(moved) if outcomes.predicted is None else [_predicted_cui(outcomes, n) for n in outcomes.predicted[row, moved]]
    return pa.table({name: pa.array(values, column.type) for (name, values), column in zip(names.items(), tables.CHANGES.columns, strict=True)})


def _predicted_cui(outcomes: Outcomes, number: int) -> str | None:
    return outcomes.cuis[number] if outcomes.cuis and number >= 0 else None


def _contrast(outcomes: Outcomes, c: Comparison) -> Contrast:
    cell_runs, reference_runs = (dict(sorted(outcomes.runs[cell].items())) for cell in (c.cell, c.reference))
    return Contrast(tuple(cell_runs.values()), tuple(reference_runs.values()), list(cell_runs) == list(reference_runs), tuple(cell_runs), tuple(reference_runs))


def _cell_columns(c: Comparison) -> dict[str, str]:
    return {**c.cell._asdict(), "against": c.against, **{f"reference_{level}": name for level, name in c.reference._asdict().items()}}


def _row(c: Comparison, contrast: Contrast, group: MentionGroup, metric: str, result: Estimates, i: int, extra: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: float(getattr(result, name)[i]) for name in ("value", "reference", "difference", "low", "high", "p", "floor")}
    limits = {name: None if np.isnan(numbers[name]) else numbers[name] for name in ("low", "high")}
    generators, trainings = factors(contrast.seeds)
    # `covers` names a kind of seeds only if each side that has such seeds has several. A baseline has no generator seeds, but a control has.
    other_generators, other_trainings = factors(contrast.reference_seeds)
    both = c.reference.generator == NONE or other_generators > 1
    several = {"generator seeds" if both else "generator seeds of the cell": generators > 1, "training seeds": min(trainings, other_trainings) > 1}
    runs: dict[str, Any] = {"runs": len(contrast.runs), "reference_runs": len(contrast.reference), "generator_seeds": generators}
    runs |= {"training_seeds": trainings, "resamples": int(result.swaps[i])}
    runs["covers"] = ", ".join(["documents", *(words for words, holds in several.items() if holds)])
    return {**_cell_columns(c), "slice": group.slice, "group": group.name, "metric": metric, **numbers, **limits, **runs, **extra}
