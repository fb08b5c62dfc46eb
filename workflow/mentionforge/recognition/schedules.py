"""Training schedules: which sentences a recognizer learns from, in which order, and which of their words carry no loss.

In: the training split, the chosen synthetic notes and, for some schedules, the real-only model. Out: the training phases.
Knows nothing of optimizers and epochs; `training` runs the phases.
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
from mentionforge.recognition.sentences import Example, TokenizedDocument
from mentionforge.recognition.settings import TAUGHT, Phase, Schedule
from mentionforge.recognition.tagger import Tagger, predicted_mentions
from mentionforge.text import Span

# The schedules:
#
# real_only              the training split
# synthetic_only         the chosen synthetic notes; every word outside a located mention is labelled O
# synthetic_then_real    synthetic notes first, the training split second
# relabelled_then_real   as synthetic_then_real, but diseases that the real-only model finds in the notes are labelled as mentions too
# masked_then_real       as synthetic_then_real, but sentences without a located mention are left out, and unlabelled words
#                        next to a likely disease (by the real-only model) carry no loss
# mixed                  one phase: the training split, and beside it synthetic sentences at a fixed ratio


VERSIONS = {"real_only": 1, "synthetic_only": 1, "synthetic_then_real": 1, "relabelled_then_real": 1, "masked_then_real": 1, "mixed": 1}
"""Of the parts schedule.*: raise that of one where its earlier results would be wrong (mentionforge.versions)."""

MentionSpans = Mapping[str, Sequence[Sequence[Span]]]


@dataclass(frozen=True)
class TrainingPhase:
    """A phase of training.

    Attributes:
        name: `real`, `synthetic` or `mixed`.
        settings: Epochs and learning rate.
        examples: Sentences learned once in each epoch.
        drawn: Sentences from which each epoch draws a new sample.
        ratio: Size of that sample, as a multiple of the number of `examples`.
    """

    name: str
    settings: Phase
    examples: Sequence[Example]
    drawn: Sequence[Example] = field(default=())
    ratio: float = 0.0


@dataclass(frozen=True)
class AnnotatedDocuments:
    """Documents and their annotated or located mentions.

    Attributes:
        documents: The texts.
        mentions: By document id, the character spans of each mention.
        path: File they were read from, for error messages.
    """

    documents: Sequence[TokenizedDocument]
    mentions: MentionSpans
    path: Path


def training_phases(
    schedule: Schedule,
    settings: TaggerRecognizer,
    policy: Discontinuous,
    real: AnnotatedDocuments,
    synthetic: AnnotatedDocuments | None = None,
    teacher: Path | None = None,
) -> tuple[list[TrainingPhase], dict[str, dict[str, int]]]:
    """The phases of a schedule, in order, and the counts of documents, sentences and mentions, for real and for synthetic text.

    Args:
        schedule: Name of the schedule.
        settings: Settings of the recognizer.
        policy: What happens to discontinuous mentions.
        real: The training split.
        synthetic: The chosen notes; required unless the schedule is real_only.
        teacher: Model folder of the real-only run; required by the schedules of `TAUGHT`.

    Raises:
        UserError: A required input is missing, synthetic_only has no chosen notes, or the corpus has no training sentences.
    """
    counts: dict[str, dict[str, int]] = {}
    note_examples: list[Example] = []
    if schedule != "real_only":
        if synthetic is None:
            raise UserError("missing synthetic notes", "command line", f"schedule {schedule} needs them", "give --chosen and --synthetic")
        if schedule in TAUGHT and teacher is None:
            raise UserError("missing model", "command line", f"schedule {schedule} asks the real-only model", "give --teacher")
        note_examples, mention_counts = _note_examples(schedule, settings, policy, synthetic, teacher)
        counts["synthetic"] = _report_counts("synthetic", mention_counts)
        if not note_examples and schedule == "synthetic_only":
            raise UserError(
                "no synthetic notes", str(synthetic.path), "the strategy chose none", "choose another strategy, or drop the schedule synthetic_only for it"
            )
        if not note_examples:
            say("the strategy chose no synthetic note: training on real sentences alone")
    if schedule == "synthetic_only":
        return [TrainingPhase("synthetic", settings.synthetic, note_examples)], counts
    examples, mention_counts = units.training_examples(real.documents, real.mentions, policy)
    if not examples:
        raise UserError("no training sentences", str(real.path), "the train split has no words")
    counts["real"] = _report_counts("real", mention_counts)
    if schedule == "mixed" and note_examples:
        return [TrainingPhase("mixed", settings.mixed, examples, note_examples, settings.mixed.ratio)], counts
    last = TrainingPhase("real", settings.real, examples)
    return [TrainingPhase("synthetic", settings.synthetic, note_examples), last] if note_examples else [last], counts


def _note_examples(
    schedule: Schedule, settings: TaggerRecognizer, policy: Discontinuous, synthetic: AnnotatedDocuments, teacher: Path | None
) -> tuple[list[Example], Counter[str]]:
    """Training examples from the synthetic notes, relabelled or masked as the schedule says, and their counts."""
    if teacher is None or schedule not in TAUGHT or not synthetic.documents:
        return units.training_examples(synthetic.documents, synthetic.mentions, policy)
    say(f"the real-only model reads {len(synthetic.documents):,} synthetic notes")
    read = Tagger.load(teacher, dtype=settings.dtype).read(synthetic.documents, what="synthetic notes")
    if schedule == "relabelled_then_real":
        more = {
            doc.doc_id: [span for span, score in predicted_mentions(doc, read[doc.doc_id]) if score >= settings.relabel.min_score]
            for doc in synthetic.documents
        }
        return units.training_examples(synthetic.documents, synthetic.mentions, policy, more=more)
    doubtful = {doc_id: near_likely_mentions(probabilities, settings.mask.threshold, settings.mask.margin) for doc_id, probabilities in read.items()}
    return units.training_examples(synthetic.documents, synthetic.mentions, policy, doubtful=doubtful)


def near_likely_mentions(probabilities: np.ndarray, threshold: float, margin: int) -> set[int]:
    """Words that are likely part of a disease mention, or at most `margin` words away from one.

    Args:
        probabilities: [words, 3], in the order of `TAGS`.
        threshold: A word is likely part of a mention if its probability of B or I is above this.
        margin: In words.
    """
    likely = np.flatnonzero(1 - probabilities[:, TAGS.index("O")] > threshold)
    return {i for word in likely.tolist() for i in range(max(0, word - margin), min(len(probabilities), word + margin + 1))}


def chosen_notes(chosen: Path, synthetic: Path) -> AnnotatedDocuments:
    """The chosen synthetic notes as documents, with their located mentions.

    Args:
        chosen: Table `chosen`.
        synthetic: Folder with the generator's located.parquet and mentions.parquet.

    Raises:
        UserError: A chosen note is not in located.parquet.
    """
    chosen_ids = set(tables.read(tables.CHOSEN, chosen).column("note_id").to_pylist())
    located = tables.read(tables.LOCATED, synthetic / "located.parquet").to_pylist()
    documents = [units.tokenized_document(row["note_id"], row["text"], row["sentences"]) for row in located if row["note_id"] in chosen_ids]
    missing = sorted(chosen_ids - {doc.doc_id for doc in documents})
    if missing:
        raise UserError("unknown note", str(chosen), f"{missing[0]} and {len(missing) - 1} others are not located", "delete the file and rerun the workflow")
    mentions: dict[str, list[list[Span]]] = {}
    for row in tables.read(tables.SYNTHETIC_MENTIONS, synthetic / "mentions.parquet").to_pylist():
        mentions.setdefault(row["note_id"], []).append([(row["start"], row["end"])])
    return AnnotatedDocuments(documents, mentions, chosen)


def _report_counts(name: str, counts: Counter[str]) -> dict[str, int]:
    """Print the counts of a phase's examples, and return them sorted by name."""
    always = ("documents", "sentences", "joined", "mentions", "kept", "discontinuous", "widened")
    further = tuple(k for k in ("relabelled", "masked", "masked_sentences") if counts[k])
    say(f"{name}: " + ", ".join(f"{counts[k]:,} {k.replace('_', ' ')}" for k in always + further))
    dropped = {k: n for k, n in sorted(counts.items()) if k.startswith("dropped_") and n}
    if dropped:
        say(f"{name}: mentions not learned: " + ", ".join(f"{n:,} {k.removeprefix('dropped_')}" for k, n in dropped.items()))
    return dict(sorted(counts.items()))
