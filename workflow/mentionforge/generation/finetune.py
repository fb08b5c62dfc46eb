"""QLoRA fine-tuning: a low-rank adapter on the 4-bit model, trained on the pairs' completions.

In: table `pairs` and the model's stamp. Out: `adapter/` (safetensors and JSON only) and training.csv, one row per update.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.config import Finetune, LlmGenerator, read_spec
from mentionforge.errors import UserError
from mentionforge.generation import weights
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions

COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "num_tokens")
"""Columns of training.csv; `num_tokens` is the number of tokens seen so far, prompts included."""


def finetune(spec: Path, model: Path, pairs: Path, adapter: Path, training: Path) -> None:
    """Train an adapter and write it (paper, section on fine-tuning).

    Args:
        spec: Spec file of the generator, part `finetune`.
        model: Stamp of the fetched weights (fetched.json).
        pairs: Table `pairs`.
        adapter: Folder to write.
        training: training.csv to write.

    Raises:
        UserError: No weights, no chat template, or no pair whose prompt fits into `max_tokens`.
    """
    generator: LlmGenerator = read_spec(spec)
    settings = generator.finetune
    assert settings, "the rule fine-tunes only where there are settings for it"
    weights.quiet()
    tokenizer = weights.tokenizer(model, generator.prompt_style)
    rows = tables.read(tables.PAIRS, pairs).to_pylist()
    examples = [weights.training_example(r["prompt"], r["completion"], generator.prompt_style) for r in rows]
    longest = settings.max_tokens
    fitting = [e for e, r in zip(examples, rows, strict=True) if len(weights.prompt_ids(tokenizer, r["prompt"], generator.prompt_style)) < longest]
    if not fitting:
        raise UserError("no usable pair", str(pairs), f"every prompt has {longest} tokens or more", "raise finetune.max_tokens")
    if len(fitting) < len(examples):
        say(f"{len(examples) - len(fitting):,} of {len(examples):,} pairs left out: their prompts alone have {longest} tokens or more")

    language_model = weights.load_for_training(model, settings.quantization, weights.training_dtype(settings.compute_dtype))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(language_model, tokenizer, fitting, settings, scratch)
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    reference = json.loads(model.read_text(encoding="utf-8")).get("reference", {})
    made = stamp(
        "generation finetune",
        {"spec": spec, "model": model, "pairs": pairs},
        pairs=len(fitting),
        versions=versions("bitsandbytes", "peft", "torch", "transformers", "trl"),
    )
    save_adapter(trainer.model, adapter, str(reference.get("hub") or reference.get("wheel") or "local"), made)
    _write_csv(training, history)
    say(f"adapter after {trainer.state.global_step:,} updates; loss {history[0]['loss']:.2f} at first, {history[-1]['loss']:.2f} at last")


def make_trainer(model: Any, tokenizer: Any, examples: list[dict[str, Any]], settings: Finetune, scratch: str) -> Any:
    """Trl's supervised trainer over the examples, with a new adapter on the model; loss on completions only.

    Args:
        model: From `weights.load_for_training`.
        tokenizer: From `weights.tokenizer`.
        examples: From `weights.training_example`.
        settings: Every one of them reaches the trainer or the adapter.
        scratch: Folder for whatever the trainer wants to write.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(settings.seed)
    lora = settings.lora
    # peft declares an integer alpha, but scales by any number.
    adapter = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets), task_type="CAUSAL_LM")  # type: ignore[arg-type]
    batches = -(-len(examples) // settings.batch_size)
    steps = settings.max_steps or max(1, round(settings.epochs * -(-batches // settings.gradient_accumulation)))
    on_cpu = model.device.type == "cpu"
    arguments = SFTConfig(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=round(settings.warmup_ratio * steps),
        optim="adamw_torch",
        bf16=model.dtype == torch.bfloat16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        max_length=settings.max_tokens,
        completion_only_loss=True,
        seed=settings.seed,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
    )
    trainer: Any = SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(examples), processing_class=tokenizer, peft_config=adapter)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # trl makes the adapter of a 4-bit model bfloat16, in which small updates round to nothing
            parameter.data = parameter.data.float()
    _report_progress(trainer, steps)
    return trainer


def _report_progress(trainer: Any, steps: int) -> None:
    """Replace the trainer's own printing by `track`, one unit per update."""
    from contextlib import ExitStack

    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.open = ExitStack()
            self.tick = self.open.enter_context(track("fine-tuning", steps))

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                self.tick(1, f"loss {float(logs['loss']):.2f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.open.close()

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress())


def save_adapter(model: Any, target: Path, base: str, made: Mapping[str, Any]) -> None:
    """Write an adapter: weights as safetensors, its configuration, and provenance.json.

    Args:
        model: The model with the adapter.
        target: Folder; replaced as a whole if it is there.
        base: What the configuration calls the model below: its public name, not the folder on this machine.
        made: Provenance.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        saved, kept = Path(scratch) / "saved", Path(scratch) / "kept"
        # Without save_embedding_layers=False, peft asks the hub whether the vocabulary was changed.
        model.save_pretrained(saved, safe_serialization=True, save_embedding_layers=False)
        kept.mkdir()
        shutil.copyfile(saved / "adapter_model.safetensors", kept / "adapter_model.safetensors")
        described = json.loads((saved / "adapter_config.json").read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
        described["target_modules"] = sorted(described["target_modules"])  # peft writes a set
        for name, data in (("adapter_config.json", described), ("provenance.json", made)):
            (kept / name).write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(kept, target)


def _write_csv(path: Path, history: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**entry, "step": i} for i, entry in enumerate(history, start=1))
    os.replace(temporary, path)
