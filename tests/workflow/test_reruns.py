"""What reruns when something changes: one test for each row of the table in docs/reruns.md, on the job list of a dry-run."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jobs import ALL_OF_DEMO_NCBI, planned

from checkout import BIN, ROOT
from mentionforge.config_files import merge
from mentionforge.generation.shipped_prompts import SHIPPED

MINI = ("--configfile", "tests/mini.yaml")
SCORES = {"evaluation normalization": 2, "evaluation compare": 2, "report summary": 1, "report tidy": 1, "report page": 1}
"""Both corpora of the mini experiment are scored and compared anew, and the report is written."""
ALL_SCORES = SCORES | {"evaluation recognition": 1, "evaluation compare": 3}
SYNTHETIC = {
    "generation locate": 1,
    "generation filter": 1,
    "corpora leakage": 2,
    "augmentation choose": 2 * 2,
    "normalization embed-generator": 2,
    "normalization link": 2 * 2 * 2,
    "recognition train": 1,
    **ALL_SCORES,
}
"""What comes after the notes of one generator: 2 corpora, 2 strategies, 2 linkers, 3 indexes, 1 recognition run."""


@pytest.fixture(scope="module")
def checkout(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished checkout whose files a test may change, if it puts them back."""
    folder = tmp_path_factory.mktemp("reruns") / "mentionforge"
    shutil.copytree(finished, folder, symlinks=True, copy_function=shutil.copy2)
    return folder


def overlay(folder: Path, change: dict) -> Counter:
    """Verbs of the jobs that a changed config plans."""
    raw = yaml.safe_load((ROOT / "tests/mini.yaml").read_text())
    (folder / "changed.yaml").write_text(yaml.safe_dump(merge(raw, change)))
    return Counter(job.verb for job in planned(folder, "--configfile", "changed.yaml"))


def edited(folder: Path, path: str, edit: Callable[[str], str]) -> Counter:
    """Verbs of the jobs that a changed file plans; the file is put back."""
    file = folder / path
    before, times = file.read_text(), file.stat()
    after = edit(before)
    assert after != before, "the edit took"
    try:
        file.write_text(after)
        return Counter(job.verb for job in planned(folder, *MINI))
    finally:
        file.write_text(before)
        shutil.os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def grid(task: str, **change: list) -> dict:
    """The mini experiment with one of its grids changed."""
    experiment = yaml.safe_load((ROOT / "tests/mini.yaml").read_text())["experiment"]
    experiment[task][0] |= change
    return {"experiment": experiment}


LINKER = {
    "spec": 1,
    "normalization embed-kb": 1,
    "normalization embed-corpus": 2,
    "normalization embed-generator": 2,
    "normalization search-kb": 2,
    "normalization link": 10,
    **SCORES,
}
SETTINGS: dict[str, tuple[dict, dict]] = {
    "a linker's setting": ({"linkers": {"context": {"max_tokens": 48}}}, LINKER),
    "an index's setting": ({"indexes": {"train+kb": {"preferred_only": True}}}, {"spec": 1, "normalization search-kb": 4, "normalization link": 20, **SCORES}),
    "an index added": (
        {"indexes": {"preferred": {"sources": ["kb"], "preferred_only": True}}, **grid("normalization", indexes=["train", "kb", "train+kb", "preferred"])},
        {"spec": 1, "normalization search-kb": 4, "normalization link": 20, **SCORES},
    ),
    "a strategy added": (
        grid("normalization", strategies=["none", "naive", "supplemental", "ideal"]),
        {"spec": 1, "augmentation choose": 4, "normalization link": 8, **SCORES},
    ),
    "a strategy's dose": (
        {"strategies": {"naive": {"notes_per_concept": 1}}},
        {"spec": 1, "augmentation choose": 4, "normalization link": 8, "recognition train": 1, **ALL_SCORES},
    ),
    "a generator's temperature": (
        {"generators": {"smollm2": {"sampling": {"temperature": 0.5}}}},
        {"spec": 1, "generation sample": 2, "generation gather": 1, **SYNTHETIC},
    ),
    "a generator's LoRA rank": (
        {"generators": {"smollm2": {"finetune": {"lora": {"r": 8}}}}},
        {"spec": 1, "generation pairs": 1, "generation finetune": 1, "generation sample": 2, "generation gather": 1, **SYNTHETIC},
    ),
    "a prompt's text": (
        {"prompts": {"instruction": {"template": "Write a note about {{ preferred }}."}}},
        {"spec": 3, "generation prompts": 1, "generation pairs": 1, "generation finetune": 1, "generation sample": 2, "generation gather": 1, **SYNTHETIC},
    ),
    "a prompt's stop strings": (
        {"prompts": {"instruction": {"template": SHIPPED["instruction"].template, "stop": ["\n\n"]}}},
        {"spec": 1, "generation sample": 2, "generation gather": 1, **SYNTHETIC},
    ),
    "a filter's setting": (
        {"generators": {"smollm2": {"filters": {"length": {"min_words": 6}}}}},
        {"spec": 1, **{verb: n for verb, n in SYNTHETIC.items() if verb != "generation locate"}},
    ),
    "notes_per_concept": (
        {"generators": {"smollm2": {"notes_per_concept": 5}}},
        {"spec": 1, "generation prompts": 1, "generation sample": 2, "generation gather": 1, **SYNTHETIC},
    ),
    "more concepts": (
        {"generators": {"smollm2": {"concepts": {"max": 14}}}},
        {"spec": 1, "generation prompts": 1, "generation sample": 2, "generation gather": 1, **SYNTHETIC},
    ),
    "a new seed": (
        grid("recognition", seeds=[1, 2]),
        {"recognition train": 2, "evaluation recognition": 1, "evaluation compare": 1, "report summary": 1, "report tidy": 1, "report page": 1},
    ),
    "a recognizer's setting": (
        {"recognizers": {"minilm": {"real": {"epochs": 2}}}},
        {"spec": 1, "recognition train": 2, "evaluation recognition": 1, "evaluation compare": 1, "report summary": 1, "report tidy": 1, "report page": 1},
    ),
    "the number of shards": ({"generators": {"smollm2": {"shards": 3}}}, {"generation sample": 3, "generation gather": 1, **SYNTHETIC}),
    "the hierarchy's setting": (
        {"hierarchy": "none"},
        {"kb parents": 1, "evaluation normalization": 2, "report summary": 1, "report tidy": 1, "report page": 1},
    ),
    "the report's settings": ({"report": {"browser_concepts": 7}}, {"spec": 1, "report page": 1}),
    "the statistics' settings": ({"statistics": {"resamples": 999}}, {"spec": 1, "evaluation compare": 3, "report tidy": 1, "report page": 1}),
}


@pytest.mark.parametrize("row", SETTINGS)
def test_settings(row: str, checkout: Path) -> None:
    change, expected = SETTINGS[row]
    assert overlay(checkout, change) == expected


EVERYTHING = {
    "kb extract": 1,
    "kb parents": 1,
    "corpora read": 2,
    "corpora leakage": 4,
    "corpora cards": 1,
    "generation prompts": 2,
    "generation pairs": 1,
    "generation finetune": 1,
    "generation sample": 2,
    "generation gather": 1,
    "generation control": 1,
    "generation locate": 2,
    "generation filter": 2,
    "augmentation choose": 8,
    "normalization embed-kb": 2,
    "normalization embed-corpus": 4,
    "normalization embed-generator": 4,
    "normalization search-kb": 4,
    "normalization link": 20,
    "recognition train": 2,
    **ALL_SCORES,
}


FILES: dict[str, tuple[str, Callable[[str], str], dict]] = {
    "a corpus file": ("resources/demo/ncbi/test.txt", lambda text: text.replace(" the ", " a ", 1), ALL_OF_DEMO_NCBI),
    "a file of the UMLS release": ("resources/demo/umls/META/MRSTY.RRF", lambda text: text + text.splitlines()[-1] + "\n", EVERYTHING),
    "our code, a part's version raised": (
        "workflow/mentionforge/normalization/embed.py",
        lambda text: re.sub(r"^VERSION = (\d+)$", lambda m: f"VERSION = {int(m[1]) + 1}", text, flags=re.M),
        {"spec": 3, "normalization embed-kb": 2, "normalization embed-corpus": 4, "normalization embed-generator": 4, "normalization search-kb": 4}
        | {"normalization link": 20, **SCORES},
    ),
    "our code, a docstring": ("workflow/mentionforge/normalization/linking.py", lambda text: text.replace('"""', '"""Edited. ', 1), {}),
    "our code, a rule's docstring": ("workflow/rules/embeddings.smk", lambda text: text.replace('    """Embed every', '    """Embed each and every'), {}),
}


@pytest.mark.parametrize("row", FILES)
def test_files(row: str, checkout: Path) -> None:
    path, edit, expected = FILES[row]
    assert edited(checkout, path, edit) == expected


def test_a_new_umls_release(checkout: Path) -> None:
    """Another folder: the config names another path. All that reads the knowledge base is made anew."""
    shutil.copytree(checkout / "resources/demo/umls/META", checkout / "resources/demo/umls/2027AA")
    assert overlay(checkout, {"kbs": {"demo": {"path": "resources/demo/umls/2027AA"}}}) == {"spec": 1, **EVERYTHING}


def test_the_same_bytes_anew_are_no_change(checkout: Path) -> None:
    """A file that was copied again has a new time of change, and reruns nothing."""
    (checkout / "resources/demo/ncbi/test.txt").touch()
    assert planned(checkout, *MINI) == []


def test_the_table_in_the_docs_has_these_rows() -> None:
    page = (ROOT / "docs/reruns.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert set(rows) >= {*SETTINGS, *FILES, "a new UMLS release", "the same bytes anew"}, set(SETTINGS) - set(rows)


def test_status_and_clean_of_a_changed_experiment(checkout: Path, tmp_path: Path) -> None:
    """Status agrees with the dry-run; what a narrower experiment leaves over is listed, and deleted only with --yes."""
    from mentionforge.planning import status
    from mentionforge.planning.plan import plan

    (checkout / "changed.yaml").write_text(
        yaml.safe_dump(merge(yaml.safe_load((ROOT / "tests/mini.yaml").read_text()), {"linkers": {"context": {"max_tokens": 48}}}))
    )
    jobs = plan(["--configfile", "changed.yaml"], checkout)
    stages = {stage.rule: stage for stage in status.rule_states(jobs, checkout)}
    assert sum(stage.stale + stage.missing for stage in stages.values()) == sum(LINKER.values())
    assert (stages["link_augmented"].stale, stages["link_augmented"].done, stages["link_augmented"].missing) == (8, 8, 0)
    assert stages["sample"].done == 2 and stages["sample"].size > 1000 and (stages["embed_kb"].seconds or 0) > 0
    assert status.causes(jobs) == [("settings changed", 1, ["results/specs/linkers/context.json"])]

    narrow = grid("normalization", linkers=["mention"])
    (checkout / "changed.yaml").write_text(yaml.safe_dump(merge(yaml.safe_load((ROOT / "tests/mini.yaml").read_text()), narrow)))
    command = [BIN / "mentionforge", "clean", "--stale", "--configfile", "changed.yaml"]

    def run(*more: str) -> list[str]:
        return subprocess.run([*command, *more], cwd=checkout, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

    assert run("--configfile", "tests/mini.yaml")[:-1] == [], "the whole experiment has nothing left over"
    listed = run()
    assert len(listed) > 50 and all("context" in path for path in listed[:-1]) and listed[-1].endswith("--yes deletes them")
    assert all((checkout / path).exists() for path in listed[:-1])
    copied = tmp_path / "copy"
    shutil.copytree(checkout, copied, symlinks=True, copy_function=shutil.copy2)
    subprocess.run([*command, "--yes"], cwd=copied, check=True, stdout=subprocess.DEVNULL)
    assert not any((copied / path).exists() for path in listed[:-1]) and planned(copied, "--configfile", "changed.yaml") != []
    assert {job.verb for job in planned(copied, "--configfile", "changed.yaml")} <= {*SCORES}
