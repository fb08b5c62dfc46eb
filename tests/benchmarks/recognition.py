"""Training throughput of the recognizer against a plain loop: `make bench-recognition`.

The plain loop shuffles the sentences, pads each batch to its longest sentence and steps with AdamW as torch makes it; the project's sorts by
length within chunks, fuses the optimizer, and holds the vectors of those word pieces alone that occur. Model, sentences, batch size,
precision, learning rate and clipping are the same. Both are trained in turns of a few steps, so that a busy machine slows both alike, with two seeds each: the difference of two seeds of one loop is the noise.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from mentionforge import models
from mentionforge.gold import flatten
from mentionforge.progress import track
from mentionforge.recognition import sentences, training
from mentionforge.recognition.tagger import Tagger

BATCH, RATE, TURN = 16, 3e-4, 10
KINDS = ("plain", "mentionforge")


class Run:
    """One training: its steps, the seconds and the CPU time they took, and the loss per word in order."""

    def __init__(self, kind: str, seed: int, model: Path, examples: list[sentences.Example], words: set[str], steps: int) -> None:
        self.kind, self.seed, self.steps, self.seconds, self.cpu, self.taken = kind, seed, steps, 0.0, 0.0, 0
        self.losses: list[tuple[float, int]] = []  # mean per word, and words
        self.pieces = self.padded = 0
        torch.manual_seed(seed)
        self.tagger = Tagger.load(model, 128, 32)
        self.windows, self.targets = training._window_targets(self.tagger, examples)
        plain = kind == "plain"
        self.context = contextlib.nullcontext() if plain else self.tagger.with_vocabulary(words)
        self.context.__enter__()  # until the process ends
        self.optimizer = (
            torch.optim.AdamW(self.tagger.model.parameters(), lr=RATE, weight_decay=0.01) if plain else training._optimizer(self.tagger.model, RATE, 0.01)
        )
        self.order = torch.Generator().manual_seed(seed)
        self.batches = self._plain() if plain else self._bucketed()

    def _plain(self) -> Iterator[list[int]]:
        while True:
            shuffled = torch.randperm(len(self.windows), generator=self.order).tolist()
            yield from (shuffled[i : i + BATCH] for i in range(0, len(shuffled), BATCH))

    def _bucketed(self) -> Iterator[list[int]]:
        while True:
            yield from training.batches([len(w.pieces) for w in self.windows], BATCH, self.order)

    def turn(self, count: int) -> None:
        """Take the next steps."""
        self.tagger.model.train()
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            batch = next(self.batches)
            for group in self.optimizer.param_groups:
                group["lr"] = RATE * training.learning_rate_factor(self.taken, self.steps // 10, self.steps)
            targets = [self.targets[i] for i in batch]
            loss = training._loss(self.tagger, [self.windows[i] for i in batch], targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.tagger.model.parameters(), 1.0)
            self.optimizer.step()
            self.taken += 1
            lengths = [len(self.windows[i].pieces) for i in batch]
            self.pieces, self.padded = self.pieces + sum(lengths), self.padded + max(lengths) * len(lengths)
            self.losses.append((float(loss.detach()), sum(int((t != training.IGNORED).sum()) for t in targets)))
        self.seconds += time.perf_counter() - begun
        self.cpu += time.process_time() - begun_cpu

    def curve(self, parts: int = 5) -> list[float]:
        """Loss per word in equal parts of the training."""
        size = len(self.losses) // parts
        blocks = [self.losses[i * size : (i + 1) * size] for i in range(parts)]
        return [sum(x * n for x, n in block) / sum(n for _, n in block) for block in blocks]


def main() -> None:
    """Train, and print speed and loss curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("results/open/corpora/ncbi_disease"), help="folder with documents.parquet and mentions.parquet")
    parser.add_argument("--model", type=Path, default=Path("resources/models/minilm/fetched.json"), help="stamp of the encoder")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    splits, gold = training.read_corpus(arguments.corpus)
    examples, _ = sentences.training_examples(splits["train"], gold, "longest")
    held = splits["dev"][:30]
    dev = training.DevSplit(held, {(d.doc_id, s) for d in held for s in flatten(d.words, gold.get(d.doc_id, []), "longest").spans})
    words = training.occurring_words(examples, held)
    folder = models.folder(arguments.model)
    runs = [Run(kind, seed, folder, examples, words, arguments.steps) for seed in (1, 2) for kind in KINDS]
    with track("steps", arguments.steps * len(runs)) as tick:
        while runs[0].taken < arguments.steps:
            for run in runs:
                count = min(TURN, arguments.steps - run.taken)
                run.turn(count)
                tick(count)
    print(
        f"{len(examples):,} sentences, batch {BATCH}, {arguments.steps} steps each, {runs[0].tagger.autocast or torch.float32}, {torch.get_num_threads()} threads"
    )
    print("loop          seed  sentences/s  pieces/s  pieces per true piece  dev loss  loss per word by fifths")
    for run in runs:
        loss = training.dev_scores(run.tagger, dev)[3]
        curve = " ".join(f"{x:.3f}" for x in run.curve())
        rates = f"{run.taken * BATCH / run.seconds:11.1f}  {run.pieces / run.seconds:8.0f}"
        print(f"{run.kind:<12}  {run.seed:4}  {rates}  {run.padded / run.pieces:21.2f}  {loss:8.4f}  {curve}")
    for what in ("seconds", "cpu"):
        rate = {kind: sum(r.pieces for r in runs if r.kind == kind) / sum(getattr(r, what) for r in runs if r.kind == kind) for kind in KINDS}
        unit = {"seconds": "second", "cpu": "second of CPU time, which does not count waiting for a busy machine"}[what]
        print(f"mentionforge trains {rate['mentionforge'] / rate['plain']:.2f} times as many true word pieces per {unit}")


if __name__ == "__main__":
    main()
