"""Samples the notes of one shard of the prompts with the generator's backend, and gathers all shards in one table.

In: prompts, weights and adapter. Out: table `notes`. Finished notes are appended to OUT.partial.jsonl, from which a killed job resumes. Notes that the
generator already has are reused if nothing that they depend on has changed, so more notes cost only the new ones. Knows nothing about how a backend writes.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.generation import backends, funnel, markers, templates, weights
from mentionforge.generation.backends.contract import NoteWriter, Request, WrittenNote
from mentionforge.generation.kinds import Generator
from mentionforge.generation.kinds.llm import SampledSettings
from mentionforge.generation.prompt_settings import Prompt
from mentionforge.generation.prompts import seed_of
from mentionforge.generation.templates import Asked
from mentionforge.layout import EVERY_SHARD, notes_beside
from mentionforge.progress import say, track
from mentionforge.provenance import digest, sha256_paths, stamp, versions
from mentionforge.specs import read_spec
from mentionforge.versions import number, raised

VERSION = 2
"""Version of the part generation.sample: raise it if earlier results would be wrong (mentionforge.versions)."""

THROUGHPUT = (
    "shard",
    "backend",
    "device",
    "notes",
    "seconds",
    "notes_per_s",
    "tokens_per_s",
    "finished_by_length",
    *(f"{text}_tokens{statistic}" for text in ("prompt", "note") for statistic in ("", "_mean", "_median", "_max")),
)
"""Columns of throughput.csv. A resumed shard counts only the notes of its last run; tokens per second count notes, not prompts."""


def sample_shard(spec: Path, model: Path | None, prompts: Path, adapter: Path | None, shard: int, shards: int, out: Path) -> None:
    """Write the notes of every `shards`-th prompt from number `shard` on, in the order of note ids.

    Args:
        spec: Spec file of the generator, step `sampling`.
        model: Stamp of the fetched weights (fetched.json); none if a server writes the notes.
        prompts: Table `prompts`.
        adapter: Folder of the adapter; none: the model without an adapter.
        shard: Number of the shard, from 0.
        shards: Number of shards.
        out: Table `notes`. A file .speed.json beside it gets the speed of the run and the lengths of prompts and notes. Existing notes to reuse are
            searched for in its folder and the one above; see `existing_notes`.

    Raises:
        UserError: No weights, a server that does not answer, an adapter of another model, no such shard, or too little memory for a single note.
    """
    if shard >= shards:
        raise UserError("no such shard", f"--shard {shard}", f"shards are numbered from 0 to {shards - 1}")
    generator: SampledSettings = read_spec(spec, Generator)
    described = json.loads(spec.read_text(encoding="utf-8"))
    rows = tables.read(tables.PROMPTS, prompts).sort_by("note_id").to_pylist()[shard::shards]
    rows = [row | {"seed": seed_of(row["seed"], generator.sampling.seed)} for row in rows]
    if generator.backend.loads_weights:
        weights.quiet()
    requests = _requests(generator, model, rows)
    partial = out.with_name(f"{out.name}.partial.jsonl")
    measured = throughput([], 0.0)
    current_versions = versions(*generator.backend.libraries)
    writer, chosen = _writer(described, model, adapter), _chosen(json.dumps(described["settings"], sort_keys=True), model)
    existing, earlier_versions = existing_notes(out, rows, writer)
    with finished_notes(partial, _job(described, model, adapter, rows), current_versions, earlier_versions) as (done, keep):
        if existing := [note for note in existing if note.note_id not in done]:
            keep(existing)
            say(f"{len(existing):,} of {len(rows):,} notes are at hand; {len(rows) - len(done):,} to write")
        if len(done) < len(rows):
            note_writer = generator.backend.writer(generator, model, adapter, out.with_name(f".{out.stem}.merged"), chosen)
            measured = write_all(requests, note_writer, done, keep)
            say(_sentence(measured))
    finished = [(row, as_asked(done[row["note_id"]], generator.asked)) for row in rows]
    notes = [
        {k: row[k] for k in ("note_id", "cui", "prompt", "seed")}
        | {"generator": described["name"], "text": note.text, "finish_reason": note.finish_reason, "tokens": note.tokens}
        for row, note in finished
    ]
    inputs = {role: path for role, path in (("spec", spec), ("model", model), ("prompts", prompts), ("adapter", adapter)) if path}
    older = [entry for entry in earlier_versions if entry != current_versions]
    funnel.write_json(
        out.with_suffix(".speed.json"), {"shard": f"{shard}-of-{shards}", "backend": generator.backend.kind, "device": _device(generator), **measured}
    )
    more = ({"earlier_versions": older} if older else {}) | ({"chosen": chosen} if chosen else {})
    made = stamp("generation sample", inputs, shard=shard, shards=shards, versions=current_versions, writer=writer, **more)
    tables.write(tables.NOTES, out, notes, made)
    partial.unlink()


def as_asked(note: WrittenNote, prompt: Prompt) -> WrittenNote:
    """The note up to the prompt's first stop string, with tags in the place of the prompt's markers. Doing it twice changes nothing."""
    text = markers.before(note.text, prompt.stop)
    return replace(note, text=markers.as_tags(text, prompt.markers), finish_reason=note.finish_reason if text == note.text else "stop")


def _requests(generator: SampledSettings, model: Path | None, rows: Sequence[Mapping[str, Any]]) -> list[Request]:
    """One request per prompt: with token ids or, if a server tokenizes, with the text to send."""
    style, frame = generator.prompt_style, generator.frame
    if not generator.backend.loads_weights:
        return [Request(r["note_id"], (), r["seed"], weights.prompt_text(r["prompt"], frame) if style == "plain" else r["prompt"]) for r in rows]
    assert model, "the config is checked for it"
    tokenizer = weights.tokenizer(model, style)
    # From the form of the prompts, not from those of this shard, so that a note is the same whatever other prompts there are.
    shared = weights.shared_tokens(tokenizer, [templates.prompt_text(generator.asked, Asked((name,))) for name in ("A", "b")], style, frame)
    requests = [Request(r["note_id"], tuple(weights.prompt_ids(tokenizer, r["prompt"], style, frame)), r["seed"], r["prompt"]) for r in rows]
    return [replace(r, shared=len(shared)) if r.ids[: len(shared)] == shared else r for r in requests]


def _device(generator: SampledSettings) -> str:
    """Name of the device that writes the notes: `server`, `cpu`, or the name of the GPU."""
    if not generator.backend.loads_weights:
        return "server"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _sentence(measured: Mapping[str, Any]) -> str:
    return (
        f"{measured['notes']:,} notes in {measured['seconds']:,.0f} s: {measured['notes_per_s']:,.2f} notes/s, {measured['tokens_per_s']:,.0f} tokens/s; "
        f"prompts of {measured['prompt_tokens_mean']:,.0f} tokens (at most {measured['prompt_tokens_max']:,}), "
        f"notes of {measured['note_tokens_mean']:,.0f} ({measured['finished_by_length']:,} cut at the limit)"
    )


def _writer(described: Mapping[str, Any], model: Path | None, adapter: Path | None) -> str:
    """Digest of all that a note depends on besides its prompt and seed; batch sizes, speeds and addresses do not count."""
    chosen = _chosen(json.dumps(described["settings"], sort_keys=True), model)
    backend = f"backend.{described['settings']['backend']['kind']}"
    # The spec holds the version of the sampling. Notes do not depend on the versions of later stages, so they outlive these.
    code = {"backend_version": number(backend)} if raised(backend) else {}
    identity = [
        {**described, "settings": backends.identity(described["settings"], chosen), **code},
        *(sha256_paths([p]) if p else None for p in (model, adapter)),
    ]
    return digest(json.dumps(identity, sort_keys=True))


@functools.cache
def _chosen(settings: str, model: Path | None) -> dict[str, Any]:
    """Settings chosen for this machine's device. Cached, so that the choice is logged once per job."""
    generator: Any = TypeAdapter(Generator).validate_json(settings)
    chosen: dict[str, Any] = generator.backend.device_settings(generator, model)
    return chosen


def _job(described: Mapping[str, Any], model: Path | None, adapter: Path | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """Digest of all that the notes of a shard depend on."""
    return digest(json.dumps([_writer(described, model, adapter), rows], sort_keys=True))


def existing_notes(out: Path, rows: Sequence[Mapping[str, Any]], writer: str) -> tuple[list[WrittenNote], list[dict[str, str]]]:
    """Notes of these prompts that the same writer wrote earlier, and the versions of the libraries that wrote them.

    They are in other shards beside `out`, finished for the same or for fewer prompts, and in notes.parquet one folder up, which the workflow keeps until
    all shards are there. Both may vanish at any moment, so tables that cannot be read are skipped.

    Args:
        out: Table of the shard, in the folder of the generator's shards.
        rows: Prompts of the shard, with the seeds of the notes.
        writer: Digest of what writes the notes, as in the tables' provenance.
    """
    prompts_and_seeds = {row["note_id"]: (row["prompt"], row["seed"]) for row in rows}
    notes: dict[str, WrittenNote] = {}
    earlier_versions: list[dict[str, str]] = []
    finished = notes_beside(out)
    for path in [*sorted(out.parent.glob(EVERY_SHARD)), finished] if finished else []:
        try:
            stamped = tables.provenance(path)
            if stamped.get("writer") != writer:
                continue
            table = tables.read(tables.NOTES, path)
        except (OSError, UserError):
            continue
        before = len(notes)
        missing = pa.array(sorted(set(prompts_and_seeds) - set(notes)), pa.string())
        for row in table.filter(pc.is_in(table["note_id"], value_set=missing)).to_pylist():
            if prompts_and_seeds[row["note_id"]] == (row["prompt"], row["seed"]):
                notes[row["note_id"]] = WrittenNote(row["note_id"], row["text"], row["finish_reason"], row["tokens"])
        if len(notes) > before:
            earlier_versions += [v for v in [stamped.get("versions", {}), *stamped.get("earlier_versions", [])] if v and v not in earlier_versions]
    return list(notes.values()), earlier_versions


@contextmanager
def finished_notes(
    partial: Path, job: str, used: Mapping[str, str] | None = None, earlier: list[dict[str, str]] | None = None
) -> Iterator[tuple[dict[str, WrittenNote], Callable[[Sequence[WrittenNote]], None]]]:
    """The notes that an earlier run of the same job finished, by id, and a function that appends more to the file.

    The file holds one JSON object per line: first a header with the job and the versions of the libraries that wrote the notes, then the notes.
    The file of another job is replaced. An incomplete last line is dropped.

    Args:
        partial: The file.
        job: Digest of all that the notes depend on except the versions of libraries.
        used: Current versions of the libraries.
        earlier: Versions that wrote the reused notes; the versions in the file's header are appended to it.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    earlier = [] if earlier is None else earlier
    done: dict[str, WrittenNote] = {}
    if partial.is_file():
        first, *lines = partial.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
        before = _header(first)
        if before.get("job") != job:
            say(f"{partial.name} is of another job (settings, prompts or adapter have changed); starting anew")
        else:
            whole = [line for line in lines if line.endswith("\n")]
            done = {note.note_id: note for note in (WrittenNote(**json.loads(line)) for line in whole)}
            say(f"going on after {len(done):,} finished notes")
            earlier += [v for v in before.get("versions", []) if v not in earlier]
    header = json.dumps({"job": job, "versions": [*earlier, *([dict(used)] if used and used not in earlier else [])]})
    temporary = partial.with_name(f".{partial.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(f"{line}\n" for line in (header, *map(_line, done.values()))), encoding="utf-8")
    os.replace(temporary, partial)
    with open(partial, "a", encoding="utf-8") as sink:

        def keep(notes: Sequence[WrittenNote]) -> None:
            sink.write("".join(f"{_line(note)}\n" for note in notes))
            sink.flush()
            os.fsync(sink.fileno())
            done.update((note.note_id, note) for note in notes)

        yield done, keep


def _header(line: str) -> dict[str, Any]:
    """The header of a partial file; empty if the line is incomplete."""
    try:
        header = json.loads(line)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}


def _line(note: WrittenNote) -> str:
    return json.dumps(vars(note))


def write_all(
    requests: Sequence[Request], note_writer: NoteWriter, done: Mapping[str, WrittenNote], keep: Callable[[Sequence[WrittenNote]], None]
) -> dict[str, Any]:
    """Write the notes that are not done, keep them as they are finished, and measure the speed.

    Returns:
        The `throughput` of this run; notes of earlier runs do not count.
    """
    begun = time.monotonic()
    fresh: list[WrittenNote] = []
    tokens = 0
    with track("notes", sum(r.note_id not in done for r in requests)) as tick:
        for notes in note_writer(requests, done):
            if not notes:
                continue
            keep(notes)
            fresh += notes
            tokens += sum(written.tokens for written in notes)
            elapsed = time.monotonic() - begun
            tick(len(notes), f"{len(fresh) / elapsed:,.1f} notes/s, {tokens / elapsed:,.0f} tokens/s")
    return throughput(fresh, time.monotonic() - begun)


def throughput(notes: Sequence[WrittenNote], seconds: float) -> dict[str, Any]:
    """Speed of a run, and the lengths of its prompts and notes in tokens, by the names of `THROUGHPUT`."""
    measured: dict[str, Any] = {"notes": len(notes), "seconds": round(seconds, 2), "finished_by_length": sum(n.finish_reason == "length" for n in notes)}
    for text, lengths in (("prompt", sorted(n.prompt_tokens for n in notes)), ("note", sorted(n.tokens for n in notes))):
        nonempty = lengths or [0]
        measured |= {f"{text}_tokens": sum(lengths), f"{text}_tokens_mean": round(sum(nonempty) / len(nonempty), 1)}
        measured |= {f"{text}_tokens_median": nonempty[len(nonempty) // 2], f"{text}_tokens_max": nonempty[-1]}
    tokens_per_s = round(measured["note_tokens"] / seconds, 1) if notes else 0.0
    return measured | {"notes_per_s": round(len(notes) / seconds, 3) if notes else 0.0, "tokens_per_s": tokens_per_s}


def gather(prompts: Path, shards: Sequence[Path], out: Path) -> None:
    """Write the notes of all shards to one table, and throughput.csv beside it with one row per shard.

    Raises:
        UserError: A prompt without a note, with two, or a note without a prompt; names the ids.
    """
    prompt_ids = tables.read(tables.PROMPTS, prompts)["note_id"].to_pylist()
    notes = pa.concat_tables([tables.read(tables.NOTES, shard) for shard in shards])
    note_ids = notes["note_id"].to_pylist()
    problems = {
        "prompts without a note": set(prompt_ids) - set(note_ids),
        "notes without a prompt": set(note_ids) - set(prompt_ids),
        "notes that occur twice": {n for n, times in Counter(note_ids).items() if times > 1},
    }
    for problem, ids in problems.items():
        if ids:
            examples = ", ".join(sorted(ids)[:5])
            raise UserError(problem, str(out.parent), f"{len(ids):,} of them: {examples}", "delete the shards and rerun the workflow")
    inputs = {"prompts": prompts} | {f"shard {i}": shard for i, shard in enumerate(shards)}
    tables.write(tables.NOTES, out, notes, stamp("generation gather", inputs, **_provenance_of_shards(shards)))
    measured = [json.loads(shard.with_suffix(".speed.json").read_text(encoding="utf-8")) for shard in shards if shard.with_suffix(".speed.json").is_file()]
    funnel.write_csv(out.with_name("throughput.csv"), THROUGHPUT, measured)
    say(f"{len(note_ids):,} notes, one for each prompt")


def _provenance_of_shards(shards: Sequence[Path]) -> dict[str, Any]:
    """Provenance of the gathered notes: their writer, if it is the same for all, with the versions of the libraries."""
    stamps = [tables.provenance(shard) for shard in shards]
    if len({stamped.get("writer") for stamped in stamps}) != 1 or not stamps[0].get("writer"):
        ways = sorted({json.dumps(stamped.get("chosen", {}), sort_keys=True) for stamped in stamps})
        if len(ways) > 1:
            say(f"the shards were not all written in the same way: {'; '.join(ways)}. Set generators.*.dtype and sampling.quantization for equal ones")
            return {"chosen": [json.loads(way) for way in ways]}
        return {}
    all_versions: list[dict[str, str]] = []
    for stamped in stamps:
        all_versions += [v for v in [stamped.get("versions", {}), *stamped.get("earlier_versions", [])] if v and v not in all_versions]
    first, *others = all_versions or [{}]
    chosen = {"chosen": stamps[0]["chosen"]} if "chosen" in stamps[0] else {}
    return {"writer": stamps[0]["writer"], "versions": first, **chosen, **({"earlier_versions": others} if others else {})}
