"""What fine-tuning and sampling show a language model, token by token, on models as they are published: SentencePiece and byte-level, chat and plain."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from test_generation import write_spec
from tokenizers import Tokenizer

from mentionforge import tables
from mentionforge.config import load_config, spec
from mentionforge.errors import UserError
from mentionforge.generation import finetune, sample, weights
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.generation.settings import FRAME, Finetune
from mentionforge.specs import read_spec
from published import llama2
from tiny import tiny_model

PUBLISHED = "### Instruction: {prompt}\n ### Example Doctor's Note: {note}"
PROMPTS = ("Write about gout (also called Arthritis, Gouty).", "Müßig: ≥ 3 µg, \n <1CUI> Crohn's </1CUI>", "x")
NOTES = ("He has <1CUI> gout </1CUI>.", "2 days of fever ☃; no \n\n sputum", "'s HD worsens", "\nShe", "É")


def stamped(folder: Path) -> Path:
    (folder / "fetched.json").write_text(json.dumps({"folder": str(folder), "reference": {"hub": "tiny/llama2"}}))
    return folder / "fetched.json"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Stamp of a tiny Llama-2 with the published tokenizer's form."""
    return stamped(llama2(tmp_path_factory.mktemp("llama2"), both=False))


@pytest.fixture(scope="module")
def pieces(llama):
    """SentencePiece itself, as Llama-2's authors use it."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(llama.parent / "tokenizer.model"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def pairs_of(count=8):
    names = ("gout", "fever", "influenza", "cough", "anemia", "sprain", "asthma", "stroke")[:count]
    return [
        {"pair_id": str(i), "doc_id": f"d{i}", "cui": None, "prompt": f"Write about {n}.", "completion": f"He has <1CUI> {n} </1CUI>{' today' * (i % 4)}."}
        for i, n in enumerate(names)
    ]


# ------------------------------------------------------------------------------------------------------- against the tokenizers themselves


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_plain_tokens_of_llama_2_are_those_of_sentencepiece(llama, pieces, prompt, note):
    """The authors' frame: one beginning, the frame as one text, one end."""
    tokenizer = weights.tokenizer(llama, "plain")
    asked = [1, *pieces.encode(f"### Instruction: {prompt}\n ### Example Doctor's Note:")]
    whole = [1, *pieces.encode(f"### Instruction: {prompt}\n ### Example Doctor's Note: {note}"), 2]
    assert whole[: len(asked)] == asked, "the blank is part of the note's first piece"
    assert weights.prompt_ids(tokenizer, prompt, "plain", PUBLISHED) == asked
    example = weights.training_example(tokenizer, prompt, note, "plain", PUBLISHED)
    assert example == {"input_ids": whole, "labels": [-100] * len(asked) + whole[len(asked) :]}


@pytest.mark.parametrize("note", ["He has <1CUI> gout </1CUI>.", "2 days of fever"])
def test_chat_tokens_of_llama_2_are_those_of_its_authors(llama, pieces, note):
    """`[INST] … [/INST] answer ` between one beginning and one end; the template writes a beginning of its own."""
    tokenizer = weights.tokenizer(llama, "chat")
    asked = [1, *pieces.encode("[INST] Write about gout. [/INST]")]
    whole = [1, *pieces.encode(f"[INST] Write about gout. [/INST] {note} "), 2]
    assert weights.prompt_ids(tokenizer, "Write about gout.", "chat") == asked
    assert weights.training_example(tokenizer, "Write about gout.", note, "chat") == {"input_ids": whole, "labels": [-100] * len(asked) + whole[len(asked) :]}


def test_chat_tokens_of_a_byte_level_model_are_those_of_its_tokenizer(smollm2, tiny):
    """By the tokenizer's own file: ChatML written by hand, no beginning but the template's."""
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    for stamp, head in ((smollm2, system), (tiny, "")):
        tokenizer = weights.tokenizer(stamp, "chat")
        if head:
            asked_for = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
            head = asked_for[: asked_for.index("<|im_start|>user")]
        raw = tokenizer.backend_tokenizer if stamp == smollm2 else Tokenizer.from_file(str(stamp.parent / "tokenizer.json"))
        before, after = f"{head}<|im_start|>user\n{PROMPTS[0]}<|im_end|>\n<|im_start|>assistant\n", f"{NOTES[0]}<|im_end|>\n"
        asked, whole = (raw.encode(text, add_special_tokens=False).ids for text in (before, before + after))
        assert weights.prompt_ids(tokenizer, PROMPTS[0], "chat") == asked
        example = weights.training_example(tokenizer, PROMPTS[0], NOTES[0], "chat")
        assert example == {"input_ids": whole, "labels": [-100] * len(asked) + whole[len(asked) :]}


def test_the_default_frame_is_the_form_that_there_was_before(tiny):
    tokenizer = weights.tokenizer(tiny, "plain")
    assert weights.prompt_text("Write.") == "Instruction: Write.\nNote:"
    raw = Tokenizer.from_file(str(tiny.parent / "tokenizer.json"))
    example = weights.training_example(tokenizer, "Write.", "He has gout.", "plain")
    assert example["input_ids"] == raw.encode("Instruction: Write.\nNote: He has gout.<|im_end|>").ids


# --------------------------------------------------------------------------------------------------------------- at every boundary

FRAMES = (FRAME, PUBLISHED, "{prompt}\n\n{note}", "{prompt}\n{note}", "Q: {prompt} A:{note}", "{prompt}  {note}", "<s>[INST] {prompt} [/INST] {note}")


@pytest.mark.parametrize("model", ["llama", "smollm2", "tiny"])
def test_what_is_trained_begins_with_what_is_sampled_from(model, request):
    """Whatever the frame ends with and the note begins with; and nothing but the note is learned, with one end and no further beginning."""
    stamp = request.getfixturevalue(model)
    tokenizers = {style: weights.tokenizer(stamp, style) for style in ("plain", "chat")}
    for style, frame, prompt, note in itertools.product(("plain", "chat"), FRAMES, PROMPTS, NOTES):
        if style == "chat" and frame != FRAME:
            continue
        tokenizer = tokenizers[style]
        asked, example = weights.prompt_ids(tokenizer, prompt, style, frame), weights.training_example(tokenizer, prompt, note, style, frame)
        case = (style, frame, prompt, note)
        assert example["input_ids"][: len(asked)] == asked and example["labels"][: len(asked)] == [-100] * len(asked), case
        learned = example["labels"][len(asked) :]
        assert learned == example["input_ids"][len(asked) :] and learned.count(tokenizer.eos_token_id) == 1, case
        assert tokenizer.decode(learned[: learned.index(tokenizer.eos_token_id)]).strip() == note.strip(), case
        if model == "llama":
            assert example["input_ids"].count(tokenizer.bos_token_id) == 1 and example["input_ids"][0] == tokenizer.bos_token_id, case


def test_a_tokenizer_that_ends_every_text_ends_no_prompt(llama, pieces, tmp_path):
    shutil.copytree(llama.parent, tmp_path / "ends")
    tokenizer = weights.tokenizer(stamped(tmp_path / "ends"), "plain")
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    assert tokenizer("x")["input_ids"][-1] == 2
    for style in ("plain", "chat"):
        assert 2 not in weights.prompt_ids(tokenizer, "Write.", style)
        assert weights.training_example(tokenizer, "Write.", "He has gout.", style)["input_ids"].count(2) == 1
    assert weights.prompt_ids(tokenizer, "Write.", "plain") == [1, *pieces.encode("Instruction: Write.\nNote:")]


def test_templates_without_an_end_get_one_and_templates_with_a_date_stay_the_same(llama):
    tokenizer = weights.tokenizer(llama, "chat")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    example = weights.training_example(tokenizer, "Write.", "He has gout.", "chat")
    assert example["input_ids"][-1] == example["labels"][-1] == 2
    assert tokenizer.decode([token for token in example["labels"] if token >= 0]).strip() == "He has gout.\n</s>"
    tokenizer.chat_template = "{% for m in messages %}{{ strftime_now('%d %b %Y') + m['role'] + m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(llama.parent.parent / "dated")
    (llama.parent.parent / "dated/config.json").write_text((llama.parent / "config.json").read_text())
    dated = weights.tokenizer(stamped(llama.parent.parent / "dated"), "chat")
    assert dated.decode(weights.prompt_ids(dated, "Write.", "chat")) == "26 Jul 2024userWrite."
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + m['content']|upper }}{% endfor %}"
    with pytest.raises(UserError, match="does not repeat the note"):
        weights.training_example(tokenizer, "Write.", "He has gout.", "chat")


def test_tokenizer_model_alone_is_read_or_refused_in_a_line(tmp_path, pieces):
    stamp = stamped(llama2(tmp_path / "slow", both=False, fast=False))
    try:
        import google.protobuf  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="needs sentencepiece and protobuf"):
            weights.tokenizer(stamp, "plain")
        return
    tokenizer = weights.tokenizer(stamp, "plain")
    assert weights.prompt_ids(tokenizer, PROMPTS[1], "plain", PUBLISHED) == [1, *pieces.encode(f"### Instruction: {PROMPTS[1]}\n ### Example Doctor's Note:")]


# ------------------------------------------------------------------------------------------------------------------------ the setting


@pytest.mark.parametrize("frame", ["no place", "{note} {prompt}", "{prompt} {prompt} {note}", "{prompt} {note} ", "{note} {prompt} {note}", "{prompt}"])
def test_a_frame_without_its_places_is_a_line_before_anything_runs(root, frame):
    import yaml

    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["smollm2"]["frame"] = frame
    with pytest.raises(UserError, match=r"config: generators\.smollm2.*frame.*hold \{prompt\} once and end with \{note\}"):
        load_config(raw)


def test_the_frame_is_part_of_what_prompts_adapters_and_notes_depend_on(root):
    import yaml

    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["smollm2"] |= {"prompt_style": "plain", "frame": PUBLISHED}
    config = load_config(raw)
    held = {part: spec(config, "generators", "smollm2", part)["settings"].get("frame") for part in ("prompts", "finetune", "sampling", "locate", "filter")}
    assert held == {"prompts": PUBLISHED, "finetune": PUBLISHED, "sampling": PUBLISHED, "locate": None, "filter": None}


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_sampling_and_servers_are_asked_in_the_frame(llama, root, tmp_path, style):
    rows = [{"note_id": "a", "prompt": PROMPTS[0], "seed": 1}]
    made = read_spec(write_spec(tmp_path / "s.json", root, "smollm2", "sampling", prompt_style=style, frame=PUBLISHED), LlmGenerator)
    [request] = sample._requests(made, llama, rows)
    tokenizer = weights.tokenizer(llama, style)
    assert list(request.ids) == weights.training_example(tokenizer, PROMPTS[0], "He.", style, PUBLISHED)["input_ids"][: len(request.ids)]
    served = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    settings = {"backend": served, "finetune": None, "filters": {"memorization": None}, "model": None}
    made = read_spec(write_spec(tmp_path / "o.json", root, "smollm2", "sampling", prompt_style=style, frame=PUBLISHED, **settings), LlmGenerator)
    [request] = sample._requests(made, None, rows)
    assert request.prompt == (f"### Instruction: {PROMPTS[0]}\n ### Example Doctor's Note:" if style == "plain" else PROMPTS[0])


# --------------------------------------------------------------------------------------------------------------------- the training


def trainer_of(stamp, tmp_path, style="plain", dtype=torch.float32, **settings):
    made = Finetune(corpus="x", **{"compute_dtype": "float32", "gradient_checkpointing": False, "max_steps": 1, **settings})
    tokenizer = weights.tokenizer(stamp, style)
    model = weights.load_for_training(stamp, made.quantization, dtype, made.double_quantization)
    examples = [weights.training_example(tokenizer, p["prompt"], p["completion"], style, PUBLISHED) for p in pairs_of()]
    return finetune.make_trainer(model, tokenizer, examples, made, str(tmp_path)), tokenizer, examples


@pytest.mark.parametrize("double", [False, True])
def test_llama_2_gets_lora_on_its_attention_and_4_bit_weights_as_set(llama, tmp_path, double):
    import bitsandbytes

    trainer, *_ = trainer_of(llama, tmp_path, double_quantization=double)
    trained = {name.split(".lora_")[0].rpartition(".")[2] for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert all("lora_" in name for name, p in trainer.model.named_parameters() if p.requires_grad)
    quantized = [(name, m) for name, m in trainer.model.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert {name.rpartition(".")[2] for name, _ in quantized} == {"gate_proj", "up_proj", "down_proj", "base_layer"}, "all projections, not the head"
    assert {(m.weight.quant_type, m.weight.quant_state.nested, m.compute_dtype) for _, m in quantized} == {("nf4", double, torch.float32)}


def test_the_shipped_settings_quantize_as_before_and_the_default_as_published(root):
    import yaml

    from mentionforge.config_files import merge

    raw = yaml.safe_load((root / "config.yaml").read_text())
    opened = merge(yaml.safe_load((root / "config.yaml").read_text()), yaml.safe_load((root / "config/open.yaml").read_text()))
    assert [load_config(part).generators["smollm2"].finetune.double_quantization for part in (raw, opened)] == [True, True]
    assert Finetune(corpus="x").double_quantization is False


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_a_batch_is_padded_on_the_right_and_its_loss_is_that_of_the_notes(llama, tmp_path, style):
    """Padding has the id of the end of text, and is hidden by the mask; the end itself is learned. The loss, by hand: notes and ends alone."""
    trainer, tokenizer, examples = trainer_of(llama, tmp_path, style, quantization="none", lora={"dropout": 0.0})
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    examples = [weights.training_example(tokenizer, p["prompt"], p["completion"], style, PUBLISHED) for p in pairs_of(4)]
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    width = max(len(e["input_ids"]) for e in examples)
    total, count = 0.0, 0
    for row, example in enumerate(examples):
        ids, n = example["input_ids"], len(example["input_ids"])
        assert batch["input_ids"][row].tolist() == ids + [2] * (width - n) and batch["attention_mask"][row].tolist() == [1] * n + [0] * (width - n)
        assert batch["labels"][row].tolist() == example["labels"] + [-100] * (width - n) and batch["labels"][row, n - 1] == 2
        with torch.no_grad():
            chosen = trainer.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        start = example["labels"].count(-100)
        total -= sum(float(chosen[t - 1, ids[t]]) for t in range(start, n))
        count += n - start
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, {key: value.clone() for key, value in batch.items()})
    assert float(loss) == pytest.approx(total / count, abs=1e-4)


def test_a_note_that_is_cut_teaches_no_end(llama, root, tmp_path, capsys):
    rows = pairs_of()
    tables.write(tables.PAIRS, tmp_path / "pairs.parquet", rows)
    tokenizer = weights.tokenizer(llama, "plain")
    lengths = [len(weights.training_example(tokenizer, r["prompt"], r["completion"], "plain", PUBLISHED)["input_ids"]) for r in rows]
    limit = sorted(lengths)[4]
    made = {"max_tokens": limit, "max_steps": 1, "batch_size": 2, "compute_dtype": "float32", "quantization": "none"}
    written = write_spec(tmp_path / "s.json", root, "smollm2", "finetune", prompt_style="plain", frame=PUBLISHED, finetune=made)
    finetune.finetune(written, llama, tmp_path / "pairs.parquet", tmp_path / "a", tmp_path / "a.csv")
    cut = sum(n > limit for n in lengths)
    assert 0 < cut < 8 and f"{cut} of 8 notes cut at {limit} tokens" in " ".join(capsys.readouterr().err.split())
    trainer, _, examples = trainer_of(llama, tmp_path / "b", max_tokens=limit)
    for row, example in zip(trainer.train_dataset, examples, strict=True):
        assert row["labels"] == example["labels"][:limit] and (2 in row["labels"]) == (len(example["labels"]) <= limit)


def test_the_loss_can_be_measured_after_every_pass(llama, tmp_path):
    tokenizer = weights.tokenizer(llama, "plain")
    examples = [weights.training_example(tokenizer, p["prompt"], p["completion"], "plain") for p in pairs_of()]
    settings = Finetune(
        corpus="x", epochs=3, batch_size=2, eval_share=0.25, eval_steps="epoch", compute_dtype="float32", quantization="none", gradient_checkpointing=False
    )
    trainer = finetune.make_trainer(weights.load_for_training(llama, "none", torch.float32), tokenizer, examples[:6], settings, str(tmp_path), examples[6:])
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [3, 6, 9]
    assert [entry["epoch"] for entry in trainer.state.log_history if "eval_loss" in entry] == [1, 2, 3]


@pytest.mark.slow
def test_gradients_reach_the_adapter_when_activations_are_computed_again(llama, tmp_path):
    """The same gradients with and without, on 4-bit and on full weights."""
    for quantization in ("nf4", "none"):
        found = []
        for again in (False, True):
            trainer, *_ = trainer_of(llama, tmp_path, quantization=quantization, gradient_checkpointing=again, lora={"dropout": 0.0}, max_steps=1, batch_size=2)
            trainer.train()
            found.append({name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad})
        assert found[0].keys() == found[1].keys() and all(torch.allclose(found[0][k], found[1][k], atol=1e-6) for k in found[0])
        assert any(float(p.abs().max()) > 0 for name, p in found[1].items() if "lora_B" in name)


@pytest.mark.parametrize(("kind", "fast", "wanted", "found", "said"), [
    ("cuda", True, "bfloat16", torch.bfloat16, ""), ("cuda", False, "bfloat16", torch.float16, "float16 with loss scaling"),
    ("cpu", False, "bfloat16", torch.float32, "float32"), ("cpu", True, "bfloat16", torch.bfloat16, ""),
    ("cuda", False, "float16", torch.float16, ""), ("cpu", True, "float16", torch.float32, "float32"), ("cuda", False, "float32", torch.float32, ""),
])  # fmt: skip
def test_the_type_of_the_computation_follows_the_device_and_is_said(monkeypatch, capsys, kind, fast, wanted, found, said):
    """A V100 or T4 computes in float16; a stand-in for the device, since none is at hand."""
    monkeypatch.setattr(weights, "device", lambda: torch.device(kind))
    monkeypatch.setattr(weights, "fast_bfloat16", lambda _: fast)
    assert weights.training_dtype(wanted) == found
    heard = " ".join(capsys.readouterr().err.split())
    assert said in heard and bool(said) == bool(heard)
    monkeypatch.setenv("RANK", "1")
    weights.training_dtype(wanted)
    assert not capsys.readouterr().err


def test_float16_scales_the_loss(llama, tmp_path):
    trainer, *_ = trainer_of(llama, tmp_path, dtype=torch.float16)
    assert trainer.args.fp16 and not trainer.args.bf16
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}, "scaled gradients need an adapter in float32"
