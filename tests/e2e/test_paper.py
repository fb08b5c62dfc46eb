"""config/paper.yaml runs to its report: tiny models with the architectures, file lists and tokenizers of the published ones, from a hub on the loopback address.

Nothing of the preset is replaced but paths and sizes. The Llama has learned by heart what to write for the prompts, since random weights write nothing
that could be located. NCBI Disease and BC5CDR are subsets of the real files where those are at hand, else the demo's. `make test-paper-long`: more of
everything.
"""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import warm
from checkout import BIN, CORES, ROOT, copy_checkout
from hub import serve
from mentionforge import tables
from mentionforge.config import cross_cells, end_to_end_cells, load_config, normalization_cells, recognition_cells
from mentionforge.config_files import merge
from mentionforge.generation import weights
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.specs import read_spec
from published import REPOSITORIES, krissbert, llama2
from release import codes, pubtator_subset, write_release

LONG = os.environ.get("MENTIONFORGE_PAPER") == "long"
SECRET = "hf_of_the_test"
LLAMA = "meta-llama/Llama-2-13b-chat-hf"
KRISSBERT = "microsoft/BiomedNLP-KRISSBERT-PubMed-UMLS-EL"
CONCEPTS = 24 if LONG else 8
STRATEGIES = ["none", "naive", "ideal", "supplemental", "ablation"]


def overlay(folder: Path) -> dict[str, Any]:
    """Paths and sizes: all that the preset is changed by."""
    splits = {"train": (40, "train"), "dev": (10, "dev"), "test": (12, "test")}
    shared = Path(os.environ.get("MENTIONFORGE_MIRROR", ROOT.parent / "shared" / "data"))
    real = {
        "ncbi_disease": {"train": "NCBItrainset_corpus.txt", "dev": "NCBIdevelopset_corpus.txt", "test": "NCBItestset_corpus.txt"},
        "bc5cdr": {"train": "CDR_TrainingSet.PubTator.txt", "dev": "CDR_DevelopmentSet.PubTator.txt", "test": "CDR_TestSet.PubTator.txt"},
    }
    public: dict[str, dict[str, list[str]]] = {}
    for corpus, files in real.items():
        public[corpus] = {}
        for split, (documents, demo) in splits.items():
            source = shared / corpus / files[split]
            source = source if source.is_file() else ROOT / "resources" / "demo" / corpus.partition("_")[0] / f"{demo}.txt"
            public[corpus][split] = [str(pubtator_subset(source, folder / "subsets" / corpus / f"{split}.txt", documents * (4 if LONG else 1)))]
    wanted = codes(Path(path) for splits in public.values() for paths in splits.values() for path in paths)
    write_release(folder / "META", wanted)
    # Concepts that only train, only test, and no corpus has, so that every strategy differs from the others.
    (folder / "concepts.txt").write_text("\n".join(chosen_concepts(folder / "META", public)) + "\n", encoding="utf-8")
    few = {"cuis": str(folder / "concepts.txt")}
    corpora = ["semeval2015", "ncbi_disease", "bc5cdr"]
    return {
        "kbs": {"umls": {"path": str(folder / "META")}},
        "corpora": {
            "semeval2015": {"splits": {split: [f"resources/demo/semeval/{split}"] for split in splits}},
            **{corpus: {"splits": files} for corpus, files in public.items()},
        },
        "generators": {
            "llama2": {
                "concepts": few,
                "notes_per_concept": 2,
                "shards": 2,
                "finetune": {"max_pairs": 12, "max_tokens": 1024},
                "sampling": {"max_new_tokens": 64, "batch_size": 8},
            },
            "template": {"concepts": few, "notes_per_concept": 1},
            "names": {"concepts": few},
        },
        "recognizers": {
            "biobert": {"real": {"epochs": 1}, "synthetic": {"epochs": 1}, "mixed": {"epochs": 1}, "max_tokens": 128, "stride": 16},
        },
        "experiment": {
            "normalization": [
                {"corpora": corpora if LONG else ["semeval2015"], "generators": ["llama2", "template", "names"] if LONG else ["llama2"], "strategies": STRATEGIES,
                 "linkers": ["sapbert", "krissbert"], "indexes": ["train", "kb", "train+kb"]},
                {"corpora": ["ncbi_disease", "bc5cdr"], "generators": ["llama2", "names"], "strategies": ["none", "supplemental"],
                 "linkers": ["sapbert", "krissbert"], "indexes": ["train", "train+kb"]},
            ],
            "recognition": [
                {"corpora": ["semeval2015"], "generators": ["llama2"], "strategies": STRATEGIES if LONG else ["none", "naive"], "recognizers": ["biobert", "dictionary"],
                 "schedules": ["real_only", "synthetic_only", "synthetic_then_real", "relabelled_then_real", "masked_then_real", "mixed"],
                 "seeds": [1, 2] if LONG else [1], "test_corpora": ["ncbi_disease"]},
                {"corpora": ["semeval2015"], "generators": ["llama2"], "strategies": ["none", "naive"], "recognizers": ["biobert"],
                 "schedules": ["real_only", "synthetic_then_real"], "seeds": [1], "linkers": ["sapbert"], "indexes": ["train+kb"]},
            ],
        },
    }  # fmt: skip


def chosen_concepts(meta: Path, public: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Concepts with a definition: some of the SemEval notes' training split, some of their test split alone, some of neither."""
    defined = {line.split("|")[0] for line in (meta / "MRDEF.RRF").read_text(encoding="utf-8").splitlines()}
    split = {
        part: Counter(cui for file in sorted((ROOT / "resources/demo/semeval" / part).glob("*.pipe")) for cui in re.findall(r"\bC\d{7}\b", file.read_text()))
        for part in ("train", "test")
    }
    train = [cui for cui, _ in split["train"].most_common() if cui in defined]
    test = [cui for cui, _ in split["test"].most_common() if cui in defined and cui not in split["train"]]
    neither = sorted(defined - set(split["train"]) - set(split["test"]))
    third = CONCEPTS // 3
    return sorted(train[:third] + test[:third] + neither[: CONCEPTS - 2 * third])


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: Any
    output: str

    @property
    def results(self) -> Path:
        return self.folder / "results" / "paper"


def run(folder: Path, *arguments: str, **environment: str) -> str:
    """Snakemake with the preset and the overlay; its output."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | environment
    commands = warm.folder(given)
    given["PATH"] = f"{commands}:{BIN}:{os.environ['PATH']}"
    command = [commands / "snakemake", *CORES, *arguments, "--configfile", "config/paper.yaml", "overlay.yaml"]
    done = subprocess.run(command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The preset, run to its end."""
    base = tmp_path_factory.mktemp("paper")
    folder = copy_checkout(base / "mentionforge")
    (folder / "resources" / "models").unlink(missing_ok=True)  # nothing that was fetched before
    raw = overlay(base)
    (folder / "overlay.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    merged: dict[str, Any] = {}
    for file in (ROOT / "config.yaml", ROOT / "config" / "paper.yaml"):
        merge(merged, yaml.safe_load(file.read_text(encoding="utf-8")))
    config = load_config(merge(merged, raw))

    # What the model is to write depends on the prompts, which need no model.
    run(folder, "results/paper/generation/llama2/prompts.parquet", "results/paper/specs/generators/llama2/sampling.json", HF_HUB_OFFLINE="1")
    prompts = tables.read(tables.PROMPTS, folder / "results/paper/generation/llama2/prompts.parquet").to_pylist()
    generator: LlmGenerator = read_spec(folder / "results/paper/specs/generators/llama2/sampling.json", LlmGenerator)
    names = dict(zip(*(pd.read_parquet(folder / "results/paper/kb/umls/concepts.parquet")[key] for key in ("cui", "preferred_name")), strict=True))
    taught = {
        row["cui"]: (
            generator.frame.partition("{note}")[0].rstrip().format(prompt=row["prompt"]),
            f"She was seen for <1CUI> {names[row['cui']]} </1CUI> today.",
        )
        for row in prompts
    }
    hub = base / "hub"
    for repository, build in REPOSITORIES.items():
        if repository == LLAMA:
            llama2(hub / repository, taught=list(taught.values()))
        else:
            build(hub / repository)
    pinned = next(value.hub.partition("@")[2] for value in config.models.values() if value.hub and value.hub.startswith(KRISSBERT))
    krissbert(hub / f"{KRISSBERT}@{pinned}", safetensors=True)
    with serve(hub) as served:
        served.gated, served.tokens = {LLAMA}, {SECRET: {LLAMA}}
        output = run(folder, **served.environment(base / "cache", token=SECRET))
    yield Run(folder, config, output)


def test_every_cell_has_its_scores_and_the_report_is_there(paper: Run) -> None:
    summary = paper.results / "summary"
    assert (paper.results / "report" / "index.html").stat().st_size > 10_000
    normalization = pd.read_csv(summary / "normalization.csv", keep_default_na=False)
    assert len(normalization) == len(normalization_cells(paper.config)) >= 30 + 2 * 2 * 2 * 3
    recognition = pd.read_csv(summary / "recognition.csv", keep_default_na=False)
    assert len(recognition) == len(recognition_cells(paper.config)) + len(cross_cells(paper.config))
    assert set(recognition["schedule"].str.partition("~")[0]) == {"real_only", "synthetic_only", "synthetic_then_real", "relabelled_then_real", "masked_then_real", "mixed", "untrained"}  # fmt: skip
    scored = pd.read_parquet(paper.results / "evaluation" / "end_to_end" / "semeval2015.parquet")
    assert len(scored.groupby(["generator", "strategy", "system", "variant"])) >= len(end_to_end_cells(paper.config)) == 2


def test_notes_are_written_located_and_chosen(paper: Run) -> None:
    folder = paper.results / "generation" / "llama2"
    funnel = json.loads((folder / "funnel.json").read_text())
    assert funnel["prompted"] == funnel["generated"] == 2 * CONCEPTS
    located = pd.read_parquet(folder / "located.parquet")
    assert located["cui"].nunique() >= CONCEPTS // 2, funnel
    sizes = {strategy: len(pd.read_parquet(paper.results / f"augmentation/semeval2015/llama2/{strategy}/notes.parquet")) for strategy in STRATEGIES[1:]}
    assert sizes["naive"] == len(located) > max(sizes["ideal"], sizes["supplemental"], sizes["ablation"]) and min(sizes.values()) > 0, sizes


def test_the_adapter_is_the_papers(paper: Run) -> None:
    """LoRA on q k v o with rank 64 and alpha 16, in every layer, and trained: B is no longer 0."""
    from safetensors.torch import load_file

    folder = paper.results / "generation" / "llama2" / "adapter"
    described = json.loads((folder / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"], described["lora_dropout"]) == (64, 16, 0.1)
    tensors = load_file(folder / "adapter_model.safetensors")
    parts = {re.search(r"layers\.(\d+)\.self_attn\.(\w)_proj\.lora_(\w)\.weight$", name).groups() for name in tensors}
    assert parts == {(layer, projection, side) for layer in "01" for projection in "qkvo" for side in "AB"}
    assert all(tensor.abs().max() > 0 for name, tensor in tensors.items() if "lora_B" in name)


def test_sampled_in_four_bits_by_the_config(paper: Run) -> None:
    """The provenance says NF4; the notes are no longer than the config asks, though the model's folder says 4,096 tokens."""
    notes = paper.results / "generation" / "llama2" / "notes.parquet"
    assert "nf4" in json.dumps(tables.provenance(notes)).lower()
    frame = pd.read_parquet(notes)
    assert frame["tokens"].max() <= 64 and (frame["finish_reason"] == "stop").any()


def test_biobert_reads_capitals(paper: Run) -> None:
    from transformers import AutoTokenizer

    models = sorted((paper.results / "recognition" / "semeval2015").rglob("model/recognizer.json"))
    assert len(models) >= 6
    for card in models:
        tokenizer = AutoTokenizer.from_pretrained(card.parent)
        assert tokenizer.tokenize("Huntington") != tokenizer.tokenize("huntington") and "H" in "".join(tokenizer.tokenize("Huntington"))


def test_krissbert_has_its_markers_and_its_pinned_weights(paper: Run) -> None:
    stamp = json.loads((paper.folder / "resources" / "models" / "krissbert" / "fetched.json").read_text())
    assert stamp["revision"] == "2e70a6447997aa07729c3dfe7cd2f177fd623b22"
    embedded = sorted((paper.results / "embeddings" / "krissbert").rglob("entries.parquet"))
    assert embedded
    for path in embedded:
        assert tables.provenance(path)["markers"] == ["<ENT>", "</ENT>"], path


def test_no_traceback_and_no_licensed_text_in_the_logs(paper: Run) -> None:
    said = paper.output + "".join(path.read_text(errors="replace") for path in (paper.results / "logs").rglob("*.log"))
    assert "Traceback" not in said and SECRET not in said
    notes = "\n".join(path.read_text(errors="replace") for path in (paper.folder / "resources/demo/semeval").rglob("*.text"))
    lines = [line.strip() for line in notes.splitlines() if len(line.strip()) > 60]
    assert len(lines) > 100 and not [line for line in lines if line in said]


def test_training_and_sampling_read_the_same_prompt(paper: Run) -> None:
    """One beginning of text, and the tokens of a prompt in training are those that sampling continues."""
    stamp = paper.folder / "resources" / "models" / "llama2_13b_chat" / "fetched.json"
    generator: LlmGenerator = read_spec(paper.results / "specs" / "generators" / "llama2" / "sampling.json", LlmGenerator)
    assert generator.prompt_style == "plain" and generator.frame == "### Instruction: {prompt}\n ### Example Doctor's Note: {note}"
    tokenizer = weights.tokenizer(stamp, generator.prompt_style)
    prompt = pd.read_parquet(paper.results / "generation" / "llama2" / "pairs.parquet")["prompt"].iloc[0]
    ids = weights.prompt_ids(tokenizer, prompt, generator.prompt_style, generator.frame)
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]).strip() == f"### Instruction: {prompt}\n ### Example Doctor's Note:"


def test_labels_are_the_completion_and_its_end(paper: Run) -> None:
    stamp = paper.folder / "resources" / "models" / "llama2_13b_chat" / "fetched.json"
    generator: LlmGenerator = read_spec(paper.results / "specs" / "generators" / "llama2" / "finetune.json", LlmGenerator)
    tokenizer = weights.tokenizer(stamp, generator.prompt_style)
    pairs = pd.read_parquet(paper.results / "generation" / "llama2" / "pairs.parquet")
    for row in pairs.itertuples():
        example = weights.training_example(tokenizer, row.prompt, row.completion, generator.prompt_style, generator.frame)
        learned = [label for label in example["labels"] if label != -100]
        assert learned[-1] == tokenizer.eos_token_id and tokenizer.decode(learned[:-1]).strip() == row.completion.strip()
        assert example["input_ids"].count(tokenizer.bos_token_id) == 1 and example["input_ids"][-len(learned) :] == learned


def test_loaded_in_the_four_bits_that_the_preset_says(paper: Run) -> None:
    """NF4 without double quantization, in training and in sampling; of the folder's generation settings the end of text is left."""
    import torch
    from bitsandbytes.nn import Linear4bit

    stamp = paper.folder / "resources" / "models" / "llama2_13b_chat" / "fetched.json"
    finetune = paper.config.generators["llama2"].finetune
    sampling = paper.config.generators["llama2"].sampling
    adapter = paper.results / "generation" / "llama2" / "adapter"
    trained = weights.load_for_training(stamp, finetune.quantization, torch.float32, finetune.double_quantization)
    sampled = weights.load_for_sampling(stamp, adapter, torch.float32, sampling.quantization, sampling.double_quantization)
    for model in (trained, sampled):
        layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
        assert len(layers) == 2 * 7 and all((m.weight.quant_state.quant_type, m.weight.quant_state.nested) == ("nf4", False) for m in layers)
    folder = json.loads((Path(json.loads(stamp.read_text())["folder"]) / "generation_config.json").read_text())
    assert (folder["temperature"], folder["top_p"]) == (0.6, 0.9)
    assert sampled.generation_config.eos_token_id == 2 and not sampled.generation_config.do_sample
    assert sampled.generation_config.temperature != 0.6 and sampled.generation_config.top_p != 0.9
