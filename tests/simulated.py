"""Coverage of intervals and type I error of p values on simulated experiments whose truth is known: `make simulate`.

The model is not that of the estimates: whether a mention is right is a draw from a logistic model with normal effects of its document, of the mention,
of what the document is to one system, of the generator's seed, of the training's seed and of both together. So mentions cluster in documents, runs with the
same notes are alike, and so are runs with the same training seed. The baseline has no notes, and so no generator seed. What is estimated is the difference of
expected scores on all documents; over all seeds of a kind where a cell has several, and of the very seed where it has one.
The figures are in docs/statistics.md.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mentionforge.evaluation.seeds import Seeds
from mentionforge.evaluation.statistics import Contrast, estimate

DOCUMENT, MENTION, OWN = 0.7, 1.0, 0.35
"""Standard deviations, in logits, of what a document does to all systems, a mention to all systems, and a document to one system."""

SEEDS = {
    "none": (0.0, 0.0, 0.0),
    "as measured": (0.04, 0.05, 0.03),
    "generator": (0.15, 0.0, 0.03),
    "training": (0.0, 0.15, 0.03),
    "both": (0.15, 0.15, 0.05),
    "together": (0.0, 0.0, 0.15),
}
"""Standard deviations, in logits, of the generator's seed, the training's, and both together. 0.05 is 0.8 points of the baseline's accuracy, 70 per
cent; trainings of the open preset have a standard deviation of 0.6 to 0.8 points."""

DOCUMENTS_PART = DOCUMENT**2 + MENTION**2 + OWN**2
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Design(NamedTuple):
    """Seeds of a cell, and what it is compared with: a baseline without notes, or a control with as many generator seeds."""

    generators: int
    trainings: int
    control: bool = False

    def reference(self, seeds: tuple[float, float, float]) -> tuple[int, tuple[float, float, float]]:
        """Generator seeds of what it is compared with, and its deviations."""
        return (self.generators, seeds) if self.control else (1, (0.0, *seeds[1:]))

    def __str__(self) -> str:
        return f"{self.generators} × {self.trainings}" + (", control" if self.control else "")


DESIGNS = (Design(1, 1), Design(3, 1), Design(1, 3), Design(3, 3), Design(3, 3, True), Design(5, 5), Design(5, 5, True))


@dataclass(frozen=True)
class World:
    """Pairs of systems on the documents of one draw: what `estimate` takes, and the true difference of each pair."""

    right: np.ndarray
    mentions: np.ndarray
    contrasts: list[Contrast]
    truth: np.ndarray
    over_all_seeds: np.ndarray


def world(
    rng: np.random.Generator, design: Design, seeds: tuple[float, float, float], effect: float = 0.0, null: str = "", documents: int = 60, pairs: int = 40
) -> World:
    """One draw of documents, and of `pairs` pairs of a cell and what it is compared with.

    Args:
        rng: Random stream.
        design: Seeds of the cell, and whether it is compared with a control.
        seeds: Standard deviations of seeds, see SEEDS.
        effect: What the cell gains, in logits.
        null: In place of the effect, the cell's level is set so that there is no difference: `here` of these seeds, `over all` seeds.
        documents: How many.
        pairs: How many.
    """
    sizes = 1 + rng.geometric(0.15, documents)
    of = np.repeat(np.arange(documents), sizes)
    difficulty = rng.normal(0, DOCUMENT, documents)[of] + rng.normal(0, MENTION, len(of))
    rows, contrasts, truth, over_all = [], [], [], []
    for _ in range(pairs):
        sides = [Side(rng, count, design.trainings, spreads) for count, spreads in ((design.generators, seeds), design.reference(seeds))]
        second = 1.1
        first = {
            "": second + effect,
            "here": level_of(sides[0].here, sides[1].here(second)),
            "over all": level_of(sides[0].over_all, sides[1].over_all(second)),
        }[null]
        places = []
        for side, level in zip(sides, (first, second), strict=True):
            own = rng.normal(0, OWN, documents)[of]
            places.append(tuple(range(len(rows), len(rows) + len(side.seeds))))
            rows += [np.bincount(of, rng.random(len(of)) < 1 / (1 + np.exp(-(level + difficulty + own + deviation)))) for deviation in side.deviations]
        names = tuple(side.seeds for side in sides)
        contrasts.append(Contrast(*places, names[0] == names[1], *names))
        truth.append(sides[0].here(first) - sides[1].here(second))
        over_all.append(sides[0].over_all(first) - sides[1].over_all(second))
    return World(np.array(rows, float), sizes.astype(float), contrasts, np.array(truth), np.array(over_all))


class Side:
    """Runs of a cell: their seeds' effects, and the expected score at a level in logits."""

    def __init__(self, rng: np.random.Generator, generators: int, trainings: int, spreads: tuple[float, float, float]) -> None:
        a, b, c = rng.normal(0, spreads[0], generators), rng.normal(0, spreads[1], trainings), rng.normal(0, spreads[2], (generators, trainings))
        runs = list(itertools.product(range(generators), range(trainings)))
        self.seeds = tuple(Seeds(str(g) if generators > 1 else "", str(t)) for g, t in runs)
        self.deviations = [a[g] + b[t] + c[g, t] for g, t in runs]
        # An effect of which there is one draw is part of the truth; one with several draws is averaged over all that could be drawn.
        kept = (generators == 1, trainings == 1, generators == trainings == 1)
        self.fixed = sum(float(effect.ravel()[0]) for effect, one in zip((a, b, c), kept, strict=True) if one)
        self.spread = float(np.sqrt(DOCUMENTS_PART + sum(s**2 for s, one in zip(spreads, kept, strict=True) if not one)))
        self.whole = float(np.sqrt(DOCUMENTS_PART + sum(s**2 for s in spreads)))

    def here(self, level: float) -> float:
        """Expected score on all documents with the seeds of which there is one, over all seeds of which there are several."""
        return expected(level + self.fixed, self.spread)

    def over_all(self, level: float) -> float:
        """Expected score on all documents, over all seeds."""
        return expected(level, self.whole)


def expected(logit: float, spread: float) -> float:
    """Expectation of a logistic function of a normal variable."""
    return float((WEIGHTS / (1 + np.exp(-(logit + spread * NODES)))).sum())


def level_of(score: Callable[[float], float], wanted: float) -> float:
    """The level at which an increasing score is what is wanted."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) < wanted else (low, middle)
    return low


def coverage(design: Design, seeds: tuple[float, float, float], worlds: int, documents: int = 60, seed: int = 1) -> tuple[float, float]:
    """Shares of intervals that hold the truth of their seeds, and that over all seeds, with a gain of about 7 points."""
    rng = np.random.default_rng([seed, 1, *map(int, design), *(round(1000 * s) for s in seeds)])
    held = []
    for i in range(worlds):
        made = world(rng, design, seeds, effect=0.4, documents=documents)
        found = estimate(made.right, made.mentions, made.contrasts, resamples=999, seed=i)
        held.append([(found.low <= truth) & (truth <= found.high) for truth in (made.truth, made.over_all_seeds)])
    here, over_all = np.mean(held, axis=(0, 2))
    return float(here), float(over_all)


def error(design: Design, seeds: tuple[float, float, float], null: str, worlds: int, documents: int = 60, seed: int = 1) -> float:
    """Share of p values up to 0.05 where there is no difference."""
    rng = np.random.default_rng([seed, 2, *map(int, design), *(round(1000 * s) for s in seeds)])
    found = []
    for i in range(worlds):
        made = world(rng, design, seeds, null=null, documents=documents)
        found.append(estimate(made.right, made.mentions, made.contrasts, resamples=999, seed=i).p <= 0.05)
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=100, help="Draws of documents per entry, each with 40 pairs of systems.")
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--designs", type=int, nargs="*", help="Which of DESIGNS, by number from 0; all without it.")
    options = parser.parse_args()
    size = (options.worlds, options.documents)
    print("| generator × training seeds | spread of seeds | coverage | type I error | coverage, over all seeds | type I error, over all seeds |", flush=True)
    print("|---|---|---|---|---|---|")
    start = time.perf_counter()
    for design in DESIGNS if options.designs is None else [DESIGNS[i] for i in options.designs]:
        for name, seeds in SEEDS.items():
            here, over_all = coverage(design, seeds, *size)
            wrong, wrong_over_all = (error(design, seeds, null, *size) for null in ("here", "over all"))
            print(f"| {design} | {name} | {here:.3f} | {wrong:.3f} | {over_all:.3f} | {wrong_over_all:.3f} |", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
