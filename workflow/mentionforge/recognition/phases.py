"""The training phases of a run: what a schedule makes of the training split and of the chosen synthetic notes, with counts.

In: the schedule, the training split, the chosen notes and, for some schedules, the real-only model. Out: phases, and counts by kind of text.
Knows nothing of optimizers and epochs; `training` runs the phases.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.gold import Discontinuous
from mentionforge.progress import say
from mentionforge.recognition import sentences as units
from mentionforge.recognition.kinds.tagger import TaggerRecognizer
from mentionforge.recognition.schedules import BY_NAME, Schedule
from mentionforge.recognition.schedules.contract import AnnotatedDocuments, TrainingPhase
from mentionforge.recognition.sentences import Example
from mentionforge.text import Span


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
        synthetic: The chosen notes; required if the schedule reads notes.
        teacher: Model folder of the real-only run; required if the schedule has a teacher.

    Raises:
        UserError: A required input is missing, synthetic_only has no chosen notes, or the corpus has no training sentences.
    """
    kind = BY_NAME[schedule]
    counts: dict[str, dict[str, int]] = {}
    note_examples: list[Example] = []
    if kind.reads_notes:
        if synthetic is None:
            raise UserError("missing synthetic notes", "command line", f"schedule {schedule} needs them", "give --chosen and --synthetic")
        if kind.has_teacher and teacher is None:
            raise UserError("missing model", "command line", f"schedule {schedule} asks the real-only model", "give --teacher")
        note_examples, mention_counts = kind.note_examples(settings, policy, synthetic, teacher)
        counts["synthetic"] = _report_counts("synthetic", mention_counts)
        if not note_examples and not kind.reads_real:
            fix = f"choose another strategy, or drop the schedule {schedule} for it"
            raise UserError("no synthetic notes", str(synthetic.path), "the strategy chose none", fix)
        if not note_examples:
            say("the strategy chose no synthetic note: training on real sentences alone")
    examples: list[Example] = []
    if kind.reads_real:
        examples, mention_counts = units.training_examples(real.documents, real.mentions, policy)
        if not examples:
            raise UserError("no training sentences", str(real.path), "the train split has no words")
        counts["real"] = _report_counts("real", mention_counts)
    return kind.phases(settings, examples, note_examples), counts


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
