"""Schedules: which sentences a recognizer learns, in which order, and which of their words carry no loss.

`real_only`              the training split
`synthetic_only`         the chosen synthetic notes; what is not a located mention is taught as none
`synthetic_then_real`    the one, then the other
`relabelled_then_real`   the same, but the diseases that the real-only model finds in the notes are taught as mentions too
`masked_then_real`       the same, but unlabelled words carry no loss in sentences without a located mention and near words
                         that the real-only model takes for a disease
`mixed`                  one phase: the training split, and synthetic sentences at a ratio
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.gold import TAGS, Discontinuous
from mentionforge.progress import say
from mentionforge.recognition import sentences as units
from mentionforge.recognition.kinds.tagger import TaggerRecognizer
from mentionforge.recognition.sentences import Document, Example
from mentionforge.recognition.settings import TAUGHT, Phase, Schedule
from mentionforge.recognition.tagger import Tagger, mentions
from mentionforge.text import Span

VERSIONS = {"real_only": 1, "synthetic_only": 1, "synthetic_then_real": 1, "relabelled_then_real": 1, "masked_then_real": 1, "mixed": 1}
"""Of the parts schedule.*: raise that of one where its earlier results would be wrong (mentionforge.versions)."""

Pieces = Mapping[str, Sequence[Sequence[Span]]]


@dataclass(frozen=True)
class Part:
    """A phase of training.

    Attributes:
        name: `real`, `synthetic` or `mixed`.
        phase: Its settings.
        examples: Sentences learned once in each epoch.
        drawn: Sentences of which each epoch draws some anew.
        ratio: How many of them: a multiple of the number of `examples`.
    """

    name: str
    phase: Phase
    examples: Sequence[Example]
    drawn: Sequence[Example] = field(default=())
    ratio: float = 0.0


@dataclass(frozen=True)
class Source:
    """Documents with the mentions annotated or located in them, by document."""

    documents: Sequence[Document]
    mentions: Pieces
    path: Path


def parts(
    schedule: Schedule, settings: TaggerRecognizer, policy: Discontinuous, real: Source, synthetic: Source | None = None, teacher: Path | None = None
) -> tuple[list[Part], dict[str, dict[str, int]]]:
    """The phases of a schedule, in order, and the counts of what is learned, by kind of text.

    Args:
        schedule: Name of the schedule.
        settings: Of the recognizer.
        policy: What a mention in pieces becomes.
        real: The training split.
        synthetic: The chosen notes; needed unless the schedule is real_only.
        teacher: Model folder of the real-only run; needed by the schedules of `TAUGHT`.

    Raises:
        UserError: Something needed is not given, none is chosen for synthetic_only, or the corpus has no training sentences.
    """
    counts: dict[str, dict[str, int]] = {}
    notes: list[Example] = []
    if schedule != "real_only":
        if synthetic is None:
            raise UserError("missing synthetic notes", "command line", f"schedule {schedule} needs them", "give --chosen and --synthetic")
        if schedule in TAUGHT and teacher is None:
            raise UserError("missing model", "command line", f"schedule {schedule} asks the real-only model", "give --teacher")
        notes, found = _read(schedule, settings, policy, synthetic, teacher)
        counts["synthetic"] = _said("synthetic", found)
        if not notes and schedule == "synthetic_only":
            raise UserError(
                "no synthetic notes", str(synthetic.path), "the strategy chose none", "choose another strategy, or drop the schedule synthetic_only for it"
            )
        if not notes:
            say("the strategy chose no synthetic note: training on real sentences alone")
    if schedule == "synthetic_only":
        return [Part("synthetic", settings.synthetic, notes)], counts
    examples, found = units.training(real.documents, real.mentions, policy)
    if not examples:
        raise UserError("no training sentences", str(real.path), "the train split has no words")
    counts["real"] = _said("real", found)
    if schedule == "mixed" and notes:
        return [Part("mixed", settings.mixed, examples, notes, settings.mixed.ratio)], counts
    last = Part("real", settings.real, examples)
    return [Part("synthetic", settings.synthetic, notes), last] if notes else [last], counts


def _read(schedule: Schedule, settings: TaggerRecognizer, policy: Discontinuous, synthetic: Source, teacher: Path | None) -> tuple[list[Example], Counter[str]]:
    """The notes as the schedule teaches them."""
    if teacher is None or schedule not in TAUGHT or not synthetic.documents:
        return units.training(synthetic.documents, synthetic.mentions, policy)
    say(f"the real-only model reads {len(synthetic.documents):,} synthetic notes")
    read = Tagger.load(teacher, dtype=settings.dtype).read(synthetic.documents, what="synthetic notes")
    if schedule == "relabelled_then_real":
        more = {doc.doc_id: [span for span, score in mentions(doc, read[doc.doc_id]) if score >= settings.relabel.min_score] for doc in synthetic.documents}
        return units.training(synthetic.documents, synthetic.mentions, policy, more=more)
    doubtful = {doc_id: near(probabilities, settings.mask.threshold, settings.mask.margin) for doc_id, probabilities in read.items()}
    return units.training(synthetic.documents, synthetic.mentions, policy, doubtful=doubtful)


def near(probabilities: np.ndarray, threshold: float, margin: int) -> set[int]:
    """Words that are a likely disease, or at most `margin` words from one.

    Args:
        probabilities: [words, 3], in the order of `TAGS`.
        threshold: A likely disease has more than this probability of B or I.
        margin: In words.
    """
    likely = np.flatnonzero(1 - probabilities[:, TAGS.index("O")] > threshold)
    return {i for word in likely.tolist() for i in range(max(0, word - margin), min(len(probabilities), word + margin + 1))}


def notes(chosen: Path, synthetic: Path) -> Source:
    """The chosen notes as documents, and their located mentions.

    Args:
        chosen: Table `chosen`.
        synthetic: Folder with the generator's located.parquet and mentions.parquet.

    Raises:
        UserError: A chosen note is not among the located ones.
    """
    wanted = set(tables.read(tables.CHOSEN, chosen).column("note_id").to_pylist())
    located = tables.read(tables.LOCATED, synthetic / "located.parquet").to_pylist()
    documents = [units.document(row["note_id"], row["text"], row["sentences"]) for row in located if row["note_id"] in wanted]
    missing = sorted(wanted - {doc.doc_id for doc in documents})
    if missing:
        raise UserError("unknown note", str(chosen), f"{missing[0]} and {len(missing) - 1} others are not located", "delete the file and rerun the workflow")
    found: dict[str, list[list[Span]]] = {}
    for row in tables.read(tables.SYNTHETIC_MENTIONS, synthetic / "mentions.parquet").to_pylist():
        found.setdefault(row["note_id"], []).append([(row["start"], row["end"])])
    return Source(documents, found, chosen)


def _said(what: str, counts: Counter[str]) -> dict[str, int]:
    """Say and return the counts of a phase's examples."""
    always = ("documents", "sentences", "joined", "mentions", "kept", "discontinuous", "widened")
    further = tuple(k for k in ("relabelled", "masked", "masked_sentences") if counts[k])
    say(f"{what}: " + ", ".join(f"{counts[k]:,} {k.replace('_', ' ')}" for k in always + further))
    dropped = {k: n for k, n in sorted(counts.items()) if k.startswith("dropped_") and n}
    if dropped:
        say(f"{what}: mentions not learned: " + ", ".join(f"{n:,} {k.removeprefix('dropped_')}" for k, n in dropped.items()))
    return dict(sorted(counts.items()))
