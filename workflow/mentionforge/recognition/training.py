"""Training of a tagger by a schedule, and its predictions on dev and test.

In: settings, corpus, synthetic notes. Out: predictions.parquet, model/, history.csv. Knows nothing of how a schedule picks
its sentences (`schedules`). Equal seed, inputs and machine give equal results, also after a resume from a checkpoint.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mentionforge import models, tables, tokenization
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.gold import TAGS, flatten, tags
from mentionforge.progress import say, track
from mentionforge.provenance import digest, stamp, versions
from mentionforge.recognition import sentences as units
from mentionforge.recognition.checkpoints import Checkpoints, EpochResult, TrainingProgress, copy_weights, restore_moments
from mentionforge.recognition.kinds import Recognizer
from mentionforge.recognition.kinds.tagger import TaggerRecognizer
from mentionforge.recognition.phases import chosen_notes, training_phases
from mentionforge.recognition.schedules import BY_NAME, Schedule
from mentionforge.recognition.schedules.contract import AnnotatedDocuments, TrainingPhase
from mentionforge.recognition.sentences import NO_LOSS, Example, TokenizedDocument
from mentionforge.recognition.tagger import PredictedMention, Tagger, predicted_mentions
from mentionforge.recognition.windows import SentenceWindow
from mentionforge.specs import read_spec
from mentionforge.text import Span
from mentionforge.versions import number as version_of

# Each phase has its own AdamW optimizer and its own linear learning rate schedule with warm-up. Only the last phase stops early: it keeps
# its best epoch by strict F1 or by loss on dev. An earlier phase runs in full: it trains on synthetic text, so its score on the real text of
# dev says little about whether to stop. Without a dev split the last epoch is kept.


VERSION = 1
"""Of the part recognition.train: raise it where earlier results would be wrong (mentionforge.versions)."""

IGNORED = -100
"""Target of word pieces without loss: masked words, all but the first piece of a word, words that another window owns, special tokens, padding."""

WindowTargets = tuple[list[SentenceWindow], list[torch.Tensor]]
"""Windows, and for each the target class of every word piece, int64 [pieces]."""


@dataclass(frozen=True)
class DevSplit:
    """The dev split, which chooses the epoch: documents, and gold mentions as (document id, word span)."""

    documents: list[TokenizedDocument]
    gold: set[tuple[str, Span]] = field(default_factory=set)


def train(
    spec: Path,
    model: Path,
    corpus: Path,
    corpus_spec: Path,
    schedule: Schedule,
    seed: int,
    out: Path,
    chosen: Path | None = None,
    synthetic: Path | None = None,
    teacher: Path | None = None,
) -> None:
    """Train by a schedule, predict dev and test, and write predictions.parquet, model/ and history.csv into `out`.

    Checkpoints stay in `out`/checkpoints until the training is done.

    Args:
        spec: Resolved settings of the recognizer.
        model: Stamp of the encoder (fetched.json).
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Resolved settings of the corpus, for its policy on discontinuous mentions.
        schedule: Name of the schedule.
        seed: Seed of the classifier, the order of sentences and dropout.
        out: Output folder.
        chosen: Synthetic notes that the strategy adds; required if the schedule reads notes.
        synthetic: Folder with the generator's located.parquet and mentions.parquet; required with `chosen`.
        teacher: Model folder of the real-only run, for the schedules that have a teacher.

    Raises:
        UserError: The recognizer is not trainable, synthetic notes or the teacher are required but missing, synthetic_only has
            no chosen notes, a chosen note is not located, the corpus has no training sentences, or windows do not fit the model.
    """
    settings = read_spec(spec, Recognizer)
    if not settings.trains:
        raise UserError("nothing to train", str(spec), f"a recognizer of kind {settings.kind}", "use `mentionforge recognition match`")
    policy = read_spec(corpus_spec, Corpus).discontinuous
    inputs = {"spec": spec, "model": model, "corpus_spec": corpus_spec, "documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    splits, gold = read_corpus(corpus)
    real = AnnotatedDocuments(splits["train"], gold, corpus / "documents.parquet")
    notes = chosen_notes(chosen, synthetic) if BY_NAME[schedule].reads_notes and chosen and synthetic else None
    if notes and chosen and synthetic:
        inputs |= {"chosen": chosen, "located": synthetic / "located.parquet", "synthetic_mentions": synthetic / "mentions.parquet"}
    if teacher:
        inputs["teacher"] = teacher
    phases, counts = training_phases(schedule, settings, policy, real, notes, teacher)

    _set_seed(seed)
    tagger = Tagger.load(models.folder(model), settings.max_tokens, settings.stride, settings.dtype, tokenization.case_of(model))
    dev = DevSplit(splits["dev"], {(doc.doc_id, span) for doc in splits["dev"] for span in flatten(doc.words, gold.get(doc.doc_id, []), policy).spans})
    more = {"schedule": schedule, "seed": seed, "discontinuous": policy, "counts": counts}
    more |= {"autocast": str(tagger.autocast or torch.float32).removeprefix("torch."), "versions": versions("torch", "transformers")}
    provenance = stamp("recognition train", inputs, **more)
    # The git revision is not part of the job: a change in another stage must not drop checkpoints. The spec holds the version of the training code.
    more = {"device": tagger.device.type, "schedule_version": version_of(f"schedule.{schedule}")}
    job = json.dumps({k: v for k, v in provenance.items() if k != "git_revision"} | more, sort_keys=True)
    checkpoints = Checkpoints(out / "checkpoints", digest(job))
    with tagger.with_vocabulary(occurring_words([e for phase in phases for e in (*phase.examples, *phase.drawn)], dev.documents)):
        history = fit(tagger, phases, settings, seed, dev, checkpoints)

    rows = [row for split in ("dev", "test") for row in prediction_rows(tagger, splits[split], split)]
    kept = next(e for e in history if e.kept)
    provenance |= {"kept_phase": kept.phase, "kept_epoch": kept.epoch}
    tagger.save(out / "model", provenance)
    _write_history(out / "history.csv", history)
    tables.write(tables.RECOGNIZED, out / "predictions.parquet", rows, provenance)
    checkpoints.remove()
    say(f"{len(rows):,} mentions predicted in {len(splits['dev'])} dev and {len(splits['test'])} test documents")


def predict(model: Path, corpus: Path, out: Path) -> None:
    """Predict mentions in the dev and test documents of any corpus, and write the table `recognized`.

    Args:
        model: Model folder that `train` wrote.
        corpus: Folder with documents.parquet.
        out: Table to write.

    Raises:
        UserError: The folder holds no recognizer.
    """
    splits, _ = read_corpus(corpus)
    tagger = Tagger.load(model)
    rows = [row for split in ("dev", "test") for row in prediction_rows(tagger, splits[split], split)]
    inputs: dict[str, str | Path] = {"model": model, "documents": corpus / "documents.parquet"}
    tables.write(tables.RECOGNIZED, out, rows, stamp("recognition predict", inputs, versions=versions("torch", "transformers")))
    say(f"{len(rows):,} mentions predicted in {len(splits['dev'])} dev and {len(splits['test'])} test documents")


def fit(
    tagger: Tagger, phases: Sequence[TrainingPhase], settings: TaggerRecognizer, seed: int, dev: DevSplit, checkpoints: Checkpoints | None = None
) -> list[EpochResult]:
    """Train all phases in place; the tagger ends with the weights of the epoch that is kept.

    Args:
        tagger: The recognizer.
        phases: Phases in order.
        settings: Batch size, weight decay, warm-up, class weights and early stopping.
        seed: Seed of the order of sentences.
        dev: Dev split; if it has no documents, the last epoch is kept.
        checkpoints: Checkpoints to resume from and to write; None: start anew and write none.

    Raises:
        UserError: No word of a phase carries loss.
    """
    order = torch.Generator().manual_seed(seed)
    restored = checkpoints.load(tagger.model, order) if checkpoints else None
    progress, moments = restored or (TrainingProgress(), None)
    if restored:
        say(f"going on after epoch {progress.epoch} of phase {progress.phase + 1} of {len(phases)}")
    for number, phase in enumerate(phases):
        if number < progress.phase:
            continue
        if number > progress.phase:
            progress.phase, progress.epoch, progress.step = number, 0, 0
        optimizer = _optimizer(tagger.model, phase.settings.learning_rate, settings.weight_decay)
        if moments is not None:
            restore_moments(optimizer, moments)
            moments = None
        if _train_phase(tagger, phase, settings, order, dev, optimizer, progress, checkpoints, last=number == len(phases) - 1):
            break
    history = progress.history
    if progress.best is None or progress.weights is None:
        say("the last epoch is kept: " + ("no dev split" if not dev.documents else "early_stopping is none"))
        history[-1].kept = True
    else:
        tagger.model.load_state_dict(progress.weights)
        history[progress.best].kept = True
        say(f"kept {history[progress.best].phase} epoch {history[progress.best].epoch}")
    return history


def _train_phase(
    tagger: Tagger,
    phase: TrainingPhase,
    settings: TaggerRecognizer,
    order: torch.Generator,
    dev: DevSplit,
    optimizer: torch.optim.Optimizer,
    progress: TrainingProgress,
    checkpoints: Checkpoints | None,
    last: bool,
) -> bool:
    """Train the remaining epochs of a phase; returns whether it stopped early."""
    windows, targets = _window_targets(tagger, phase.examples)
    if not windows:
        raise UserError("nothing to learn", f"{phase.name} phase", "no word of its sentences carries loss", "choose another schedule")
    extra, extra_targets = _window_targets(tagger, phase.drawn)
    drawn = round(phase.ratio * len(windows)) if extra else 0
    steps = -(-(len(windows) + drawn) // settings.batch_size) * phase.settings.epochs
    warmup = round(steps * settings.warmup_ratio)
    weights = class_weights(settings, targets + extra_targets).to(tagger.device) if settings.class_weights else None
    with track(f"{phase.name} phase, steps", steps) as tick:
        tick(progress.step)
        while progress.epoch < phase.settings.epochs:
            chosen = draw_positions(len(extra), drawn, order)
            now, now_targets = windows + [extra[i] for i in chosen], targets + [extra_targets[i] for i in chosen]
            tagger.model.train()
            total, taken = torch.zeros((), device=tagger.device), 0
            for batch in batches([len(w.pieces) for w in now], settings.batch_size, order):
                for group in optimizer.param_groups:
                    group["lr"] = phase.settings.learning_rate * learning_rate_factor(progress.step, warmup, steps)
                loss = _loss(tagger, [now[i] for i in batch], [now_targets[i] for i in batch], weights)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(tagger.model.parameters(), 1.0)
                optimizer.step()
                total, taken, progress.step = total + loss.detach(), taken + 1, progress.step + 1
                tick()
            progress.epoch += 1
            epoch = EpochResult(phase.name, progress.epoch, taken, float(total) / taken)
            if dev.documents:
                epoch.dev_precision, epoch.dev_recall, epoch.dev_f1, epoch.dev_loss = dev_scores(tagger, dev)
            progress.history.append(epoch)
            scores = "" if epoch.dev_f1 is None else f", dev strict F1 {epoch.dev_f1:.4f}, dev loss {epoch.dev_loss:.4f}"
            say(f"{phase.name} epoch {epoch.epoch}: loss {epoch.train_loss:.4f}{scores}")
            if last and dev.documents and settings.early_stopping != "none":
                if progress.best is None or is_better(epoch, progress.history[progress.best], settings.early_stopping):
                    progress.best, progress.weights = len(progress.history) - 1, copy_weights(tagger.model)
                elif epoch.epoch - progress.history[progress.best].epoch >= settings.patience:
                    say(f"no better dev score for {settings.patience} epochs: stopped")
                    return True
            if checkpoints and not (last and progress.epoch == phase.settings.epochs):
                checkpoints.save(progress, tagger.model, optimizer, order)
    return False


def occurring_words(examples: Sequence[Example], documents: Sequence[TokenizedDocument]) -> set[str]:
    """All distinct words of training sentences and documents."""
    return {word for example in examples for word in example.words}.union(*(doc.tokens((0, len(doc.words))) for doc in documents))


def learning_rate_factor(step: int, warmup: int, steps: int) -> float:
    """Learning rate at a step (from 0), as a share of the peak: it rises for `warmup` steps, then falls to 0 at `steps`."""
    return (step + 1) / (warmup + 1) if step < warmup else (steps - step) / max(1, steps - warmup)


def is_better(epoch: EpochResult, best: EpochResult, by: str) -> bool:
    """Whether an epoch beats the best one so far on dev: higher F1 or, with `by` dev_loss, lower loss."""
    if by == "dev_loss":
        return (epoch.dev_loss or 0.0) < (best.dev_loss or 0.0)
    return (epoch.dev_f1 or 0.0) > (best.dev_f1 or 0.0)


def dev_scores(tagger: Tagger, dev: DevSplit) -> tuple[float, float, float, float]:
    """Strict entity precision, recall and F1, and mean loss per word, on the dev split."""
    read = tagger.read(dev.documents)
    predicted = {doc.doc_id: predicted_mentions(doc, read[doc.doc_id]) for doc in dev.documents}
    spans: dict[str, list[Span]] = {}
    for doc_id, span in dev.gold:
        spans.setdefault(doc_id, []).append(span)
    total, words = 0.0, 0
    for doc in dev.documents:
        classes = [TAGS.index(tag) for tag in tags(len(doc.words), spans.get(doc.doc_id, ()))]
        chances = read[doc.doc_id][np.arange(len(classes)), classes].astype(np.float64)
        total, words = total - float(np.log(np.maximum(chances, np.finfo(np.float32).tiny)).sum()), words + len(classes)
    return *strict_scores(dev.gold, predicted), total / max(1, words)


def draw_positions(count: int, number: int, order: torch.Generator) -> list[int]:
    """`number` positions below `count`; no position occurs more than once more often than another."""
    if not number:
        return []
    whole, rest = divmod(number, count)
    return list(range(count)) * whole + sorted(torch.randperm(count, generator=order)[:rest].tolist())


def batches(lengths: Sequence[int], batch_size: int, order: torch.Generator, chunk: int = 50) -> Iterator[list[int]]:
    """Batches of positions, each position once: shuffled, sorted by length within chunks of `chunk` batches, then the batches shuffled.

    Sorting saves padding; sorting within chunks only makes the batches differ between epochs.
    """
    shuffled = torch.randperm(len(lengths), generator=order).tolist()
    size = batch_size * chunk
    made = []
    for begin in range(0, len(shuffled), size):
        part = sorted(shuffled[begin : begin + size], key=lambda i: lengths[i])
        made += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for i in torch.randperm(len(made), generator=order).tolist():
        yield made[i]


def strict_scores(gold: set[tuple[str, Span]], predicted: Mapping[str, Sequence[PredictedMention]]) -> tuple[float, float, float]:
    """Strict entity precision, recall and F1; 0 where a score is undefined."""
    predicted_spans = {(doc_id, mention.span) for doc_id, mentions in predicted.items() for mention in mentions}
    right = len(gold & predicted_spans)
    return right / max(1, len(predicted_spans)), right / max(1, len(gold)), 2 * right / max(1, len(predicted_spans) + len(gold))


def _window_targets(tagger: Tagger, examples: Sequence[Example]) -> WindowTargets:
    """Windows of the examples, and the target class of every word piece; windows in which no word carries loss are left out."""
    windows, targets = [], []
    for window in tagger.windows.cut([e.words for e in examples]):
        word_tags = [examples[window.sentence].tags[i] for i in window.words]
        classes = [IGNORED if tag == NO_LOSS else TAGS.index(tag) for tag in word_tags]
        if all(c == IGNORED for c in classes):
            continue
        target = torch.full((len(window.pieces),), IGNORED)
        target[window.positions] = torch.tensor(classes)
        windows.append(window)
        targets.append(target)
    return windows, targets


def class_weights(settings: TaggerRecognizer, targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weight of each class in the loss: as in the settings or, for `balanced`, so that all classes have the same total weight."""
    if settings.class_weights != "balanced":
        return torch.tensor(settings.class_weights, dtype=torch.float32)
    every = torch.cat(list(targets))
    counts = torch.bincount(every[every != IGNORED], minlength=len(TAGS))
    return counts.sum() / (len(TAGS) * counts.clamp(min=1).float())


def _loss(tagger: Tagger, windows: list[SentenceWindow], targets: list[torch.Tensor], weights: torch.Tensor | None = None) -> torch.Tensor:
    target = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(tagger.device)
    return torch.nn.functional.cross_entropy(tagger.logits(windows).flatten(0, 1), target.flatten(), weights, ignore_index=IGNORED)


def _optimizer(model: torch.nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    # As in the training of BERT, biases and layer norm weights have no weight decay.
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)  # eight times as fast as the default on the CPU


def _set_seed(seed: int) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic
    torch.manual_seed(seed)
    # The same as use_deterministic_algorithms(True, warn_only=True), which also imports torch's compiler: two seconds of each job.
    torch.set_deterministic_debug_mode("warn")
    # Filling takes a sixth of a training step on the CPU and is not needed: no code here reads uninitialized memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def read_corpus(folder: Path) -> tuple[dict[str, list[TokenizedDocument]], dict[str, list[list[Span]]]]:
    """Documents by split, and gold mentions (character spans) by document; gold mentions of test are not read."""
    splits: dict[str, list[TokenizedDocument]] = {split: [] for split in tables.SPLITS}
    for row in tables.read(tables.DOCUMENTS, folder / "documents.parquet").to_pylist():
        splits[row["split"]].append(units.tokenized_document(row["doc_id"], row["text"], row["sentences"]))
    rows = tables.read(tables.MENTIONS, folder / "mentions.parquet").to_pylist()
    return splits, units.spans_by_document(row for row in rows if row["split"] != "test")


def prediction_rows(tagger: Tagger, documents: list[TokenizedDocument], split: str) -> list[dict[str, Any]]:
    """Predicted mentions of documents as rows of the table `recognized`."""
    mentions = tagger.recognize(documents)
    return [
        {"doc_id": doc.doc_id, "start": doc.words[first][0], "end": doc.words[last - 1][1], "split": split, "score": score}
        for doc in documents
        for (first, last), score in mentions[doc.doc_id]
    ]


def _write_history(path: Path, history: Sequence[EpochResult]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["phase", "epoch", "steps", "train_loss", "dev_precision", "dev_recall", "dev_f1", "dev_loss", "kept"])
        for e in history:
            numbers = ["" if x is None else f"{x:.6f}" for x in (e.train_loss, e.dev_precision, e.dev_recall, e.dev_f1, e.dev_loss)]
            writer.writerow([e.phase, e.epoch, e.steps, *numbers, int(e.kept)])
    os.replace(temporary, path)
