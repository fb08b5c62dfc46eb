"""Runs the chain of quality filters over located notes; each filter gets the notes that the earlier ones kept.

In: tables of `locate`, raw notes, and what filters compare with (test documents, fine-tuning pairs, an encoder). Out: located, mentions and rejected
.parquet, funnel.json and .svg, filters.csv, diversity.csv, and up to 20 dropped notes per filter in examples.jsonl (ids only if a source is licensed).
Knows nothing about what a filter checks (`filters/`); logs no text of notes.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.generation import concepts
from mentionforge.generation import funnel as funnels
from mentionforge.generation.filters import FILTERS
from mentionforge.generation.filters.contract import FilterContext, Note, Reasons, word_list
from mentionforge.generation.kinds import Generator
from mentionforge.progress import say
from mentionforge.provenance import sha256_paths, stamp, versions
from mentionforge.specs import read_spec
from mentionforge.text import normalize_surface

VERSION = 2
"""Version of the part generation.filter: raise it if earlier results would be wrong (mentionforge.versions)."""

EXAMPLES = 20
"""Dropped notes of each filter that are kept as examples."""


def filter_notes(
    spec: Path,
    kb: Path,
    prompts: Path,
    notes: Path,
    located_folder: Path,
    out: Path,
    corpora: Sequence[Path] = (),
    pairs: Path | None = None,
    encoder: Path | None = None,
    licensed: bool = False,
) -> dict[str, Any]:
    """Run a generator's chain of filters over its located notes; write the kept notes, the dropped ones and the reasons.

    Args:
        spec: Spec file of the generator, step `filter`.
        kb: Folder of the knowledge base's tables.
        prompts: Table `prompts`.
        notes: Table `notes`.
        located_folder: Folder with located, mentions and rejected .parquet and funnel.json of `locate`.
        out: Folder to write to.
        corpora: Folders of the corpora whose test documents the filter `leakage` compares.
        pairs: Table `pairs`, for the filter `memorization`.
        encoder: Stamp of the encoder's weights, for the filter `agreement`.
        licensed: Whether a knowledge base or corpus of the generator is licensed; then examples hold no text.

    Returns:
        The funnel (see `funnel.funnel`) with `filters`, the notes in and out of each, and `diversity`.

    Raises:
        UserError: The filter `leakage` has no test document to compare with.
    """
    generator: Generator = read_spec(spec, Generator)
    located = tables.read(tables.LOCATED, located_folder / "located.parquet").to_pylist()
    every_mention = tables.read(tables.SYNTHETIC_MENTIONS, located_folder / "mentions.parquet").to_pylist()
    mentions = [m for m in every_mention if m["match"] != tables.GOLD]  # gold mentions of the corpus stay as they are, as long as their note does
    rejected = tables.read(tables.REJECTED, located_folder / "rejected.parquet").to_pylist()
    written = {row["note_id"]: row for row in tables.read(tables.NOTES, notes).to_pylist()}
    known = concepts.load(kb)
    of_note: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for mention in mentions:
        of_note[mention["note_id"]].append(mention)
    kept_notes = [
        Note(
            row["note_id"],
            row["cui"],
            written[row["note_id"]]["prompt"],
            written[row["note_id"]]["text"],
            row["text"],
            tuple(of_note[row["note_id"]]),
            word_list(row["text"]),
        )
        for row in located
    ]
    context = FilterContext(known, test_texts=[text for folder in corpora for text in _test_texts(folder)])
    if pairs:
        context.completions = tables.read(tables.PAIRS, pairs)["completion"].to_pylist()
    if encoder and generator.encoder:
        context.encoder = (encoder, generator.encoder)
    chain = generator.filters.chain()
    if (comparing := next(iter(generator.filters.test_corpora.values()), [])) and not context.test_texts:
        raise UserError(
            "no test document", ", ".join(map(str, corpora)), f"filters.{comparing[0]} has nothing to compare with", "name corpora with a test split"
        )
    in_and_out, examples = [], []
    for name, settings in chain:
        reasons = FILTERS[name](kept_notes, settings, context)
        in_and_out.append((name, len(kept_notes), len(kept_notes) - len(reasons)))
        say(f"{name}: {len(kept_notes):,} in, {len(kept_notes) - len(reasons):,} out")
        rejected += [{"note_id": note.note_id, "cui": note.cui, "reason": name} for note in kept_notes if note.note_id in reasons]
        examples += list(_examples(name, [note for note in kept_notes if note.note_id in reasons], reasons, licensed))
        kept_notes = [note for note in kept_notes if note.note_id not in reasons]
    kept = {note.note_id for note in kept_notes}
    located = [row for row in located if row["note_id"] in kept]
    mentions = [m for m in mentions if m["note_id"] in kept and (m["note_id"], m["start"]) not in context.disagreeing]
    names = {cui: {normalize_surface(name) for name in concept.names} for cui, concept in known.items()}

    inputs = {"spec": spec, "prompts": prompts, "notes": notes, "located": located_folder / "located.parquet", **concepts.tables_of(kb)}
    inputs |= ({"pairs": pairs} if pairs else {}) | ({"encoder": encoder} if encoder else {})
    made = stamp(
        "generation filter",
        inputs,
        corpora=[sha256_paths([folder / "documents.parquet"]) for folder in corpora],
        chain={name: settings.model_dump() for name, settings in chain},
        versions=versions("datasketch", "py3langid"),
    )
    tables.write(tables.LOCATED, out / "located.parquet", located, made)
    gold = [m for m in every_mention if m["match"] == tables.GOLD and m["note_id"] in kept]
    tables.write(tables.SYNTHETIC_MENTIONS, out / "mentions.parquet", [*mentions, *gold], made)
    tables.write(tables.REJECTED, out / "rejected.parquet", rejected, made)
    before = json.loads((located_folder / "funnel.json").read_text(encoding="utf-8"))
    unlisted = sum(normalize_surface(m["surface"]) not in names[m["cui"]] for m in mentions)
    prompted = tables.read(tables.PROMPTS, prompts)["cui"].to_pylist()
    funnel = funnels.funnel(funnels.NoteCounts(prompted, len(written), before["finished_by_length"], before["with_tags"], unlisted), mentions, rejected)
    rows = funnels.diversity(located, mentions, names)
    if chain:
        funnel["filters"] = {name: {"in": into, "out": kept_of} for name, into, kept_of in in_and_out}
        funnel["mentions_dropped_by_agreement"] = len(context.disagreeing)
    if rows:
        funnel["diversity"] = funnels.averages(rows)
    funnels.write_json(out / "funnel.json", funnel)
    funnels.write_csv(out / "filters.csv", ("filter", "in", "out"), [{"filter": name, "in": a, "out": b} for name, a, b in in_and_out])
    funnels.write_csv(out / "diversity.csv", funnels.DIVERSITY, rows)
    funnels.picture(out / "funnel.svg", funnels.steps(funnel, in_and_out), "notes left after each step")
    _write_lines(out / "examples.jsonl", examples)
    reasons_of = Counter(row["reason"] for row in rejected)
    say(f"{len(located):,} of {len(written):,} notes kept; dropped: {', '.join(f'{n:,} {r}' for r, n in reasons_of.most_common()) or 'none'}")
    return funnel


def _test_texts(folder: Path) -> Iterator[str]:
    for row in tables.read(tables.DOCUMENTS, folder / "documents.parquet").to_pylist():
        if row["split"] == "test":
            yield row["text"]


def _examples(name: str, dropped: Sequence[Note], reasons: Reasons, licensed: bool) -> Iterator[dict[str, str]]:
    """Up to `EXAMPLES` dropped notes, drawn with a fixed seed, by note id."""
    chosen = dropped if len(dropped) <= EXAMPLES else random.Random(name).sample(list(dropped), EXAMPLES)
    for note in sorted(chosen, key=lambda n: n.note_id):
        yield {"filter": name, "note_id": note.note_id, "why": reasons[note.note_id]} | ({} if licensed else {"text": note.raw})


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)
