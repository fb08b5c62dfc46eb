"""Training a recognizer: real sentences, synthetic sentences, or synthetic and then real ones.

Each phase has its own optimizer (AdamW) and linear schedule with warm-up. The last phase stops early and keeps its best
epoch by strict entity F1 on dev; a phase before it runs in full, because dev is real text and would end it for the
wrong reason. Without a dev split the last epoch is kept. Equal seed, inputs and machine give equal results.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mentionforge import models, tables
from mentionforge.config import Phase, Recognizer, Schedule, read_spec
from mentionforge.errors import UserError
from mentionforge.gold import TAGS, flatten
from mentionforge.progress import say, track
from mentionforge.provenance import stamp, versions
from mentionforge.recognition import sentences as units
from mentionforge.recognition.sentences import Document, Example
from mentionforge.recognition.tagger import Found, Tagger
from mentionforge.recognition.windows import Window
from mentionforge.text import Span

IGNORED = -100
"""Target of pieces that carry no tag: further pieces of a word, words another window owns, special tokens, padding."""


@dataclass
class Epoch:
    """A row of history.csv; dev metrics are None without a dev split."""

    phase: str
    epoch: int
    steps: int
    train_loss: float
    dev_precision: float | None = None
    dev_recall: float | None = None
    dev_f1: float | None = None
    kept: bool = False


@dataclass(frozen=True)
class Dev:
    """The dev split: documents and gold word spans, for the choice of the epoch."""

    documents: list[Document]
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
) -> None:
    """Train by a schedule, predict dev and test, and write predictions.parquet, model/ and history.csv into `out`.

    Args:
        spec: Resolved settings of the recognizer.
        model: Stamp of the encoder (fetched.json).
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Resolved settings of the corpus, for its policy on mentions in pieces.
        schedule: Which sentences are learned, in which order.
        seed: Seed of the classifier, the order of sentences and dropout.
        out: Output folder.
        chosen: Synthetic notes that the strategy adds; needed unless the schedule is real_only.
        synthetic: Folder with the generator's located.parquet and mentions.parquet; likewise.

    Raises:
        UserError: Synthetic notes are needed and not given, none is chosen for synthetic_only, a chosen note is not
            among the located ones, the corpus has no training sentences, or windows do not fit the model.
    """
    settings: Recognizer = read_spec(spec)
    policy = read_spec(corpus_spec).discontinuous
    inputs = {"spec": spec, "model": model, "corpus_spec": corpus_spec, "documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    splits, mentions = _corpus(corpus)
    phases: list[tuple[str, Phase, list[Example]]] = []
    counts: dict[str, dict[str, int]] = {}
    if schedule != "real_only":
        if chosen is None or synthetic is None:
            raise UserError("missing synthetic notes", "command line", f"schedule {schedule} needs them", "give --chosen and --synthetic")
        inputs |= {"chosen": chosen, "located": synthetic / "located.parquet", "synthetic_mentions": synthetic / "mentions.parquet"}
        examples, found = units.training(*_notes(chosen, synthetic), policy)
        if examples:
            phases.append(("synthetic", settings.synthetic, examples))
        elif schedule == "synthetic_only":
            raise UserError("no synthetic notes", str(chosen), "the strategy chose none", "choose another strategy, or drop the schedule synthetic_only for it")
        else:
            say("the strategy chose no synthetic note: training on real sentences alone")
        counts["synthetic"] = _said("synthetic", found)
    if schedule != "synthetic_only":
        examples, found = units.training(splits["train"], mentions, policy)
        if not examples:
            raise UserError("no training sentences", str(corpus / "documents.parquet"), "the train split has no words")
        phases.append(("real", settings.real, examples))
        counts["real"] = _said("real", found)

    _seed(seed)
    tagger = Tagger.load(models.folder(model), settings.max_tokens, settings.stride, settings.dtype)
    dev = Dev(splits["dev"], {(doc.doc_id, span) for doc in splits["dev"] for span in flatten(doc.words, mentions.get(doc.doc_id, []), policy).spans})
    history = fit(tagger, phases, settings, seed, dev)

    rows = [row for split in ("dev", "test") for row in _rows(tagger, splits[split], split)]
    kept = next(e for e in history if e.kept)
    more = {"schedule": schedule, "seed": seed, "discontinuous": policy, "counts": counts, "kept_phase": kept.phase, "kept_epoch": kept.epoch}
    more |= {"autocast": str(tagger.autocast or torch.float32).removeprefix("torch."), "versions": versions("torch", "transformers")}
    provenance = stamp("recognition train", inputs, **more)
    out.mkdir(parents=True, exist_ok=True)
    tagger.save(out / "model", provenance)
    _write_history(out / "history.csv", history)
    tables.write(tables.RECOGNIZED, out / "predictions.parquet", rows, provenance)
    say(f"{len(rows):,} mentions predicted in {len(splits['dev'])} dev and {len(splits['test'])} test documents")


def fit(tagger: Tagger, phases: Sequence[tuple[str, Phase, Sequence[Example]]], settings: Recognizer, seed: int, dev: Dev) -> list[Epoch]:
    """Train phase after phase, in place; the tagger ends with the weights of the epoch kept.

    Args:
        tagger: The recognizer.
        phases: Name, settings and examples of each phase, in order.
        settings: Batch size, weight decay, warm-up and patience.
        seed: Seed of the order of sentences.
        dev: Dev split; without documents the last epoch is kept.
    """
    history: list[Epoch] = []
    order = torch.Generator().manual_seed(seed)
    for name, phase, examples in phases:
        last_phase = name == phases[-1][0]
        windows, targets = _targets(tagger, examples)
        steps = -(-len(windows) // settings.batch_size) * phase.epochs
        optimizer = _optimizer(tagger.model, phase.learning_rate, settings.weight_decay)
        warmup = round(steps * settings.warmup_ratio)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s, w=warmup, n=steps: (s + 1) / (w + 1) if s < w else (n - s) / max(1, n - w))  # type: ignore[misc]
        best: tuple[Epoch, dict[str, torch.Tensor]] | None = None
        with track(f"{name} phase, steps", steps) as tick:
            for number in range(1, phase.epochs + 1):
                tagger.model.train()
                total, taken = torch.zeros((), device=tagger.device), 0
                for batch in batches([len(w.pieces) for w in windows], settings.batch_size, order):
                    loss = _loss(tagger, [windows[i] for i in batch], [targets[i] for i in batch])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(tagger.model.parameters(), 1.0)
                    optimizer.step()
                    scheduler.step()
                    total, taken = total + loss.detach(), taken + 1
                    tick()
                epoch = Epoch(name, number, taken, float(total) / taken)
                if dev.documents:
                    epoch.dev_precision, epoch.dev_recall, epoch.dev_f1 = strict_scores(dev.gold, tagger.recognize(dev.documents))
                history.append(epoch)
                say(f"{name} epoch {number}: loss {epoch.train_loss:.4f}" + ("" if epoch.dev_f1 is None else f", dev strict F1 {epoch.dev_f1:.4f}"))
                if not last_phase or epoch.dev_f1 is None:
                    continue
                if best is None or epoch.dev_f1 > (best[0].dev_f1 or 0.0):
                    best = epoch, {k: v.detach().cpu().clone() for k, v in tagger.model.state_dict().items()}
                elif number - best[0].epoch >= settings.patience:
                    say(f"no better dev score for {settings.patience} epochs: stopped")
                    break
    if best is None:
        say("no dev split: the last epoch is kept")
        history[-1].kept = True
    else:
        tagger.model.load_state_dict(best[1])
        best[0].kept = True
        say(f"kept {best[0].phase} epoch {best[0].epoch}")
    return history


def batches(lengths: Sequence[int], batch_size: int, order: torch.Generator, chunk: int = 50) -> Iterator[list[int]]:
    """Batches of positions, each position once: shuffled, sorted by length within chunks of `chunk` batches, and the batches shuffled.

    Sorting saves padding; chunks keep the batches different from epoch to epoch.
    """
    shuffled = torch.randperm(len(lengths), generator=order).tolist()
    size = batch_size * chunk
    made = []
    for begin in range(0, len(shuffled), size):
        part = sorted(shuffled[begin : begin + size], key=lambda i: lengths[i])
        made += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for i in torch.randperm(len(made), generator=order).tolist():
        yield made[i]


def strict_scores(gold: set[tuple[str, Span]], found: Mapping[str, Sequence[Found]]) -> tuple[float, float, float]:
    """Strict entity precision, recall and F1; 0 where undefined."""
    predicted = {(doc_id, mention.span) for doc_id, mentions in found.items() for mention in mentions}
    right = len(gold & predicted)
    return right / max(1, len(predicted)), right / max(1, len(gold)), 2 * right / max(1, len(predicted) + len(gold))


def _targets(tagger: Tagger, examples: Sequence[Example]) -> tuple[list[Window], list[torch.Tensor]]:
    """Windows of the examples, and for each the class of every piece: [pieces]."""
    windows = tagger.windows.cut([e.words for e in examples])
    targets = []
    for window in windows:
        target = torch.full((len(window.pieces),), IGNORED)
        target[window.positions] = torch.tensor([TAGS.index(examples[window.sentence].tags[i]) for i in window.words])
        targets.append(target)
    return windows, targets


def _loss(tagger: Tagger, windows: list[Window], targets: list[torch.Tensor]) -> torch.Tensor:
    target = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(tagger.device)
    return torch.nn.functional.cross_entropy(tagger.logits(windows).flatten(0, 1), target.flatten(), ignore_index=IGNORED)


def _optimizer(model: torch.nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    # Biases and normalization weights are not decayed, as BERT was trained.
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)  # on the CPU eight times as fast as the default


def _seed(seed: int) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for to be deterministic
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def _corpus(folder: Path) -> tuple[dict[str, list[Document]], dict[str, list[list[Span]]]]:
    """Documents by split and gold mentions by document; gold of the test split is not kept."""
    splits: dict[str, list[Document]] = {split: [] for split in tables.SPLITS}
    for row in tables.read(tables.DOCUMENTS, folder / "documents.parquet").to_pylist():
        splits[row["split"]].append(units.document(row["doc_id"], row["text"], row["sentences"]))
    rows = tables.read(tables.MENTIONS, folder / "mentions.parquet").to_pylist()
    return splits, units.by_document(row for row in rows if row["split"] != "test")


def _notes(chosen: Path, synthetic: Path) -> tuple[list[Document], dict[str, list[list[Span]]]]:
    """The chosen notes as documents, and their located mentions."""
    wanted = set(tables.read(tables.CHOSEN, chosen).column("note_id").to_pylist())
    located = tables.read(tables.LOCATED, synthetic / "located.parquet").to_pylist()
    documents = [units.document(row["note_id"], row["text"], row["sentences"]) for row in located if row["note_id"] in wanted]
    missing = sorted(wanted - {doc.doc_id for doc in documents})
    if missing:
        raise UserError("unknown note", str(chosen), f"{missing[0]} and {len(missing) - 1} others are not located", "delete the file and rerun the workflow")
    mentions: dict[str, list[list[Span]]] = {}
    for row in tables.read(tables.SYNTHETIC_MENTIONS, synthetic / "mentions.parquet").to_pylist():
        mentions.setdefault(row["note_id"], []).append([(row["start"], row["end"])])
    return documents, mentions


def _said(what: str, counts: Counter[str]) -> dict[str, int]:
    """Say and return the counts of a phase's examples."""
    say(f"{what}: " + ", ".join(f"{counts[k]:,} {k}" for k in ("documents", "sentences", "joined", "mentions", "kept", "discontinuous", "widened")))
    dropped = {k: n for k, n in sorted(counts.items()) if k.startswith("dropped_") and n}
    if dropped:
        say(f"{what}: mentions not learned: " + ", ".join(f"{n:,} {k.removeprefix('dropped_')}" for k, n in dropped.items()))
    return dict(sorted(counts.items()))


def _rows(tagger: Tagger, documents: list[Document], split: str) -> list[dict[str, Any]]:
    found = tagger.recognize(documents)
    return [
        {"doc_id": doc.doc_id, "start": doc.words[first][0], "end": doc.words[last - 1][1], "split": split, "score": score}
        for doc in documents
        for (first, last), score in found[doc.doc_id]
    ]


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["phase", "epoch", "steps", "train_loss", "dev_precision", "dev_recall", "dev_f1", "kept"])
        for e in history:
            numbers = ["" if x is None else f"{x:.6f}" for x in (e.train_loss, e.dev_precision, e.dev_recall, e.dev_f1)]
            writer.writerow([e.phase, e.epoch, e.steps, *numbers, int(e.kept)])
    os.replace(temporary, path)
