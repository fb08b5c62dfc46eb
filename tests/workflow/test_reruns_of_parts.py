"""What reruns when the version of a part of the code is raised: one test for each part, on the plan of tests/parts.yaml, in which every part makes something.

Nothing is computed: the results are empty files that Snakemake has been told to take for finished. The version is raised in the sources of the copy.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from checkout import ROOT, copy_checkout, snakemake
from mentionforge import versions
from mentionforge.planning.plan import Job, plan

PARTS = ("--configfile", "tests/parts.yaml")


def planned(folder: Path) -> list[Job]:
    """The plan by the sources of the copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "workflow"))
        return plan(PARTS, folder)


@pytest.fixture(scope="module")
def touched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which the experiment seems to have run to its end."""
    folder = copy_checkout(tmp_path_factory.mktemp("parts") / "mentionforge")
    (folder / "resources/models").unlink(missing_ok=True)
    jobs = planned(folder)
    for job in jobs:
        for path in job.outputs:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).mkdir(exist_ok=True) if path in job.folders else (folder / path).write_text("{}")
    snakemake(folder, "--touch", "--forceall", *PARTS)
    assert not [job for job in planned(folder) if job.pending and job.outputs]
    return folder


def raised(folder: Path, part: str) -> list[Job]:
    """Jobs that rerun with the version of a part raised by one; its source is put back."""
    package = folder / "workflow/mentionforge"
    kept = {
        path: path.read_bytes() for path in (package / versions.VERSIONED_CODE[part].code[0].partition(":")[0], package / versions.CONFIRMED) if path.exists()
    }
    try:
        assert versions.raise_version(part, package) == versions.number(part) + 1
        return [job for job in planned(folder) if job.pending and job.outputs]
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


# The experiment: on demo_ncbi the generator smollm2 with seven linkers (five search, one fuses two of them, one reranks), a tagger by six schedules and a
# dictionary, end to end with one linker, and the predictions of another system of each kind; on demo_bc5cdr six other generators with one linker, two of them with knowledge bases of their own. One strategy, one index each; a sweep.
REPORT = {"summary": 1, "tidy": 1, "page": 1, "sweeps": 1}
RECOGNITION = {"evaluate_recognition": 1, "compare": 1, **REPORT}
END_TO_END = {"evaluate_end_to_end": 1}
FIRST = {"evaluate_normalization": 1, "compare": 1, **REPORT}
"""Normalization of one corpus is scored and compared anew."""
BOTH = FIRST | {"evaluate_normalization": 2, "compare": 2}


def runs(kind: str, number: int) -> dict[str, int]:
    """Recognition runs of a rule, and what reads them."""
    return {kind: number, "predicted_mentions": number, "link_predicted": number, **RECOGNITION, **END_TO_END}


def chosen(smollm2: bool, others: int) -> dict[str, int]:
    """What reads the notes that strategies choose, of smollm2 and of some of the six other generators."""
    found = {"augment": smollm2 + others, "link_augmented": 5 * smollm2 + others}
    if not smollm2:
        return found | FIRST
    return found | {"fuse": 1, "rerank": 1, **runs("recognize_augmented", 5)} | {"evaluate_normalization": 1 + bool(others), "compare": 2 + bool(others)}


def kept(smollm2: bool, others: int) -> dict[str, int]:
    """What reads the notes that the filters keep."""
    return {"leakage": smollm2 + others, "embed_generator": 5 * smollm2 + others, **chosen(smollm2, others)}


def written(smollm2: bool, others: int) -> dict[str, int]:
    """What reads the notes."""
    return {"locate": smollm2 + others, "filter": smollm2 + others, **kept(smollm2, others)}


LINKED = {"link_baseline": 6, "link_augmented": 11, "fuse": 2, "rerank": 2, "rerank_train": 1, "link_predicted": 7, **BOTH, **END_TO_END}
ALL_TRAINED = {"recognize_real": 1, "recognize_augmented": 5}
READ = {
    "embed_corpus": 6,
    "search_names": 5,
    "align": 1,
    "pairs": 1,
    "finetune": 1,
    "sample": 2,
    "notes": 1,
    "augment": 7,
    "leakage": 7,
    "corpus_cards": 1,
    "recognize_dictionary": 1,
    "external_rankings": 1,
    "external_spans": 1,
    "predicted_mentions": 7,
    **ALL_TRAINED,
    **LINKED,
    **RECOGNITION,
    "compare": 3,
}
"""What reads the tables of all three corpora, generators aside that are not fine-tuned on one."""
OPEN_KB = {"kb_extract": 1, "kb_parents": 1, "corpus_read": 1, "corpus_cards": 1, "embed_corpus": 1, "link_baseline": 1, **chosen(False, 6), "leakage": 6}
EXPECTED: dict[str, dict[str, int]] = {
    "models": {
        "fetch_model": 2, "finetune": 1, "sample": 3, "sample_vllm": 1, "notes": 3, **written(True, 2), "align": 1, "embed_kb": 3, "embed_corpus": 3,
        "search_names": 3, "link_baseline": 3, "rerank_train": 1, "rerank": 2, "recognize_real": 1, "predicted_mentions": 6, "link_predicted": 6,
    },
    "downloads": {"fetch_download": 1, "corpus_read": 1, "corpus_cards": 1, "embed_corpus": 1, "link_baseline": 1, **chosen(False, 6), "leakage": 6},
    "kb.rrf": {
        **READ, "kb_extract": 1, "kb_parents": 1, "corpus_read": 2, "embed_corpus": 5, "link_baseline": 5, "embed_kb": 5, "prompts": 5, "control": 2, "sample": 3,
        "sample_vllm": 1, "notes": 3, "locate": 5, "filter": 5, "embed_generator": 9, "augment": 5, "leakage": 5, "link_augmented": 9,
    },
    "kb.ontologies": OPEN_KB,
    **dict.fromkeys(("ontology.mondo", "ontology.doid", "ontology.hpo", "ontology.other", "ontology.mesh"), OPEN_KB),
    "kb.table": {"kb_extract": 1, "prompts": 1, "sample": 1, "notes": 1, **written(False, 1)},
    "kb.rf2": {"kb_extract": 1, "prompts": 1, "control": 1, **written(False, 1)},
    "kb.parents": {"kb_parents": 2, "evaluate_normalization": 2, **REPORT},
    "corpora.read": {"spec": 3, **READ, "corpus_read": 3, "prompts": 1, "control": 1, "locate": 2, "filter": 2, "embed_generator": 6, "embed_kb": 1},
    "corpora.leakage": {"leakage": 7, **chosen(True, 6)},
    "corpora.cards": {"corpus_cards": 1},
    "generation.prompts": {"spec": 7, "prompts": 7, "sample": 4, "sample_vllm": 1, "notes": 4, "control": 3, **written(True, 6)},
    "generation.pairs": {"pairs": 1, "finetune": 1, "sample": 2, "notes": 1, **written(True, 0)},
    "generation.finetune": {"finetune": 1, "sample": 2, "notes": 1, **written(True, 0)},
    "generation.sample": {"spec": 4, "sample": 4, "sample_vllm": 1, "notes": 4, **written(True, 3)},
    "backend.transformers": {"sample": 2, "notes": 1, **written(True, 0)},
    "backend.continuous": {"sample": 1, "notes": 1, **written(False, 1)},
    "backend.vllm": {"sample_vllm": 1, "notes": 1, **written(False, 1)},
    "backend.openai": {"sample": 1, "notes": 1, **written(False, 1)},
    "generation.control": {"control": 1, **written(False, 1)},
    "generation.replay": {"prompts": 1, "control": 1, **written(False, 1)},
    "generation.replacement": {"prompts": 1, "control": 1, **written(False, 1)},
    "generation.locate": {"spec": 7, **written(True, 6)},
    "generation.filter": {"spec": 7, "filter": 7, **kept(True, 6)},
    **{part: {"filter": 1, **kept(True, 0)} for part in versions.VERSIONED_CODE if part.startswith("filter.")},
    "augmentation.choose": chosen(True, 6),
    "recognition.train": {**ALL_TRAINED, **runs("recognize_real", 6), "recognize_real": 1},
    "recognition.dictionary": runs("recognize_dictionary", 1),
    "recognition.mentions": {"predicted_mentions": 7, "link_predicted": 7, **END_TO_END, "summary": 1, "tidy": 1, "page": 1},
    # Two schedules ask the model of real_only.
    "schedule.real_only": {**runs("recognize_augmented", 3), "recognize_augmented": 2, "recognize_real": 1},
    **{part: runs("recognize_augmented", 1) for part in versions.VERSIONED_CODE if part.startswith("schedule.") and part != "schedule.real_only"},
    # Two entries' specs, and that of the part for the other kinds of linkers.
    "normalization.embed": {"spec": 3, "embed_kb": 5, "embed_corpus": 6, "embed_generator": 11, "search_names": 5, **LINKED},
    # The indexes kb and train+kb admit the same names, and share the search of the first.
    "normalization.search": {"spec": 3, "search_names": 5, **LINKED},
    "normalization.tfidf": {
        "embed_kb": 1, "embed_corpus": 1, "embed_generator": 1, "search_names": 1, "link_baseline": 1, "link_augmented": 1, "fuse": 2, **FIRST,
    },
    "normalization.exact": {
        "embed_kb": 1, "embed_corpus": 2, "embed_generator": 7, "search_names": 1, **LINKED, "link_baseline": 2, "link_augmented": 7,
    },
    "normalization.link": {"search_names": 5, **LINKED},
    "normalization.align": {
        "align": 1, "embed_kb": 1, "embed_corpus": 1, "embed_generator": 1, "search_names": 1, "link_baseline": 1, "link_augmented": 1, **FIRST,
    },
    "normalization.fuse": {"fuse": 2, **FIRST},
    "normalization.rerank": {"rerank_train": 1, "rerank": 2, **FIRST},
    "external.rankings": {"external_rankings": 1, **FIRST},
    "external.spans": {"external_spans": 1, **RECOGNITION},
    "evaluation.recognition": {"evaluate_recognition": 1, **REPORT},
    "evaluation.normalization": {"evaluate_normalization": 2, **REPORT},
    "evaluation.end_to_end": {"evaluate_end_to_end": 1, "summary": 1, "tidy": 1, "page": 1},
    "statistics.compare": {"compare": 3, "tidy": 1, "page": 1},
    "report.summary": {"summary": 1},
    "report.tidy": {"tidy": 1},
    "report.page": {"page": 1},
    "report.sweeps": {"sweeps": 1},
}  # fmt: skip


@pytest.mark.parametrize("part", versions.VERSIONED_CODE)
def test_a_raised_version_reruns_its_part_and_what_reads_it(part: str, touched: Path) -> None:
    """By rule, how many jobs; nothing above the part, and nothing of others."""
    assert Counter(job.rule for job in raised(touched, part)) == {"spec": 1, **EXPECTED[part]}


def test_every_part_has_a_row_in_the_docs() -> None:
    page = (ROOT / "docs/reruns.md").read_text().partition("## What reruns when our code is corrected")[2].partition("\n## ")[0]
    rows = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    assert rows == set(versions.VERSIONED_CODE) == set(EXPECTED)
