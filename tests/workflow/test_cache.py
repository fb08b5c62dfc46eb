"""The cache between workflows: a second folder takes the knowledge base, embeddings and the adapter from it."""

from pathlib import Path

import pytest
import yaml

from checkout import copy_checkout, snakemake
from mentionforge.planning.estimates import measured
from mentionforge.planning.plan import plan
from tiny import tiny_model

GENERATOR = {
    "model": "tiny",
    "dtype": "float32",
    "prompt_style": "plain",
    "filters": {"memorization": None},
    "finetune": {"max_steps": 1, "batch_size": 2, "quantization": "none", "compute_dtype": "float32"},
}
EMBEDDED = [f"results/embeddings/tfidf/{source}/{file}" for source in ("kb.demo", "corpus.demo_ncbi") for file in ("entries.parquet", "vectors.npy")]
ADAPTER = "results/generation/smollm2/adapter"
KB = [f"results/kb/demo/{table}.parquet" for table in ("concepts", "names", "definitions", "xrefs", "retired")]
CACHED = {"kb_extract", "finetune", "embed_kb", "embed_corpus"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkouts with the same settings."""
    tmp = tmp_path_factory.mktemp("cache")
    stamp = tiny_model(tmp / "tiny")
    found = []
    for name in ("first", "second"):
        folder = copy_checkout(tmp / name)
        (folder / "resources/models").unlink(missing_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump({"models": {"tiny": {"path": str(stamp.parent)}}, "generators": {"smollm2": GENERATOR}}))
        found.append(folder)
    (tmp / "cache").mkdir()
    return found[0], found[1]


def run(folder: Path, *more: str) -> str:
    return snakemake(folder, ADAPTER, EMBEDDED[0], EMBEDDED[2], "--configfile", "settings.yaml", "--cores", "2", "--nocolor", "--cache", *more).stdout


def contents(folder: Path) -> dict[str, bytes]:
    files = [*KB, *EMBEDDED, *(f"{ADAPTER}/{file}" for file in ("adapter_model.safetensors", "adapter_config.json", "provenance.json"))]
    return {file: (folder / file).read_bytes() for file in files}


def test_a_second_folder_takes_from_the_cache(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = folders
    cache = first.parent / "cache"
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(cache))
    run(first)
    kept = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 6 + 3 + 2 + 2, "each output of the four jobs"
    # Were one of these commands run again, it would fail.
    for stage in ("kb/extract.py", "generation/finetune.py", "normalization/embed.py"):
        module = second / "workflow/mentionforge" / stage
        version = [line for line in module.read_text().splitlines() if line.startswith("VERSION = ")]  # what the workflow reads of the code
        module.write_text("\n".join([*version, "raise SystemExit('run again')\n"]))
    monkeypatch.setenv("PYTHONPATH", str(second / "workflow"))
    run(second)
    assert contents(first) == contents(second)
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    assert all((second / path).resolve().parent == cache for path in (*KB, *EMBEDDED)), "links into the cache"
    jobs = plan([ADAPTER, EMBEDDED[0], EMBEDDED[2], "--configfile", "settings.yaml"], second)
    assert not any(job.pending for job in jobs), "done, also for a run without --cache"


def test_a_changed_setting_leaves_what_others_share(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter in the first folder is a link into the cache; a new one replaces the link."""
    first, _ = folders
    cache = first.parent / "cache"
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(cache))
    before, old = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}, contents(first)
    assert len(before) >= 13, "the test above has filled it"
    settings = yaml.safe_load((first / "settings.yaml").read_text())
    settings["generators"]["smollm2"]["finetune"]["max_steps"] = 2
    (first / "settings.yaml").write_text(yaml.safe_dump(settings))
    snakemake(first, ADAPTER, "--configfile", "settings.yaml", "--cores", "2", "--nocolor")  # without --cache
    assert contents(first)[f"{ADAPTER}/adapter_model.safetensors"] != old[f"{ADAPTER}/adapter_model.safetensors"]
    assert not (first / ADAPTER).is_symlink()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_times_are_kept_without_the_cache_and_not_asked_for_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_checkout(tmp_path / "checkout")
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path))
    for more, expected in (([], set()), (["--cache"], CACHED | {"embed_generator"})):
        jobs = [job for job in plan(more, folder) if job.rule in CACHED | {"embed_generator", "link_baseline"}]
        assert {job.rule for job in jobs} == CACHED | {"embed_generator", "link_baseline"}
        assert {job.rule for job in jobs if not job.benchmark} == expected
    snakemake(folder, KB[0], "--cores", "2")
    assert (measured(folder / "results/benchmarks/kb/demo.tsv") or 0) > 0
