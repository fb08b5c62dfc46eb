"""The DAG: shipped configs, style, and what reruns when something changes."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from jobs import ALL_OF_DEMO_NCBI, Job, planned

import warm
from checkout import BIN, ROOT, copy_checkout, snakemake
from mentionforge.config import cross_cells, json_schema, load_config, normalization_cells, recognition_cells
from mentionforge.config_files import merge
from mentionforge.entries import UNTRAINED
from mentionforge.envs import conda_environment, vllm_environment
from mentionforge.report.rulegraph import flowchart

ON_TOP = {f"config/{name}.yaml": ("config/open.yaml",) for name in ("schedules", "schedules-one-seed", "comparison", "released")}
ON_TOP |= {f"config/{name}.yaml": ("config/paper.yaml",) for name in ("paper-lite", "paper-chat")}
ON_TOP |= {"config/released-bert.yaml": ("config/open.yaml", "config/released.yaml")}
"""Shipped configs that go on top of others."""
OVERLAYS = sorted(p.relative_to(ROOT).as_posix() for p in [*(ROOT / "config").glob("*.yaml"), ROOT / "tests" / "mini.yaml"])
MINI = ("--configfile", "tests/mini.yaml")
SPEC, EVALUATE, COMPARE, SUMMARY = "spec", "evaluation normalization", "evaluation compare", "report summary"
REPORTS = {"report tidy": 1, "report page": 1}


# ------------------------------------------------------------------------------------------------- shipped configurations


@pytest.mark.parametrize("overlay", ["", *OVERLAYS])
def test_shipped_configs_plan(overlay: str, tmp_path: Path) -> None:
    """Every shipped config validates and plans each cell once, in a checkout without results, weights or downloads."""
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)
    files = [file for file in (*ON_TOP.get(overlay, ()), overlay) if file]
    jobs = planned(folder, *(("--configfile", *files) if files else ()))
    raw: dict = {}
    for file in ["config.yaml", *files]:
        merge(raw, yaml.safe_load((ROOT / file).read_text()))
    config = load_config(raw)
    count = Counter(job.verb for job in jobs)
    # One job links all indexes of a corpus, generator, strategy and linker.
    together = {(c.corpus, c.generator, c.strategy, c.linker) for c in normalization_cells(config)}
    searching = {job for job in together if not config.linkers[job[-1]].input_linkers()}
    assert count["normalization fuse"] + count["normalization rerank"] == len(together) - len(searching)
    assert bool(searching) == bool(config.experiment.normalization)
    assert count["normalization link"] >= len(searching)  # the parts of hybrids may be no cells of their own
    trained = [cell for cell in recognition_cells(config) if cell.schedule != UNTRAINED]
    assert count["recognition train"] == len(trained) and bool(trained) == bool(config.experiment.recognition)
    assert count["recognition match"] == len(recognition_cells(config)) - len(trained)
    assert count["recognition predict"] == len(cross_cells(config))
    assert len(set(jobs)) == len(jobs)


@pytest.mark.parametrize("overlay", ["config/released.yaml", "config/released-bert.yaml"])
def test_the_released_presets_compare_the_authors_notes_with_controls(overlay: str, tmp_path: Path) -> None:
    """The header states the number of jobs; one fetch of the file; each dose is a strategy, and each control has it too."""
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)
    files = [*ON_TOP[overlay], overlay]
    jobs = planned(folder, "--configfile", *files)
    stated = int(re.search(r"^# (\d+) jobs", (ROOT / overlay).read_text(encoding="utf-8"), re.M)[1])
    assert len(jobs) == stated
    assert sum("SYNTHETIC_MENTIONS.csv" in job.command for job in jobs if job.verb.startswith("resources")) == 1
    raw: dict = {}
    for file in ["config.yaml", *files]:
        merge(raw, yaml.safe_load((ROOT / file).read_text()))
    config = load_config(raw)
    cells = normalization_cells(config)
    doses = {f"supplemental~notes_per_concept={dose}" for dose in (1, 2, "all")}
    for corpus in ("ncbi_disease", "bc5cdr"):
        by_generator = {
            g: {(c.strategy, c.linker, c.index) for c in cells if (c.corpus, c.generator) == (corpus, g)} for g in ("released", "template", "names")
        }
        assert by_generator["released"] == by_generator["template"] == by_generator["names"]
        assert doses < {strategy for strategy, _, _ in by_generator["released"]}
        assert {c.index for c in cells if (c.corpus, c.generator) == (corpus, "none")} == {"train", "kb_coded", "train+kb_coded"}
    released = config.generators["released"]
    assert config.downloads["SYNTHETIC_MENTIONS.csv"].sha256 == "32a49c34c778e050b4833a1e7936f66f6d9c214bbcfa5bda00057c74fc1a144e"
    assert "ODC-By" in released.licence and "10.13026/p5pn-ty93" in released.cite


@pytest.mark.parametrize("overlays", [("config/open.yaml",), ("config/open.yaml", "config/schedules.yaml")], ids=" ".join)
def test_the_open_preset_compares_three_seeds_in_one_run(overlays: tuple[str, ...], tmp_path: Path) -> None:
    """One job per corpus reads every seed of every recognition cell, so that its intervals hold seeds and documents."""
    folder = copy_checkout(tmp_path / "checkout")
    jobs = [job for job in planned(folder, "--configfile", *overlays) if job.verb == COMPARE and "--task recognition" in job.command]
    raw: dict = {}
    for file in ["config.yaml", *overlays]:
        merge(raw, yaml.safe_load((ROOT / file).read_text()))
    trained = [cell for cell in recognition_cells(load_config(raw)) if cell.schedule != UNTRAINED]
    seeds: dict[tuple[str, ...], set[int]] = {}
    for cell in trained:
        seeds.setdefault((cell.corpus, cell.generator, cell.strategy, cell.recognizer, cell.schedule), set()).add(cell.seed)
    assert len(jobs) == 2 and seeds and set(map(tuple, map(sorted, seeds.values()))) == {(1, 2, 3)}
    for cell, own in seeds.items():
        [job] = [job for job in jobs if f"/corpora/{cell[0]} " in job.command]
        for seed in own:
            assert "/".join(["results/open/recognition", *cell, f"seed{seed}", "predictions.parquet"]) in job.command.split()


def test_the_page_of_annotation_plans(tmp_path: Path) -> None:
    """Its five commands: the targets of the third are what the fourth packs, and nothing else is trained for them."""
    page = (ROOT / "docs/annotate.md").read_text(encoding="utf-8")
    block = page.partition("## From nothing to BRAT in five commands")[2].split("```")[1]
    lines = block.replace("\\\n", " ").splitlines()
    clone, venv, run, bundle, annotate = [shlex.split(line) for line in lines if line.strip()]
    assert clone[:2] == ["git", "clone"] and venv[:2] == ["make", "venv"] and bundle[0] == annotate[0] == "mentionforge"
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)
    count = Counter(job.verb for job in planned(folder, *run[1:]))
    assert count["recognition train"] == 1 and count["kb extract"] == 1 and not any(verb.startswith("generation") for verb in count)
    targets = run[run.index("--") + 1 :]
    results, recognizer, linker = bundle[2], bundle[bundle.index("--recognizer") + 1], bundle[bundle.index("--linker") + 1]
    assert targets[0].startswith(f"{results}/recognition/{recognizer}/") and targets[1].endswith(f"/{linker}/predictions.parquet")
    assert bundle[-1] == annotate[annotate.index("--bundle") + 1]


BUCKET = ("--default-storage-provider", "fs", "--default-storage-prefix")


@pytest.mark.parametrize("profile", ["gpu", "slurm", "cluster-generic", "kubernetes"])
def test_profiles_plan_the_paper(profile: str, tmp_path: Path) -> None:
    storage = (*BUCKET, str(tmp_path)) if profile == "kubernetes" else ()  # its executor knows no shared folder
    jobs = planned(ROOT, "--configfile", "config/paper.yaml", "--workflow-profile", f"profiles/{profile}", *storage)
    assert sum(job.verb == "generation sample" for job in jobs) == 64


def test_a_server_needs_no_weights_and_vllm_runs_from_the_checkout(tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "resources" / "models").unlink(missing_ok=True)
    settings = {"shards": 1, "model": None, "finetune": None, "filters": {"memorization": None}}
    for backend in ({"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m"}, {"kind": "vllm"}):
        overlay = {"generators": {"smollm2": settings | {"backend": backend}}}
        if backend["kind"] == "vllm":
            overlay["generators"]["smollm2"] |= {"model": "smollm2"}
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        plan = snakemake(folder, "results/generation/smollm2/notes.parquet", "-n", "-p", "--nocolor", "--configfile", "overlay.yaml").stdout
        commands = re.findall(r"^Shell command: (.*)$", plan, re.M)
        [sample] = [command for command in commands if "generation sample" in command]
        assert not any("finetune" in command for command in commands if not command.startswith("printf"))
        if backend["kind"] == "openai":
            assert sample.startswith("mentionforge generation sample") and "--model" not in sample
            assert not any("fetch-model" in command for command in commands)
        else:
            assert re.match(r"PYTHONPATH=\S+/workflow python -m mentionforge.cli generation sample", sample) and "--model" in sample


def test_paper_stops_with_one_clear_line_for_licensed_data(tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "checkout")
    done = snakemake(folder, "--configfile", "config/paper.yaml", "--nocolor", "results/paper/missing/kbs/umls", check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    assert done.returncode != 0
    assert lines and "missing licensed input in config: kbs.umls" in lines[0] and "National Library of Medicine" in lines[0]
    assert "Traceback" not in done.stdout


# ------------------------------------------------------------------------------------------------------- generated files


def test_schema_is_generated() -> None:
    assert (ROOT / "workflow/schemas/config.schema.json").read_text() == json_schema(), "run `make generated`"


def test_conda_environment_is_generated() -> None:
    assert (ROOT / "envs/mentionforge.yaml").read_text() == conda_environment(ROOT / "pyproject.toml"), "run `make generated`"


def test_vllm_environment_is_generated() -> None:
    assert (ROOT / "envs/vllm.yaml").read_text() == vllm_environment(), "run `make generated`"


def test_the_page_of_the_workflow_shows_the_rule_graph() -> None:
    graph = snakemake(ROOT, "--rulegraph", "mermaid-js", "--nocolor").stdout
    assert flowchart(graph, ROOT / "workflow/rules") in (ROOT / "workflow/README.md").read_text(), "run `make generated`"


# ----------------------------------------------------------------------------------------------------------------- style


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "workflow/mentionforge", "tests", "resources/demo"],
        ["ruff", "format", "--check", "workflow/mentionforge", "tests", "resources/demo"],
        ["mypy"],
        ["snakefmt", "--check", "Snakefile", "workflow/Snakefile", "workflow/rules"],
        ["snakemake", "--lint"],
    ],
    ids=" ".join,
)
def test_style(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------------------- bad input


def plan_with(folder: Path, change: dict, tmp_path: Path) -> tuple[int, str]:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(change))
    done = snakemake(folder, "-n", "--nocolor", "--configfile", str(overlay), check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linkers": {"mention": {"poolin": "cls"}}}, "unknown key in config: linkers.mention.poolin; did you mean 'pooling'?"),
        ({"linker": {}}, "unknown key in config: linker; did you mean 'linkers'?"),
        ({"generators": {"smollm2": {"sampling": {"temperature": "hot"}}}}, "bad value in config: generators.smollm2.sampling.temperature"),
        (
            {"generators": {"smollm2": {"finetune": {"corpus": "demo_semval"}}}},
            "unknown corpus 'demo_semval' in config: generators.smollm2.finetune.corpus; did you mean 'demo_semeval'?",
        ),
        (
            {"experiment": {"recognition": [{"corpora": ["nope"], "strategies": ["none"], "recognizers": ["minilm"]}]}},
            "unknown corpus 'nope' in config: experiment.recognition.0.corpora; known: ",
        ),
        ({"kbs": {"demo": {"path": "resources/demo/umls/META2"}}}, "missing file in config: kbs.demo: resources/demo/umls/META2 does not exist"),
        ({"corpora": {"demo_ncbi": {"splits": {"test": ["gone.txt"]}}}}, "missing file in config: corpora.demo_ncbi: gone.txt does not exist"),
        ({"strategies": {"none": {"keep": "all"}}}, "missing baseline in config: strategies.none"),
        ({"kbs": {"demo": {"source": {"sweep": ["rrf"]}}}}, "sweep not possible in config: kbs.demo.source"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_config_is_one_clear_line(change: dict, message: str, tmp_path: Path) -> None:
    code, text = plan_with(ROOT, change, tmp_path)
    assert code != 0 and "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], text


BAD_FILES = {
    "latin-1": ("# caf\u00e9\n".encode("latin-1"), "wrong encoding in {file}:1: byte 0xe9 is no UTF-8"),
    "tab": (b"linkers:\n\tmention: {}\n", "no YAML in {file}:2: the line begins with a tab"),
    "key twice": (b"results: x\nresults: y\n", "key given twice in {file}:2"),
    "no": (b"linkers:\n  no: {kind: exact}\n", 'no key in {file}:2: YAML reads no as false; quote it: "no":'),
    "version": (b"report: {}\nresults: 1.10\n", 'YAML reads 1.10 as the number 1.1; quote it: "1.10" ({file}:2)'),
    "bomb": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{{','.join(f'k{k}: *a{i - 1}' for k in range(9))}}}\n" for i in range(1, 12)),
        "more than 200,000 values",
    ),
    "gone": (None, "missing file in {file}"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_clear_line(case: str, tmp_path: Path) -> None:
    """Although Snakemake reads files of --configfile before the Snakefile: the profile reads them before."""
    content, message = BAD_FILES[case]
    overlay = tmp_path / "bad.yaml"
    if content is not None:
        overlay.write_bytes(content.encode() if isinstance(content, str) else content)
    done = snakemake(ROOT, "-n", "--nocolor", "--configfile", str(overlay), check=False)
    said = [line for line in done.stdout.splitlines() if not line.startswith(("Using workflow specific profile", "Config file config.yaml is extended"))]
    assert done.returncode == 2 and len(said) == 1, done.stdout
    assert said[0].startswith("error: ") and message.format(file=overlay) in said[0]


def test_a_bad_config_yaml_is_one_clear_line(tmp_path: Path) -> None:
    """Also where no profile reads it, and without rows of a Snakefile before it."""
    (tmp_path / "config.yaml").write_text("linkers:\n  off: {}\n")
    done = snakemake(ROOT, "-n", "--nocolor", "--workflow-profile", "none", "--directory", str(tmp_path), check=False)
    assert done.returncode == 2 and done.stdout.splitlines()[-1] == 'error: no key in config.yaml:2: YAML reads off as false; quote it: "off":', done.stdout
    assert ".smk" not in done.stdout and "Traceback" not in done.stdout


# ---------------------------------------------------------------------------------------------------------- what reruns


def changed(finished: Path, tmp_path: Path, change: dict) -> list[Job]:
    """Jobs of a dry-run of the finished mini experiment after a change of the config."""
    raw = yaml.safe_load((ROOT / "tests/mini.yaml").read_text())
    overlay = tmp_path / "changed.yaml"
    overlay.write_text(yaml.safe_dump(merge(raw, change)))
    return planned(finished, "--configfile", str(overlay))


def verbs(jobs: list[Job]) -> Counter:
    return Counter(job.verb for job in jobs)


def test_nothing_to_do_after_a_run(finished: Path) -> None:
    assert planned(finished, *MINI) == []


def test_a_linkers_setting_reruns_that_linker_alone(finished: Path, tmp_path: Path) -> None:
    jobs = changed(finished, tmp_path, {"linkers": {"context": {"max_tokens": 48}}})
    assert verbs(jobs) == {
        SPEC: 1,
        "normalization embed-kb": 1,
        "normalization embed-corpus": 2,
        "normalization embed-generator": 2,
        "normalization search-kb": 2,
        "normalization link": 2 * 5,  # each with three indexes
        EVALUATE: 2,
        COMPARE: 2,
        SUMMARY: 1,
        **REPORTS,
    }
    assert all("context" in job.command for job in jobs if job.verb.startswith("normalization"))
    assert not any("/mention/" in job.command for job in jobs if job.verb.startswith("normalization"))


def test_a_new_strategy_adds_its_cells_alone(finished: Path, tmp_path: Path) -> None:
    grid = yaml.safe_load((ROOT / "tests/mini.yaml").read_text())["experiment"]
    grid["normalization"][0]["strategies"].append("ideal")
    jobs = changed(finished, tmp_path, {"experiment": grid})
    # 2 corpora x 2 generators x (1 augment + 2 linkers x 3 indexes)
    assert verbs(jobs) == {SPEC: 1, "augmentation choose": 4, "normalization link": 8, EVALUATE: 2, COMPARE: 2, SUMMARY: 1, **REPORTS}
    assert all("/ideal/" in job.command for job in jobs if job.verb in ("augmentation choose", "normalization link"))


def test_a_new_corpus_touches_no_generation(finished: Path, tmp_path: Path) -> None:
    grid = yaml.safe_load((ROOT / "tests/mini.yaml").read_text())["experiment"]
    grid["normalization"][0]["corpora"].append("demo_bc5cdr")
    jobs = changed(finished, tmp_path, {"experiment": grid})
    assert not any(job.verb.startswith(("generation", "recognition", "kb")) for job in jobs)
    without_recognition = {verb: count for verb, count in ALL_OF_DEMO_NCBI.items() if "recognition" not in verb}
    assert verbs(jobs) == {**without_recognition, SPEC: 1, COMPARE: 1}


def test_a_temperature_does_not_fine_tune_again(finished: Path, tmp_path: Path) -> None:
    jobs = verbs(changed(finished, tmp_path, {"generators": {"smollm2": {"sampling": {"temperature": 0.5}}}}))
    assert jobs["generation sample"] == 2 and jobs["generation locate"] == jobs["generation filter"] == 1
    assert jobs["generation finetune"] == jobs["generation pairs"] == jobs["generation prompts"] == 0


def test_a_sweep_adds_variants(finished: Path, tmp_path: Path) -> None:
    jobs = changed(finished, tmp_path, {"strategies": {"supplemental": {"notes_per_concept": {"sweep": [1, 2]}}}})
    chosen = [job for job in jobs if job.verb == "augmentation choose"]
    variants = {re.search(r"/(supplemental[^/]*)/notes.parquet", job.command).group(1) for job in chosen}
    assert variants == {"supplemental~notes_per_concept=1", "supplemental~notes_per_concept=2"} and len(chosen) == 2 * 4


# ---------------------------------------------------------------------------------------------- deleting and rebuilding

DETERMINISTIC = ("kb", "corpora", "augmentation", "normalization", "evaluation", "statistics", "summary")
TIMED = ("summary/metrics.csv", "summary/runtime.csv", "summary/figures/")
"""Files with wall times, or pictures of them."""


def digests(results: Path) -> dict[str, str]:
    files = [p for p in results.rglob("*") if p.is_file() and p.relative_to(results).parts[0] in DETERMINISTIC]
    files = [p for p in files if not p.relative_to(results).as_posix().startswith(TIMED)]
    return {p.relative_to(results).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def test_a_deleted_output_is_rebuilt_bit_by_bit(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True, copy_function=shutil.copy2)
    before = digests(folder / "results")
    (folder / "results/corpora/demo_ncbi/mentions.parquet").unlink()
    jobs = planned(folder, *MINI)
    assert verbs(jobs) == ALL_OF_DEMO_NCBI
    # The summary and the cards read all corpora; the comparison with test documents reads the one that the generator was fine-tuned on.
    assert not any("demo_semeval" in job.command for job in jobs if job.verb not in (SUMMARY, *REPORTS, "corpora leakage", "corpora cards"))
    warm.stop()  # the commands that rebuild it have another order of hashes
    snakemake(folder, *MINI)
    assert digests(folder / "results") == before


def test_provenance_is_in_every_result(finished: Path) -> None:
    from mentionforge import tables

    results = finished / "results"
    files = [p for p in sorted(results.rglob("*.parquet")) if ".snakemake" not in p.parts]
    assert len(files) > 80
    for path in files:
        stamp = tables.provenance(path)
        assert stamp.get("mentionforge") and stamp.get("git_revision") and stamp.get("inputs"), path
        assert all(len(digest) == 64 for digest in stamp["inputs"].values()), path
    spec = json.loads((results / "specs/linkers/mention.json").read_text())
    assert spec["settings"]["pooling"] == "mean"
