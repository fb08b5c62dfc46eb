"""Notes per second of each backend that runs here, beside one-note-at-a-time `generate`: `make bench-generation`.

All sides get the same prompts (as the demo asks them) and the same sampling settings, in one run, in turns; the best of each side's turns counts. "transformers by
`generate`" is the backend as it was before it had steps of its own: full batches of 16, each prompt read whole, on a CPU without fast bfloat16 in float32. The
server is `transformers serve` on loopback, started and stopped here. `--sides` names some of the sides, by their first letters.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mentionforge.generation import weights
from mentionforge.generation.backends import continuous, openai, static
from mentionforge.generation.backends.continuous import ContinuousBackend
from mentionforge.generation.backends.contract import NoteWriter, Request, WrittenNote
from mentionforge.generation.backends.openai import OpenaiBackend
from mentionforge.generation.prompts import seed_of
from mentionforge.generation.sample import throughput
from mentionforge.generation.settings import Sampling
from mentionforge.generation.shipped_prompts import SHIPPED
from mentionforge.generation.templates import Asked, prompt_text
from mentionforge.models import folder
from serving import Server, served_folder

ROOT = Path(__file__).resolve().parents[2]
STYLE = "chat"


def requests(tokenizer: object, concepts: int, notes: int) -> list[Request]:
    """Prompts about the first concepts of the demo's knowledge base, `notes` of each."""
    names: dict[str, list[str]] = {}
    for line in (ROOT / "resources/demo/umls/META/MRCONSO.RRF").read_text(encoding="utf-8").splitlines():
        row = line.split("|")
        if row[1] == "ENG" and row[16] == "N":
            names.setdefault(row[0], []).append(row[14])
    definitions = {
        row[0]: row[5] for line in (ROOT / "resources/demo/umls/META/MRDEF.RRF").read_text(encoding="utf-8").splitlines() if (row := line.split("|"))
    }
    shared = weights.shared_tokens(tokenizer, [prompt_text(SHIPPED["instruction"], Asked((name,))) for name in ("A", "b")], STYLE)
    found = []
    for cui in sorted(names)[:concepts]:
        prompt = prompt_text(SHIPPED["instruction"], Asked(tuple(names[cui][:4]), definitions.get(cui)))
        ids = tuple(weights.prompt_ids(tokenizer, prompt, STYLE))
        found += [Request(f"{cui}-{i}", ids, seed_of(f"{cui}-{i}"), prompt, len(shared)) for i in range(notes)]
    return found


def one_by_one(model: object, tokenizer: object, sampling: Sampling) -> NoteWriter:
    """What people write first: `generate` with the library's own sampling, a note at a time."""
    import torch

    def write(wanted: Sequence[Request], done: object):
        for request in wanted:
            torch.manual_seed(request.seed)
            ids = torch.tensor([request.ids])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=0,
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
            new = out[0, len(request.ids) :].tolist()
            stopped = new[-1] == tokenizer.eos_token_id
            yield [
                WrittenNote(
                    request.note_id, tokenizer.decode(new, skip_special_tokens=True), "stop" if stopped else "length", len(new) - stopped, len(request.ids)
                )
            ]

    return write


def by_generate(model: object, tokenizer: object, sampling: Sampling) -> NoteWriter:
    """The backend `transformers` as it was."""
    writer = static.make_generate_writer(model, tokenizer, sampling)
    return lambda wanted, done: static.write_in_batches(wanted, 16, writer, done)


def main() -> None:
    """Run all sides and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "resources/models/smollm2/fetched.json", help="stamp of fetched weights")
    parser.add_argument("--concepts", type=int, default=32)
    parser.add_argument("--notes", type=int, default=1, help="notes per concept")
    parser.add_argument("--tokens", type=int, default=64, help="longest note")
    parser.add_argument("--batch", type=int, help="notes at a time; default: the program's")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"), default="auto")
    parser.add_argument("--adapter", type=Path, help="folder of an adapter")
    parser.add_argument("--sides", nargs="+", default=["one", "transformers", "continuous", "openai"])
    parser.add_argument("--no-server", action="store_true")
    given = parser.parse_args()
    weights.quiet()
    dtype = weights.sampling_dtype(given.dtype)
    tokenizer = weights.tokenizer(given.model, STYLE)
    model = weights.load_for_sampling(given.model, given.adapter, dtype)
    full = weights.load_for_sampling(given.model, given.adapter, weights.computed_dtype(dtype))
    sampling = Sampling(max_new_tokens=given.tokens, batch_size=given.batch)
    wanted = requests(tokenizer, given.concepts, given.notes)
    sides: dict[str, Callable[[], NoteWriter]] = {
        "one note at a time": lambda: one_by_one(full, tokenizer, sampling),
        "transformers by `generate`": lambda: by_generate(full, tokenizer, sampling),
        "transformers": lambda: static.make(sampling, model, tokenizer),
        "continuous": lambda: continuous.make(ContinuousBackend(kind="continuous"), sampling, model, tokenizer),
    }
    sides = {side: make for side, make in sides.items() if side.startswith(tuple(given.sides))}
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(Path(scratch) / "server.log")
        if not given.no_server and any("openai".startswith(side) for side in given.sides):
            served = served_folder(folder(given.model), Path(scratch) / "served")
            server.start(extra=("--dtype", str(full.dtype).removeprefix("torch.")))
            settings = OpenaiBackend(kind="openai", base_url=server.base_url, model=str(served), concurrency=8)
            sides["openai (transformers serve)"] = lambda: openai.make(settings, sampling, STYLE, os.environ)
        try:
            for make in sides.values():  # what is done once only is done before the clock runs
                list(make()(wanted[:2], {}))
            best: dict[str, dict[str, float]] = {}
            for turn in range(given.turns):
                for side, make in sides.items():
                    backend, begun, cpu = make(), time.perf_counter(), time.process_time()
                    notes = [note for some in backend(wanted, {}) for note in some]
                    measured = throughput(notes, time.perf_counter() - begun)
                    measured["cpu"] = (time.process_time() - cpu) / len(wanted)
                    assert measured["notes"] == len(wanted)
                    print(f"turn {turn + 1}, {side}: {measured['notes_per_s']:.2f} notes/s, {measured['cpu']:.2f} s of CPU a note", file=sys.stderr, flush=True)
                    if side not in best or measured["notes_per_s"] > best[side]["notes_per_s"]:
                        best[side] = measured
        finally:
            server.stop()
    first = next(iter(best))
    rows = sampling.rows(model.device.type)
    print(f"{len(wanted)} notes, {given.notes} per concept, at most {given.tokens} tokens, batch {rows}, {dtype}, {os.cpu_count()} cores")
    print(f"| backend | notes/s | tokens/s | tokens per note | CPU seconds per note | times the notes/s of {first} |\n|---|---|---|---|---|---|")
    for side, m in best.items():
        cpu = "–" if side.startswith("openai") else f"{m['cpu']:.2f}"
        times = m["notes_per_s"] / best[first]["notes_per_s"]
        print(f"| {side} | {m['notes_per_s']:.2f} | {m['tokens_per_s']:.0f} | {m['note_tokens_mean']:.0f} | {cpu} | {times:.1f} |")


if __name__ == "__main__":
    main()
