"""Paths of a results folder, written out by hand, and read back."""

from pathlib import Path

import pytest

from mentionforge.layout import (
    EVERY_SHARD,
    OWNED,
    NormalizationCell,
    RecognitionCell,
    Resources,
    Results,
    chosen_in,
    compared_in,
    end_to_end_cell,
    entry_in,
    evaluated_in,
    generated_in,
    imported_in,
    index_in,
    job_of,
    levels_below,
    mentions_linked_in,
    notes_beside,
    stage_of,
    summarized_in,
)

RUN = RecognitionCell("ncbi", "llama", "ideal", "biobert", "synthetic_then_real", 13)
CELL = NormalizationCell("ncbi", "llama", "ideal", "sapbert", "train+kb")
R = Results("results")

PATHS = {
    R.spec("generators", "llama/prompts"): "results/specs/generators/llama/prompts.json",
    R.missing("kbs", "umls"): "results/missing/kbs/umls",
    R.kb("umls", "names.parquet"): "results/kb/umls/names.parquet",
    R.corpus("ncbi", "mentions.parquet"): "results/corpora/ncbi/mentions.parquet",
    R.leakage("ncbi", "llama"): "results/leakage/ncbi/llama.csv",
    R.generation("llama", "adapter"): "results/generation/llama/adapter",
    R.shard("llama", 1, 4): "results/generation/llama/shards/1-of-4.parquet",
    R.chosen("ncbi", "llama", "ideal"): "results/augmentation/ncbi/llama/ideal/notes.parquet",
    R.recognition(RUN): "results/recognition/ncbi/llama/ideal/biobert/synthetic_then_real/seed13/predictions.parquet",
    R.recognition(RUN, "model"): "results/recognition/ncbi/llama/ideal/biobert/synthetic_then_real/seed13/model",
    R.encoder("sapbert", "ncbi"): "results/alignment/sapbert/ncbi/fetched.json",
    R.embedded("sapbert@ncbi", "kb", "umls"): "results/embeddings/sapbert@ncbi/kb.umls/entries.parquet",
    R.retrieval("ncbi", "sapbert", "kb"): "results/retrieval/ncbi/sapbert/kb/found.parquet",
    R.normalization(CELL): "results/normalization/ncbi/llama/ideal/sapbert/train+kb/predictions.parquet",
    R.normalization(CELL, "calibration.parquet"): "results/normalization/ncbi/llama/ideal/sapbert/train+kb/calibration.parquet",
    R.linked(RUN, "sapbert", "kb"): "results/end_to_end/ncbi/llama/ideal/biobert/synthetic_then_real/seed13/sapbert/kb/linked.parquet",
    R.scores("nil", "ncbi"): "results/evaluation/nil/ncbi.parquet",
    R.errors("recognition", "ncbi"): "results/evaluation/recognition/ncbi.errors.parquet",
    R.statistics("recognition", "ncbi", "changes"): "results/statistics/recognition/ncbi/changes.parquet",
    R.reranker("cross", "ncbi"): "results/reranking/cross/ncbi/fetched.json",
    R.embedded("sapbert", "corpus", "ncbi", "vectors.npy"): "results/embeddings/sapbert/corpus.ncbi/vectors.npy",
    R.overlap: "results/corpora/overlap.csv",
    R.cells("end_to_end"): "results/end_to_end",
    R.specs(): "results/specs",
    R.specs("linkers"): "results/specs/linkers",
    R.predicted(RUN, "mentions.parquet"): "results/end_to_end/ncbi/llama/ideal/biobert/synthetic_then_real/seed13/mentions.parquet",
    R.summary("metrics.csv"): "results/summary/metrics.csv",
    R.report("index.html"): "results/report/index.html",
    R.benchmark("kb/umls"): "results/benchmarks/kb/umls.tsv",
    R.log(f"normalization/{CELL.path}"): "results/logs/normalization/ncbi/llama/ideal/sapbert/train+kb.log",
    Resources("r").model("biobert"): "r/models/biobert/fetched.json",
    Resources("r").download("train.txt"): "r/downloads/train.txt",
}


@pytest.mark.parametrize(("made", "expected"), PATHS.items(), ids=PATHS.values())
def test_paths(made: str, expected: str) -> None:
    """Every path is what it was written out to be, below a folder that the workflow owns."""
    assert made == expected
    assert made.startswith("r/") or made.split("/")[1] in OWNED


def test_wildcards_pass() -> None:
    """A path of wildcards is the path that a rule declares."""
    assert R.corpus("{corpus}", "documents.parquet") == "results/corpora/{corpus}/documents.parquet"


def test_cells_are_read_back() -> None:
    """A cell's path names the cell, wherever the results lie."""
    for root in ("results", "/a/b/results"):
        results, base = Results(root), Path(root)
        assert RecognitionCell.of(levels_below(Path(results.recognition(RUN)), base / "recognition")) == RUN
        assert NormalizationCell.of(levels_below(Path(results.normalization(CELL)), base / "normalization")) == CELL
        assert end_to_end_cell(Path(results.linked(RUN, "sapbert", "kb")), base / "end_to_end") == (RUN, "sapbert", "kb")


def test_jobs_and_tasks_are_read_back() -> None:
    for path, folder in ((R.log(f"recognition/{RUN.path}"), R.logs), (R.benchmark(f"recognition/{RUN.path}"), R.benchmarks)):
        assert job_of(Path(path), folder) == "recognition/ncbi/llama/ideal/biobert/synthetic_then_real/seed13"
    assert compared_in(Path("/somewhere", R.statistics("normalization", "ncbi", "comparisons"))) == ("normalization", "ncbi")
    linked = R.normalization(NormalizationCell("ncbi", "none", "none", "metamap", "external"))
    found = R.recognition(RecognitionCell("cdr", "none", "none", "ours", "external", 0))
    assert [imported_in(Path(path)) for path in (linked, found)] == [("normalization", "ncbi"), ("recognition", "cdr")]


@pytest.mark.parametrize("root", ["results", "/a/b/results/open"])
def test_entries_are_read_back(root: str) -> None:
    """What a path was made of, wherever the results lie."""
    results = Results(root)
    assert chosen_in(Path(results.chosen("ncbi", "llama", "ideal"))) == ("ncbi", "llama", "ideal")
    assert evaluated_in(Path(results.errors("recognition", "ncbi"))) == evaluated_in(Path(results.scores("recognition", "ncbi"))) == ("recognition", "ncbi")
    assert summarized_in(Path(results.summary("metrics.csv"))) == Path(root)
    assert generated_in(Path(results.generation("llama", ""))) == (results, "llama")
    assert notes_beside(Path(results.shard("llama", 1, 4))) == Path(results.generation("llama", "notes.parquet"))
    assert notes_beside(Path("notes/1-of-4.parquet")) is None
    assert Path(results.shard("llama", 1, 4)).match(EVERY_SHARD) and not Path(results.generation("llama", "notes.parquet")).match(EVERY_SHARD)
    assert mentions_linked_in(Path(results.linked(RUN, "sapbert", "kb"))) == Path(results.predicted(RUN, "mentions.parquet"))
    assert index_in(Path(results.linked(RUN, "sapbert", "kb"))) == "kb" and index_in(Path(results.normalization(CELL))) == "train+kb"
    stamps = (results.kb("umls", "stats.json"), results.corpus("umls", "stats.json"), results.generation("umls", "funnel.json"), Resources(root).model("umls"))
    assert {entry_in(Path(path)) for path in stamps} == {"umls"}


def test_trained_on() -> None:
    """A schedule names the corpus of the training where another corpus is tested."""
    crossed = RecognitionCell.of(("cdr", "none", "none", "biobert", "real_only~train=ncbi", "seed1"))
    assert crossed is not None
    assert (crossed.trained_on, RUN.trained_on) == ("ncbi", "")


@pytest.mark.parametrize(
    "path",
    [
        "ncbi/llama/ideal/biobert/real_only/13/predictions.parquet",
        "ncbi/llama/ideal/biobert/real_only/seed/predictions.parquet",
        "ncbi/llama/ideal/biobert/seed13/predictions.parquet",
        "ncbi/llama/ideal/bio bert/real_only/seed13/predictions.parquet",
        "more/ncbi/llama/ideal/biobert/real_only/seed13/predictions.parquet",
    ],
)
def test_no_recognition_cell(path: str) -> None:
    """Another shape names no cell."""
    assert RecognitionCell.of(levels_below(Path("base") / path, Path("base"))) is None


@pytest.mark.parametrize(
    "path",
    [
        "base/linked.parquet",
        "elsewhere/ncbi/llama/ideal/biobert/real_only/seed13/sapbert/kb/linked.parquet",
        "base/ncbi/llama/ideal/biobert/real_only/seed13/sapbert/kb/mentions.parquet",
        "base/ncbi/llama/ideal/biobert/real_only/seed13/sapbert/linked.parquet",
    ],
)
def test_no_end_to_end_cell(path: str) -> None:
    """Another file, or another place, names no cell."""
    assert end_to_end_cell(Path(path), Path("base")) is None


def test_no_normalization_cell() -> None:
    """A level too few or too many names no cell, nor does a file outside of the base folder."""
    assert NormalizationCell.of(("ncbi", "llama", "ideal", "sapbert")) is None
    assert NormalizationCell.of(("ncbi", "llama", "ideal", "sapbert", "kb", "x")) is None
    assert levels_below(Path("a/b/c.parquet"), Path("x")) == ()


@pytest.mark.parametrize(
    ("job", "stage", "entry"),
    [
        ("generation/smollm2/shards/0-of-4", "generation: sample", "smollm2"),
        ("generation/smollm2/locate", "generation: locate", "smollm2"),
        ("evaluation/normalization/ncbi", "evaluation: normalization", "ncbi"),
        ("statistics/recognition/ncbi", "statistics: recognition", "ncbi"),
        ("report/page", "report: page", ""),
        ("corpora/ncbi", "corpora", "ncbi"),
        ("recognition/ncbi/none/none/minilm/real_only/seed1", "recognition", "ncbi"),
    ],
)
def test_stages_of_jobs(job: str, stage: str, entry: str) -> None:
    """As the table and the figure of times name them."""
    assert stage_of(job) == (stage, entry)
