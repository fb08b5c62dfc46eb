"""QLoRA fine-tuning: trains a low-rank adapter on the 4-bit model with the completions of the pairs.

In: table `pairs` and the model's stamp. Out: `adapter/` (safetensors and JSON only), training.csv with one row per update, and training.svg. Knows nothing
about knowledge bases, corpora and sampling.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.generation import funnel, markers, weights
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.generation.settings import Finetune
from mentionforge.progress import say, track
from mentionforge.provenance import digest, sha256_paths, stamp, versions
from mentionforge.specs import read_spec
from mentionforge.versions import number

VERSION = 1
"""Version of the part generation.finetune: raise it if earlier results would be wrong (mentionforge.versions)."""

COLUMNS = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy", "num_tokens")
"""Columns of training.csv. `num_tokens` counts the tokens seen so far, prompts included; only some updates have an `eval_loss`."""

LIBRARIES = ("accelerate", "bitsandbytes", "peft", "torch", "transformers", "trl")
"""Libraries that train. A checkpoint from other versions of them is not used."""

COMPLETE = "complete"
"""File that marks a checkpoint as complete; a checkpoint without it is dropped."""

LAUNCHED = "MENTIONFORGE_LAUNCHED"
"""Environment variable of each process of a fine-tuning on several devices: the id of the process that started them."""


def finetune(spec: Path, model: Path, pairs: Path, adapter: Path, training: Path) -> None:
    """Train an adapter and write it (paper, section on fine-tuning). A killed job resumes from its last checkpoint.

    Checkpoints are in ADAPTER.checkpoints until the adapter is written. A resumed job writes the same adapter as an uninterrupted one. With several devices
    the function starts itself once per device, unless a launcher (torchrun) has done so.

    Args:
        spec: Spec file of the generator, step `finetune`.
        model: Stamp of the fetched weights (fetched.json).
        pairs: Table `pairs`.
        adapter: Folder to write.
        training: training.csv to write; the loss curve is written beside it as .svg.

    Raises:
        UserError: Too little memory, no weights, no chat template, no pair whose prompt fits into `max_tokens`, or fewer GPUs than asked for.
    """
    generator: LlmGenerator = read_spec(spec, LlmGenerator)
    settings = generator.finetune
    assert settings, "the rule fine-tunes only where there are settings for it"
    started = LAUNCHED in os.environ or "LOCAL_RANK" in os.environ
    world = int(os.environ.get("WORLD_SIZE", "1")) if started else settings.devices
    if world != settings.devices:
        why = f"{settings.devices} asked for, {world} started"
        raise UserError("not started on all devices", "config: finetune.devices", why, "run the command without a launcher")
    if LAUNCHED in os.environ:
        _exit_with_launcher(int(os.environ[LAUNCHED]))
    first = os.environ.get("RANK", "0") == "0"
    weights.quiet()
    tokenizer = weights.tokenizer(model, generator.prompt_style)
    rows = tables.read(tables.PAIRS, pairs).to_pylist()
    style, frame = generator.prompt_style, generator.frame
    fitting = [r for r in rows if len(weights.prompt_ids(tokenizer, r["prompt"], style, frame)) < settings.max_tokens]
    if not fitting:
        raise UserError("no usable pair", str(pairs), f"every prompt has {settings.max_tokens} tokens or more", "raise finetune.max_tokens")
    learned, held = held_out(fitting, settings.eval_share, settings.seed)
    if not learned:
        raise UserError("no pair left to train on", str(pairs), f"{len(held)} pairs are held out", "lower finetune.eval_share")
    if settings.devices > 1 and not started:
        _launch(settings.devices, spec, model, pairs, adapter, training)
        return
    completions = {r["pair_id"]: markers.as_markers(r["completion"], generator.asked.markers) for r in fitting}
    sets = [[weights.training_example(tokenizer, r["prompt"], completions[r["pair_id"]], style, frame) for r in part] for part in (learned, held)]
    cut = sum(tokenizer.eos_token_id not in example["labels"][: settings.max_tokens] for example in sets[0])
    if len(fitting) < len(rows) and first:
        say(f"{len(rows) - len(fitting):,} of {len(rows):,} pairs left out: their prompts have {settings.max_tokens} tokens or more")
    if held and first:
        say(f"{len(held):,} pairs of {len({r['doc_id'] for r in held}):,} training documents held out to measure the loss on")
    if cut and first:
        say(f"{cut:,} of {len(learned):,} notes cut at {settings.max_tokens} tokens (finetune.max_tokens): where they end is not learned")

    dtype = weights.training_dtype(settings.compute_dtype)
    checkpoints = adapter.with_name(f"{adapter.name}.checkpoints")
    language_model = weights.load_for_training(model, settings.quantization, dtype, settings.double_quantization)
    trainer = make_trainer(language_model, tokenizer, sets[0], settings, str(checkpoints), sets[1])
    last = _decided_by_first_process(lambda: _resume_point(checkpoints, _job(spec, model, pairs, dtype, language_model.device.type)))
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except RuntimeError as error:
        if not weights.out_of_memory(error):
            raise
        why = f"{settings.batch_size} pairs of up to {settings.max_tokens:,} tokens do not fit beside the weights"
        ways = "lower batch_size and raise gradient_accumulation as much, lower max_tokens, set gradient_checkpointing: true, or use a larger GPU"
        raise UserError("out of memory", "config: generators.*.finetune", why, ways) from error
    if first:
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        measured = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
        reference = json.loads(model.read_text(encoding="utf-8")).get("reference", {})
        made = stamp(
            "generation finetune",
            {"spec": spec, "model": model, "pairs": pairs},
            pairs=len(learned),
            pairs_held_out=len(held),
            versions=versions(*LIBRARIES),
        )
        save_adapter(trainer.model, adapter, str(reference.get("hub") or reference.get("wheel") or "local"), made)
        _write_csv(training, history, measured)
        picture(training, training.with_suffix(".svg"))
        shutil.rmtree(checkpoints, ignore_errors=True)
        ending = f", {measured[max(measured)]:.2f} on the held-out pairs" if measured else ""
        say(f"adapter after {trainer.state.global_step:,} updates; loss {history[0]['loss']:.2f} at first, {history[-1]['loss']:.2f} at last{ending}")
    _finish_together()


def _launch(devices: int, *paths: Path) -> None:
    """Start this fine-tuning once per device and wait for all. The trainer (accelerate) reads its rank from the environment."""
    import subprocess
    import sys

    import torch

    gpus = torch.cuda.device_count()
    if gpus and gpus < devices:
        raise UserError("too few GPUs", "config: finetune.devices", f"{devices} asked for, {gpus} there", "lower it, or run where there are more")
    names = ("--spec", "--model", "--pairs", "--adapter", "--training")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices)]
    command += ["--module", "mentionforge.cli", "generation", "finetune"]
    # LAUNCHED tells the started processes not to start others, whatever variables the launcher sets.
    environment = os.environ | {LAUNCHED: str(os.getpid())} | ({} if gpus else {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"})
    result = subprocess.run(command + [str(part) for pair in zip(names, paths, strict=True) for part in pair], env=environment)
    if result.returncode:
        raise UserError("fine-tuning failed", f"{devices} processes", f"exit status {result.returncode}", "see the lines above")


def _exit_with_launcher(launcher: int) -> None:
    """Start a thread that ends this process when the launcher is gone: a killed launcher cannot end it, and it would disturb the next run."""
    import threading
    import time

    def watch() -> None:
        while True:
            try:
                os.kill(launcher, 0)
            except ProcessLookupError:
                os._exit(1)
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()


def held_out(pairs: Sequence[Mapping[str, Any]], share: float, seed: int) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Training pairs and held-out pairs. Whole documents are held out, drawn by a hash of the seed and the document's id."""
    documents = sorted({pair["doc_id"] for pair in pairs}, key=lambda doc: hashlib.sha256(f"{seed}:{doc}".encode()).digest())
    held = set(documents[: max(1, round(share * len(documents)))]) if share else set()
    return [p for p in pairs if p["doc_id"] not in held], [p for p in pairs if p["doc_id"] in held]


def _job(spec: Path, model: Path, pairs: Path, dtype: Any, device: str) -> str:
    """Digest of all that a checkpoint depends on, also the type of device, whose random states it holds."""
    current_versions = versions(*LIBRARIES)
    return digest(
        sha256_paths([spec]) + sha256_paths([model]) + sha256_paths([pairs]) + json.dumps([current_versions, str(dtype), device, number("generation.finetune")])
    )


def _decided_by_first_process(decide: Callable[[], Path | None]) -> Path | None:
    """The decision of the first process, in every process. The others wait for it, so that none reads a folder that is being cleared."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    decided = [decide() if PartialState().is_main_process else None]
    broadcast_object_list(decided)
    return decided[0]


def _resume_point(checkpoints: Path, job: str) -> Path | None:
    """The last complete checkpoint of the same job, or none; removes incomplete ones and those of other jobs. To be called by one process only."""
    name = checkpoints / "job"
    if checkpoints.is_dir() and (not name.is_file() or name.read_text() != job):
        if any(checkpoints.glob("checkpoint-*")):
            say(f"{checkpoints.name} is of another job (settings, pairs or versions have changed); starting anew")
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    name.write_text(job)
    all_checkpoints = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    complete = [path for path in all_checkpoints if (path / COMPLETE).is_file()]
    for path in set(all_checkpoints) - set(complete):
        shutil.rmtree(path)
    if complete:
        say(f"going on after {int(complete[-1].name.rpartition('-')[2]):,} updates")
    return complete[-1] if complete else None


def _finish_together() -> None:
    """Wait until the first process has written everything, then disconnect: a process that ends earlier may end the others."""
    import torch.distributed
    from accelerate import PartialState

    PartialState().wait_for_everyone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def make_trainer(model: Any, tokenizer: Any, examples: list[dict[str, Any]], settings: Finetune, scratch: str, held: Sequence[dict[str, Any]] = ()) -> Any:
    """Trl's supervised trainer for the examples, with a new adapter on the model; the loss counts completions only.

    Args:
        model: From `weights.load_for_training`.
        tokenizer: From `weights.tokenizer`.
        examples: From `weights.training_example`: tokens, and labels on completions only.
        settings: Settings of the fine-tuning; all of them are passed to the trainer or the adapter.
        scratch: Folder for checkpoints.
        held: Held-out examples to measure the loss on, like `examples`.
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
    batches = -(-len(examples) // (settings.batch_size * settings.devices))
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
        fp16=model.dtype == torch.float16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        max_length=settings.max_tokens,
        seed=settings.seed,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        eval_strategy="steps" if held else "no",
        eval_steps=-(-batches // settings.gradient_accumulation) if settings.eval_steps == "epoch" else settings.eval_steps,
        per_device_eval_batch_size=settings.batch_size,
        ddp_find_unused_parameters=False if settings.devices > 1 else None,
    )
    trainer: Any = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(examples),
        eval_dataset=Dataset.from_list(list(held)) if held else None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # trl makes the adapter of a 4-bit model bfloat16, in which small updates round to zero
            parameter.data = parameter.data.float()
    _report_progress(trainer, steps)
    return trainer


def _report_progress(trainer: Any, steps: int) -> None:
    """Report the trainer's progress by `track`, one step per update, instead of its own printing."""
    from contextlib import ExitStack

    from accelerate import PartialState
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.open = ExitStack()
            self.tick = self.open.enter_context(track("fine-tuning", steps)) if state.is_world_process_zero else lambda *_: None
            self.tick(state.global_step)
            seen = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
            if seen:  # trl counts from zero again after a checkpoint
                trainer._total_train_tokens = seen[-1]

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            PartialState().wait_for_everyone()  # each process writes its random state into the checkpoint
            if state.is_world_process_zero:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                (folder / "training_args.bin").unlink(missing_ok=True)  # an unused pickle
                if state.global_step < steps:  # a trainer resumed after the last update would make one more
                    (folder / COMPLETE).touch()

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
        base: Name of the base model for the adapter's configuration: its public name, not a folder on this machine.
        made: Provenance.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        saved, kept = Path(scratch) / "saved", Path(scratch) / "kept"
        # Without save_embedding_layers=False, peft asks the Hugging Face hub whether the vocabulary was changed.
        model.save_pretrained(saved, safe_serialization=True, save_embedding_layers=False)
        kept.mkdir()
        shutil.copyfile(saved / "adapter_model.safetensors", kept / "adapter_model.safetensors")
        described = json.loads((saved / "adapter_config.json").read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
        described["target_modules"] = sorted(described["target_modules"])  # peft writes a set
        for name, data in (("adapter_config.json", described), ("provenance.json", made)):
            (kept / name).write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if target.is_symlink():  # a link into the cache between workflows, whose files other workflows read
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(kept, target)


def _write_csv(path: Path, history: Iterable[Mapping[str, Any]], measured: Mapping[int, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**entry, "eval_loss": measured.get(entry["step"], "")} for entry in history)
    os.replace(temporary, path)


def picture(training: Path, target: Path) -> None:
    """Draw the loss curves of a training.csv to an SVG file."""
    import altair

    with open(training, newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    names = {"loss": "training pairs", "eval_loss": "held-out pairs"}
    points = [{"update": int(r["step"]), "loss": float(r[column]), "on": name} for column, name in names.items() for r in rows if r[column]]
    chart = (
        altair.Chart(altair.Data(values=points))
        .mark_line(point=len(rows) < 100)
        .encode(x=altair.X("update:Q"), y=altair.Y("loss:Q", scale=altair.Scale(zero=False)), color=altair.Color("on:N", title="loss on"))
        .properties(width=480, height=280)
    )
    funnel.save(chart, target)
