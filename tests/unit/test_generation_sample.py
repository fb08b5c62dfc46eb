"""Sampling and fine-tuning: a tiny random language model for what settings do, the real small one for the 4-bit trap."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel

from mentionforge import tables, versions
from mentionforge.config import load_config, spec, spec_text
from mentionforge.errors import UserError
from mentionforge.generation import finetune, memory, packed, sample, weights
from mentionforge.generation.backends import continuous, draw, static
from mentionforge.generation.backends.continuous import ContinuousBackend
from mentionforge.generation.backends.contract import Request, WrittenNote
from mentionforge.generation.settings import Finetune, Sampling
from tiny import tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Stamp of a tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(tiny):
    return weights.load_for_sampling(tiny, None, torch.float32), weights.tokenizer(tiny, "chat")


def requests(tokenizer, n, prompt="Write about {}."):
    return [Request(f"C{i}-0", tuple(weights.prompt_ids(tokenizer, prompt.format("gout" * (i % 5)), "chat")), 100 + i) for i in range(n)]


def spec_file(path, root, part, **settings):
    raw = yaml.safe_load((root / "config.yaml").read_text())
    for key, value in settings.items():
        raw["generators"]["smollm2"][key] = value
    path.write_text(spec_text(load_config(raw), "generators", f"smollm2/{part}"))
    return path


def prompt_table(path, n):
    rows = [{"note_id": f"C{i:03}-0", "cui": f"C{i:03}", "prompt": f"Write about {'gout' * (i % 5)}.", "has_definition": False, "seed": i} for i in range(n)]
    tables.write(tables.PROMPTS, path, rows)
    return path


# --------------------------------------------------------------------------------------------------------- batches, resume


def write_all(requests, batch_size, writer, done, keep):
    """Through the batches of the backend `transformers`, with a writer that needs no model."""
    return sample.write_all(requests, lambda wanted, written: static.write_in_batches(wanted, batch_size, writer, written), done, keep)


def echo(batch):
    return [WrittenNote(r.note_id, f"text {r.seed}", "stop", 1) for r in batch]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 7, 8, 9])
def test_every_prompt_gets_its_note_whatever_the_batch_size(n):
    wanted = [Request(f"C{i}", (1,) * (i % 3 + 1), i) for i in range(n)]
    done, seen = {}, []

    def writer(batch):
        assert len(batch) == 4, "every batch has the same number of rows; the last note is repeated where there are fewer"
        seen.extend(dict.fromkeys(r.note_id for r in batch))
        return echo(batch)

    write_all(wanted, 4, writer, done, lambda notes: done.update((x.note_id, x) for x in notes))
    assert sorted(seen) == sorted(done) == [r.note_id for r in wanted] and all(done[r.note_id].text == f"text {r.seed}" for r in wanted)


def test_too_little_memory_halves_the_batches(capsys):
    wanted, done, sizes = [Request(f"C{i}", (1,), i) for i in range(13)], {}, []

    def writer(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError
        return echo(batch)

    write_all(wanted, 8, writer, done, lambda notes: done.update((x.note_id, x) for x in notes))
    assert len(done) == 13 and sizes[:3] == [8, 4, 2] and max(sizes[2:]) == 2
    assert "out of memory with 8 notes" in capsys.readouterr().err

    def never(batch):
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(UserError, match="out of memory"):
        write_all(wanted, 8, never, {}, lambda notes: None)


def test_a_resumed_job_keeps_finished_notes_and_drops_a_cut_line(tmp_path, capsys):
    partial = tmp_path / "out.parquet.partial.jsonl"
    wanted = [Request(f"C{i}", (1,) * (i + 1), i) for i in range(10)]
    with sample.finished_notes(partial, "job") as (done, keep):
        write_all(wanted[:6], 4, echo, done, keep)
    whole = partial.read_text()
    again = []
    with sample.finished_notes(partial, "job") as (done, keep):
        write_all(wanted[:6], 4, lambda batch: again.extend(batch) or echo(batch), done, keep)
    assert not again, "nothing finished is written again"
    for cut in (len(whole) - 1, len(whole) - 9, whole.index("\n") + 5, 4, 0):
        partial.write_text(whole[:cut])
        with sample.finished_notes(partial, "job") as (done, keep):
            assert len(done) == max(0, whole[:cut].count("\n") - 1)
            write_all(wanted, 4, echo, done, keep)
            assert done == {n.note_id: n for n in echo(wanted)}
        assert len([json.loads(line) for line in partial.read_text().splitlines()]) == 11
    with sample.finished_notes(partial, "another job") as (done, _):
        assert done == {}
    assert "starting anew" in capsys.readouterr().err


def test_a_resumed_job_knows_which_versions_wrote_its_notes(tmp_path):
    partial = tmp_path / "out.parquet.partial.jsonl"
    partial.write_text(json.dumps({"job": "job"}) + "\n")  # as it was written before versions stood there
    for used, expected in (("1", []), ("1", [{"torch": "1"}]), ("2", [{"torch": "1"}]), ("3", [{"torch": "1"}, {"torch": "2"}])):
        earlier: list[dict[str, str]] = []
        with sample.finished_notes(partial, "job", {"torch": used}, earlier) as (done, keep):
            assert earlier == expected
            keep(list(echo([Request(f"C{used}", (1,), 1)])))
    assert len(done) == 3
    with sample.finished_notes(partial, "another", {"torch": "3"}, earlier := []) as (done, _):
        assert not done and not earlier


def test_notes_depend_on_the_version_of_the_sampling_and_not_on_that_of_the_filters(root, tmp_path, monkeypatch):
    """The key of notes that are taken over, when a generator grows: by the specs that the workflow writes."""
    config = load_config(yaml.safe_load((root / "config.yaml").read_text()))
    model = tmp_path / "fetched.json"
    model.write_text("{}")
    monkeypatch.setattr(sample, "_chosen", lambda *_: {})
    number = versions.number

    def key(*raised: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(versions, "number", lambda part: number(part) + (part in raised))
            return sample._writer(spec(config, "generators", "smollm2", "sampling"), model, None)

    above = ("generation.prompts", "generation.pairs", "generation.finetune")
    below = ("generation.locate", "generation.filter", *(part for part in versions.VERSIONED_CODE if part.startswith("filter.")))
    assert key() == key(*above, *below) != key("generation.sample")


def test_speed_and_lengths_counted_by_hand(capsys):
    notes = [
        WrittenNote(f"C{i}", "x", reason, tokens, prompt) for i, (reason, tokens, prompt) in enumerate([("stop", 4, 10), ("length", 9, 30), ("stop", 2, 20)])
    ]
    found = sample.throughput(notes, 2.0)
    assert (found["notes"], found["notes_per_s"], found["tokens_per_s"], found["finished_by_length"]) == (3, 1.5, 7.5, 1)
    assert [found[f"note_tokens{k}"] for k in ("", "_mean", "_median", "_max")] == [15, 5.0, 4, 9]
    assert [found[f"prompt_tokens{k}"] for k in ("", "_mean", "_median", "_max")] == [60, 20.0, 20, 30]
    assert sample.throughput([], 0.0)["notes_per_s"] == 0.0
    sample.write_all([Request(f"C{i}", (1,), i) for i in range(3)], lambda wanted, done: iter([notes[:2], [], notes[2:]]), {}, lambda _: None)
    assert "notes: 3 of 3" in (said := capsys.readouterr().err) and "notes/s" in said and "left" in said


# --------------------------------------------------------------------------------------------------------------- drawing


def test_draws_follow_the_distribution_and_each_row_has_its_own_stream():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, -torch.inf])
    seeds, steps = list(range(50)), 200
    draw_tokens = draw.Draw(seeds, 3, steps)
    tokens = torch.stack([draw_tokens(torch.zeros(len(seeds), 3 + t), logits.expand(len(seeds), -1).clone()).argmax(-1) for t in range(steps)])
    counts = np.bincount(tokens.flatten().numpy(), minlength=5)
    expected = np.exp([0, 1, -1, 2]) / np.exp([0, 1, -1, 2]).sum() * counts.sum()
    assert counts[4] == 0 and ((counts[:4] - expected) ** 2 / expected).sum() < 16.3, "chi-square, 3 degrees of freedom, p = 0.001"
    reordered = draw.Draw(seeds[::-1], 7, steps)
    again = torch.stack([reordered(torch.zeros(len(seeds), 7 + t), logits.expand(len(seeds), -1).clone()).argmax(-1) for t in range(steps)])
    assert torch.equal(again.flip(1), tokens)


@pytest.mark.parametrize("candidates", [2, 128])
def test_the_nucleus_is_the_same_whether_a_few_tokens_or_all_are_sorted(candidates, monkeypatch):
    """Drawn shares against the nucleus worked out by hand: 0.4 + 0.3 + 0.2 is the least that reaches 0.75."""
    monkeypatch.setattr(draw, "CANDIDATES", candidates)
    logits = torch.tensor([0.05, 0.4, 0.2, 0.05, 0.3]).log()
    seeds, steps = list(range(50)), 200
    draw_tokens = draw.Draw(seeds, 3, steps, top_p=0.75)
    tokens = torch.stack([draw_tokens(torch.zeros(len(seeds), 3 + t), logits.expand(len(seeds), -1).clone()).argmax(-1) for t in range(steps)])
    counts = np.bincount(tokens.flatten().numpy(), minlength=5)
    expected = np.array([4, 2, 3]) / 9 * counts.sum()
    assert counts[[0, 3]].sum() == 0 and ((counts[[1, 2, 4]] - expected) ** 2 / expected).sum() < 13.8, "chi-square, 2 degrees of freedom, p = 0.001"


def test_the_first_token_follows_temperature_and_nucleus(loaded):
    """Against softmax, temperature and nucleus computed here from the model's logits."""
    model, tokenizer = loaded
    ids = weights.prompt_ids(tokenizer, "Write.", "chat")
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1].double().numpy()
    p = np.exp(logits / 1.7 - (logits / 1.7).max())
    p /= p.sum()
    order = np.argsort(-p)
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), 0.8)) + 1]
    write = static.make_batch_writer(model, tokenizer, Sampling(temperature=1.7, top_p=0.8, max_new_tokens=1))
    batch = [Request(str(i), tuple(ids), 10_000 + i) for i in range(2000)]
    n_stop = sum(note.finish_reason == "stop" for note in write(batch))
    stops = {tokenizer.eos_token_id, *model.generation_config.eos_token_id}
    expected = sum(p[t] for t in kept if t in stops) / p[kept].sum()
    assert 0.02 < expected < 0.98, "the test says something"
    assert abs(n_stop / 2000 - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000)


def test_every_sampling_setting_reaches_the_model(loaded):
    model, tokenizer = loaded
    batch = requests(tokenizer, 6)

    def texts(**settings):
        return [
            n.text for n in static.make_batch_writer(model, tokenizer, Sampling(**{"temperature": 1.5, "top_p": 1.0, "max_new_tokens": 20} | settings))(batch)
        ]

    greedy = []
    for r in batch:
        out = model.generate(torch.tensor([r.ids]), attention_mask=torch.ones(1, len(r.ids)), max_new_tokens=20, do_sample=False, pad_token_id=1)
        new = out[0, len(r.ids) :].tolist()
        stops = model.generation_config.eos_token_id
        greedy.append(tokenizer.decode(new[: next((i for i, t in enumerate(new) if t in stops), None)], skip_special_tokens=True).strip())
    free = texts()
    assert texts() == free != greedy
    assert texts(temperature=1e-4) == greedy and texts(top_p=1e-6) == greedy
    lengths = [n.tokens for n in static.make_batch_writer(model, tokenizer, Sampling(temperature=1.5, top_p=1.0, max_new_tokens=5))(batch)]
    assert max(lengths) == 5
    assert all(len(set(t)) == len(t) for t in texts(repetition_penalty=1e9) if t.isascii()) and texts(repetition_penalty=1e9) != free


def test_notes_do_not_depend_on_batches_and_end_at_the_first_stop(loaded):
    model, tokenizer = loaded
    batch = requests(tokenizer, 9)
    write = static.make_batch_writer(model, tokenizer, Sampling(temperature=1.5, top_p=1.0, max_new_tokens=16))
    together = write(batch)
    assert [write([r])[0] for r in batch] == together == write(batch[::-1])[::-1]
    assert {n.finish_reason for n in together} == {"stop", "length"}
    for note in together:
        assert not set(note.text) & set("etaoin") and (note.tokens == 16) == (note.finish_reason == "length")


WIDE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3, "initializer_range": 0.05}


KINDS = [
    ("tiny", "float32", "none"),
    ("tiny", "float16", "none"),
    ("tiny", "bfloat16", "none"),
    ("tiny", "float32", "nf4"),
    ("tiny", "bfloat16", "nf4"),
    ("smollm2", "float32", "none"),
    ("smollm2", "float16", "none"),
]
"""Whose weights, their type, and their quantization."""


@pytest.fixture(scope="module", params=["default", "avx2"])
def rows_seen(request, root, tiny):
    """What rows.py saw of every kind, with the instructions of this processor or of an older one."""
    older = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"} if request.param == "avx2" else {}
    stamps, cases = {"tiny": tiny, "smollm2": root / "resources/models/smollm2/fetched.json"}, {}
    for weights_of, dtype, quantization in KINDS:
        if stamps[weights_of].is_file() and (dtype != "float16" or packed.available()):
            shape = WIDE if weights_of == "tiny" else None
            for threads in (2, 3) if shape and dtype != "bfloat16" and quantization == "none" else (2,):
                case = {"stamp": str(stamps[weights_of]), "dtype": dtype, "threads": threads, "quantization": quantization, "shape": shape}
                cases[weights_of, dtype, quantization, threads] = case
    environment = os.environ | older | {"OMP_WAIT_POLICY": "passive", "MKL_DYNAMIC": "FALSE"}
    done = subprocess.run([sys.executable, "tests/rows.py", json.dumps(list(cases.values()))], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = {}
    for (*kind, _), rows in zip(cases, json.loads(done.stdout), strict=True):
        seen.setdefault(tuple(kind), []).extend(rows)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("weights_of", "dtype", "quantization"), KINDS)
def test_a_row_has_the_same_bits_at_every_place_of_every_batch(request, rows_seen, weights_of, dtype, quantization):
    """With several threads: logits and text of one note."""
    request.getfixturevalue(weights_of)
    if dtype == "float16" and not packed.available():
        pytest.skip("this build of torch has no matrix products with weights in float16")
    seen = rows_seen[weights_of, dtype, quantization]
    assert len(seen) >= (20 if weights_of == "tiny" else 12) and len(seen[0]["logits"]) > 1
    assert weights_of != "tiny" or any(len(set(row["rows"])) > 1 for row in seen), "also where rows were dropped"
    others = [(row["size"], row["place"]) for row in seen if (row["logits"], row["text"]) != (seen[0]["logits"], seen[0]["text"])]
    assert not others, "batches and places where the note had other bits"


@pytest.mark.slow
def test_equal_scores_are_drawn_alike_beside_a_row_whose_nucleus_is_wide():
    """In bfloat16 many tokens have equal scores. Which of them is drawn must not hang on how many candidates a neighbour needs."""
    torch.manual_seed(1)
    flat = torch.zeros(1, 20_000)
    for scale, candidates in ((8, draw.CANDIDATES), (4, draw.CANDIDATES * draw.WIDER)):
        tied = torch.randn(40, 20_000).mul(scale).bfloat16().float()
        alone = draw.draw_tokens(tied, torch.linspace(0, 0.99, 40), 0.9)
        assert (tied.softmax(-1).topk(candidates).values.sum(-1) > 0.9).all()
        beside = draw.draw_tokens(torch.cat([tied, flat]), torch.cat([torch.linspace(0, 0.99, 40), torch.tensor([0.5])]), 0.9)
        assert torch.equal(beside[:40], alone)
    draws = 2 * draw.CANDIDATES * draw.WIDER
    counts = torch.bincount(draw.draw_tokens(flat.expand(draws, -1), torch.linspace(0, 0.999, draws), 0.9).flatten(), minlength=20_000)
    assert counts.max() == 1, "a flat row is drawn from more than the first candidates"


# ---------------------------------------------------------------------------------------------------------------- shards


def test_shards_resume_and_gather_give_every_prompt_one_note(tmp_path, root, tiny):
    spec = spec_file(
        tmp_path / "spec.json", root, "sampling", sampling={"max_new_tokens": 8, "batch_size": 4, "temperature": 1.5, "top_p": 1.0}, dtype="float32"
    )
    asked = prompt_table(tmp_path / "prompts.parquet", 19)
    shards = [tmp_path / f"{i}-of-3.parquet" for i in range(3)]
    for i, path in enumerate(shards):
        sample.sample_shard(spec, tiny, asked, None, i, 3, path)
        assert tables.read(tables.NOTES, path)["note_id"].to_pylist() == [f"C{j:03}-0" for j in range(i, 19, 3)]
    sample.gather(asked, shards, tmp_path / "notes.parquet")
    rows = tables.read(tables.NOTES, tmp_path / "notes.parquet").to_pylist()
    assert [r["note_id"] for r in rows] == [f"C{i:03}-0" for i in range(19)] and {r["generator"] for r in rows} == {"smollm2"}
    assert len({r["text"] for r in rows}) > 12 and not list(tmp_path.glob("*.partial*"))
    with open(tmp_path / "throughput.csv", newline="") as handle:
        speeds = list(csv.DictReader(handle))
    assert [(s["shard"], int(s["notes"])) for s in speeds] == [("0-of-3", 7), ("1-of-3", 6), ("2-of-3", 6)] and tuple(speeds[0]) == sample.THROUGHPUT
    assert [int(s["note_tokens"]) for s in speeds] == [sum(r["tokens"] for r in rows[i::3]) for i in range(3)]

    # One job, its partial file cut in a line, gives the same notes; a finished note is not written again.
    kept = rows[0] | {"text": "kept as it was"}
    partial = tmp_path / "whole.parquet.partial.jsonl"
    described = json.loads(spec.read_text())
    prompted = [r | {"seed": n["seed"]} for r, n in zip(tables.read(tables.PROMPTS, asked).to_pylist(), rows, strict=True)]
    lines = [
        json.dumps({"job": sample._job(described, tiny, None, prompted)}),
        json.dumps({k: kept[k] for k in ("note_id", "text", "finish_reason", "tokens")}),
    ]
    partial.write_text("\n".join(lines) + '\n{"note_id": "C00')
    sample.sample_shard(spec, tiny, asked, None, 0, 1, tmp_path / "whole.parquet")
    assert tables.read(tables.NOTES, tmp_path / "whole.parquet").to_pylist() == [kept, *rows[1:]] and not partial.exists()

    with pytest.raises(UserError, match=r"prompts without a note.*C001-0"):
        sample.gather(asked, [shards[0], shards[2]], tmp_path / "notes.parquet")
    with pytest.raises(UserError, match="twice"):
        sample.gather(asked, [*shards, shards[1]], tmp_path / "notes.parquet")
    with pytest.raises(UserError, match="no such shard"):
        sample.sample_shard(spec, tiny, asked, None, 3, 3, tmp_path / "x.parquet")


def numbered(path, concepts, notes):
    """Prompts for some concepts, some notes each, as `make_prompts` numbers them."""
    rows = [
        {"note_id": f"C{c:03}-{i}", "cui": f"C{c:03}", "prompt": f"Write about {'gout ' * (c % 40)}.", "has_definition": False, "seed": 10 * c + i}
        for c in concepts
        for i in range(notes)
    ]
    tables.write(tables.PROMPTS, path, rows)
    return path


def write_folder(folder, spec, model, asked, shards):
    """Notes of all prompts as the rules write them; returns how many were written by the model."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    paths = [folder / "shards" / f"{i}-of-{shards}.parquet" for i in range(shards)]
    for path in paths:
        path.unlink(missing_ok=True)  # Snakemake removes the outputs of a job before it starts
    for i, path in enumerate(paths):
        sample.sample_shard(spec, model, asked, None, i, shards, path)
    sample.gather(asked, paths, folder / "notes.parquet")
    with open(folder / "throughput.csv", newline="") as handle:
        return sum(int(row["notes"]) for row in csv.DictReader(handle))


@pytest.mark.parametrize("weights_of", ["tiny", pytest.param("smollm2", marks=pytest.mark.slow)])
def test_more_notes_or_concepts_cost_the_new_ones_and_give_what_a_fresh_run_gives(tmp_path, root, request, weights_of):
    """Letter by letter, in the type that is fast on this machine: what is written beside a note does not touch its arithmetic."""
    model, few = request.getfixturevalue(weights_of), range(0, 9, 3)
    more, many = range(7), 3
    settings = {"max_new_tokens": 6, "batch_size": 8, "temperature": 1.5, "top_p": 1.0}
    spec = spec_file(tmp_path / "spec.json", root, "sampling", sampling=settings, finetune=None, filters={}, prompt_style="chat")
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    assert write_folder(grown, spec, model, numbered(tmp_path / "a.parquet", few, 2), 2) == 6
    assert write_folder(grown, spec, model, numbered(tmp_path / "b.parquet", few, many), 2) == 3 * 1, "two of three notes were there"
    asked = numbered(tmp_path / "c.parquet", more, many)
    assert write_folder(grown, spec, model, asked, 3) == 4 * 3, "three of seven concepts were there, and in other shards"
    assert write_folder(fresh, spec, model, asked, 3) == 21
    assert tables.read(tables.NOTES, grown / "notes.parquet").to_pylist() == tables.read(tables.NOTES, fresh / "notes.parquet").to_pylist()
    assert (grown / "notes.parquet").read_bytes() == (fresh / "notes.parquet").read_bytes(), "provenance included"

    # Without the gathered table the other shards serve; another temperature, or another prompt, takes over nothing.
    (grown / "notes.parquet").unlink()
    (grown / "shards/0-of-3.parquet").rename(grown / "shards/0-of-1.parquet")
    sample.sample_shard(spec, model, asked, None, 0, 3, grown / "shards/0-of-3.parquet")
    assert json.loads((grown / "shards/0-of-3.speed.json").read_text())["notes"] == 0
    assert (grown / "shards/0-of-3.parquet").read_bytes() == (fresh / "shards/0-of-3.parquet").read_bytes()
    other = spec_file(tmp_path / "other.json", root, "sampling", sampling=settings | {"temperature": 1.4}, finetune=None, filters={}, prompt_style="chat")
    rows = tables.read(tables.PROMPTS, asked).to_pylist()[::3]
    described = json.loads(spec.read_text())
    seeded = [row | {"seed": sample.seed_of(row["seed"], settings.get("seed", 13))} for row in rows]
    out = grown / "shards/5-of-9.parquet"
    assert len(sample.existing_notes(out, seeded, sample._writer(described, model, None))[0]) == len(rows)
    assert sample.existing_notes(out, seeded, sample._writer(json.loads(other.read_text()), model, None)) == ([], [])
    assert len(sample.existing_notes(out, [row | {"prompt": "x"} for row in seeded], sample._writer(described, model, None))[0]) == 0


def test_notes_of_older_libraries_are_taken_over_and_named(tmp_path, root, tiny, monkeypatch):
    spec = spec_file(tmp_path / "spec.json", root, "sampling", sampling={"max_new_tokens": 4, "batch_size": 4}, finetune=None, filters={})
    write_folder(tmp_path / "g", spec, tiny, numbered(tmp_path / "a.parquet", range(3), 1), 1)
    now = sample.versions("torch", "transformers")
    monkeypatch.setattr(sample, "versions", lambda *_: {"torch": "99", **{k: v for k, v in now.items() if k != "torch"}})
    assert write_folder(tmp_path / "g", spec, tiny, numbered(tmp_path / "b.parquet", range(3), 2), 1) == 3
    stamped = tables.provenance(tmp_path / "g/notes.parquet")
    assert stamped["versions"]["torch"] == "99" and [v["torch"] for v in stamped["earlier_versions"]] == [now["torch"]]


def test_the_seed_of_sampling_changes_the_notes_and_the_batch_size_does_not_change_the_job(tmp_path, root, tiny):
    asked = prompt_table(tmp_path / "prompts.parquet", 6)
    texts, jobs = {}, {}
    for name, settings in {"a": {}, "b": {"seed": 14}, "c": {"batch_size": 2}}.items():
        spec = spec_file(
            tmp_path / f"{name}.json", root, "sampling", sampling={"max_new_tokens": 8, "temperature": 1.5, "top_p": 1.0} | settings, dtype="float32"
        )
        sample.sample_shard(spec, tiny, asked, None, 0, 1, tmp_path / f"{name}.parquet")
        texts[name] = tables.read(tables.NOTES, tmp_path / f"{name}.parquet")["text"].to_pylist()
        jobs[name] = sample._job(json.loads(spec.read_text()), tiny, None, [])
    assert texts["a"] == texts["c"] != texts["b"] and jobs["a"] == jobs["c"] != jobs["b"]


@pytest.mark.slow
def test_a_killed_job_goes_on_and_writes_what_an_uninterrupted_one_writes(tmp_path, root, tiny):
    spec = spec_file(
        tmp_path / "spec.json", root, "sampling", sampling={"max_new_tokens": 40, "batch_size": 2, "temperature": 1.5, "top_p": 1.0}, dtype="float32"
    )
    asked = prompt_table(tmp_path / "prompts.parquet", 40)
    out, partial = tmp_path / "out.parquet", tmp_path / "out.parquet.partial.jsonl"
    command = [
        sys.executable,
        "-m",
        "mentionforge.cli",
        "generation",
        "sample",
        "--spec",
        str(spec),
        "--model",
        str(tiny),
        "--prompts",
        str(asked),
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not (partial.is_file() and partial.read_bytes().count(b"\n") > 7):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = partial.read_text().splitlines()[1:]
    assert 6 < len(finished) < 40 and not out.exists(), "killed in the middle"
    sample.sample_shard(spec, tiny, asked, None, 0, 1, out)
    sample.sample_shard(spec, tiny, asked, None, 0, 1, tmp_path / "whole.parquet")
    assert tables.read(tables.NOTES, out).equals(tables.read(tables.NOTES, tmp_path / "whole.parquet"))


# ----------------------------------------------------------------------------------- four bits, and what fits into the memory

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""Levels of 4-bit NormalFloat, as the QLoRA paper's appendix E lists them."""


def by_hand(weight):
    """A matrix in NF4 and back: blocks of 64 numbers, each divided by its largest, each number the nearest level."""
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    levels = torch.tensor(NF4)
    return (levels[((blocks / scale)[..., None] - levels).abs().argmin(-1)] * scale).reshape(weight.shape)


def small_adapter(stamp, target, targets=("q_proj", "v_proj")):
    """An adapter that does something, on a tiny model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    shape = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(stamp.parent), shape).save_pretrained(target, save_embedding_layers=False)
    return target


@pytest.mark.parametrize("double", [False, True])
def test_four_bit_sampling_is_four_bit_with_the_adapter_beside_it(tmp_path, tiny, double):
    """Logits against those of weights that are rounded to NF4 by hand, with the adapter's product added by hand."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    adapter = small_adapter(tiny, tmp_path / "adapter")
    model = weights.load_for_sampling(tiny, adapter, torch.float32, "nf4", double)
    kinds = {n: m for n, m in model.named_modules() if type(m).__name__ == "Linear4bit" and not hasattr(m, "lora_A")}
    assert len(kinds) == 2 * 7 and all(m.weight.dtype == torch.uint8 and m.weight.quant_type == "nf4" for m in kinds.values())
    assert all(m.weight.quant_state.nested is double and m.compute_dtype == torch.float32 for m in kinds.values())
    adapted = [m for m in model.modules() if hasattr(m, "lora_A")]
    assert len(adapted) == 4 and not any(m.merged for m in adapted) and not model.training

    expected = AutoModelForCausalLM.from_pretrained(tiny.parent, dtype=torch.float32).eval()
    stored = {key.removeprefix("base_model.model."): value for key, value in load_file(adapter / "adapter_model.safetensors").items()}
    for name, module in expected.named_modules():
        if type(module) is torch.nn.Linear and name != "lm_head":
            module.weight.data = by_hand(module.weight.data)
            if f"{name}.lora_A.weight" in stored:
                module.weight.data += 8 / 4 * stored[f"{name}.lora_B.weight"] @ stored[f"{name}.lora_A.weight"]
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        found, wanted, full = (m(ids).logits for m in (model, expected, weights.load_for_sampling(tiny, adapter, torch.float32)))
    off, rounding = float((found - wanted).abs().max()), float((full - wanted).abs().max())
    assert off < (0.3 * rounding if double else 1e-3) and rounding > 0.1, (off, rounding)


def test_notes_in_four_bits_are_resumed_and_never_mixed_with_others(tmp_path, root, tiny):
    asked, adapter = prompt_table(tmp_path / "prompts.parquet", 9), small_adapter(tiny, tmp_path / "adapter")
    settings = {"max_new_tokens": 8, "temperature": 1.5, "top_p": 1.0, "batch_size": 4}
    texts, writers = {}, {}
    for name, more in {"nf4": {"quantization": "nf4"}, "double": {"quantization": "nf4", "double_quantization": True}, "none": {}}.items():
        spec = spec_file(tmp_path / f"{name}.json", root, "sampling", sampling=settings | more, dtype="float32")
        out = tmp_path / "shards" / f"{len(texts)}-of-3.parquet"
        out.parent.mkdir(exist_ok=True)
        sample.sample_shard(spec, tiny, asked, adapter, 0, 1, out)
        assert json.loads(out.with_suffix(".speed.json").read_text())["notes"] == 9, "notes of other weights are not taken over"
        rows, stamped = tables.read(tables.NOTES, out).to_pylist(), tables.provenance(out)
        texts[name], writers[name] = [r["text"] for r in rows], stamped["writer"]
        chosen = {"device": "cpu", "dtype": "float32", "quantization": more.get("quantization", "none"), "double_quantization": name == "double"}
        assert stamped["chosen"] == chosen
        if name == "nf4":
            prompted = [r | {"seed": n["seed"]} for r, n in zip(tables.read(tables.PROMPTS, asked).to_pylist(), rows, strict=True)]
            kept = [{k: r[k] for k in ("note_id", "text", "finish_reason", "tokens")} for r in rows[:5]]
            lines = [{"job": sample._job(json.loads(spec.read_text()), tiny, adapter, prompted)}, *kept]
            (tmp_path / "again.parquet.partial.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            sample.sample_shard(spec, tiny, asked, adapter, 0, 1, tmp_path / "again.parquet")
            assert json.loads((tmp_path / "again.speed.json").read_text())["notes"] == 4
            assert (tmp_path / "again.parquet").read_bytes() == out.read_bytes()
    assert len(set(writers.values())) == 3 and texts["nf4"] != texts["none"]


def test_shards_of_different_machines_are_gathered_with_notice(tmp_path, root, tiny, monkeypatch, capsys):
    asked = prompt_table(tmp_path / "prompts.parquet", 4)
    spec = spec_file(tmp_path / "spec.json", root, "sampling", sampling={"max_new_tokens": 4}, dtype="float32")
    paths = [tmp_path / f"{i}.parquet" for i in range(2)]
    sample.sample_shard(spec, tiny, asked, None, 0, 2, paths[0])
    sample._chosen.cache_clear()
    monkeypatch.setattr(memory, "available_bytes", lambda free=False: 10**9 if free else 10)  # a machine with less memory
    sample.sample_shard(spec, tiny, asked, None, 1, 2, paths[1])
    sample._chosen.cache_clear()
    assert "sampling.quantization: nf4" in capsys.readouterr().err
    sample.gather(asked, paths, tmp_path / "notes.parquet")
    assert "not all written in the same way" in capsys.readouterr().err
    assert [c["quantization"] for c in tables.provenance(tmp_path / "notes.parquet")["chosen"]] == ["nf4", "none"]


def test_a_model_that_is_too_large_is_one_line_with_the_ways_out(tiny, monkeypatch):
    ways = r"sampling.quantization: nf4.*vllm with tensor_parallel.*larger GPU or a smaller model"
    monkeypatch.setattr(memory, "available_bytes", lambda free=False: 100_000)
    with pytest.raises(UserError, match=r"model too large.*need 0\.\d GB, 0\.\d GB are free on the CPU.*" + ways) as caught:
        weights.load_for_sampling(tiny, None, torch.float32)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()

    def never(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", never)
    with pytest.raises(UserError, match=ways):
        weights.load_for_sampling(tiny, None, torch.float32)
    with pytest.raises(UserError, match="model too large") as caught:
        weights.load_for_sampling(tiny, None, torch.float32, "nf4")
    assert "quantization: nf4" not in str(caught.value)


def test_the_quantization_follows_the_memory_at_hand(tiny, monkeypatch, capsys):
    need = memory.required_bytes(tiny.parent, "float32", "float32", 16, memory.PROMPT_TOKENS + 256) + memory.ALLOWANCE
    for room, chosen in ((need / memory.USABLE_SHARE + 9, "none"), (need / memory.USABLE_SHARE - 9, "nf4")):
        monkeypatch.setattr(memory, "available_bytes", lambda free=False, room=room: int(room))
        assert weights.sampling_quantization(tiny, torch.float32, "auto", 16, 256) == chosen
        assert f"sampling.quantization: {chosen} (16 notes" in capsys.readouterr().err
    assert [weights.sampling_quantization(tiny, torch.float32, w, 16, 256) for w in ("nf4", "none")] == ["nf4", "none"]


def test_the_type_follows_the_device(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    cases = (
        (gpu, True, False, "bfloat16"), (gpu, False, False, "float16"),
        (cpu, True, True, "bfloat16"), (cpu, False, True, "float16"), (cpu, False, False, "float32"),
    )  # fmt: skip
    for place, fast, packs, expected in cases:
        monkeypatch.setattr(weights, "device", lambda place=place: place)
        monkeypatch.setattr(weights, "fast_bfloat16", lambda _, fast=fast: fast)
        monkeypatch.setattr(packed, "available", lambda packs=packs: packs)
        assert weights.sampling_dtype("auto") == getattr(torch, expected)
    with pytest.raises(UserError, match="dtype: auto"):
        weights.sampling_dtype("float16")
    monkeypatch.setattr(weights, "device", lambda: gpu)
    assert weights.sampling_dtype("float16") == torch.float16


def test_sampling_follows_the_config_and_not_the_folders_generation_settings(tmp_path, tiny):
    """Only the tokens that end a text are the folder's."""
    own = json.loads((tiny.parent / "generation_config.json").read_text())
    full = {
        "do_sample": True, "temperature": 0.01, "top_p": 0.01, "top_k": 1, "min_p": 0.5, "typical_p": 0.1, "repetition_penalty": 9.0, "max_length": 3,
        "max_new_tokens": 2, "min_new_tokens": 7, "min_length": 90, "no_repeat_ngram_size": 1, "num_beams": 3, "suppress_tokens": list(range(20, 90)),
        "begin_suppress_tokens": list(range(90, 200)), "forced_bos_token_id": 7, "forced_eos_token_id": 8, "bad_words_ids": [[40]], "length_penalty": 3.0,
        "encoder_repetition_penalty": 4.0, "guidance_scale": 2.0, "sequence_bias": [[[50], 9.0]], "epsilon_cutoff": 0.1, "renormalize_logits": True,
    }  # fmt: skip
    shutil.copytree(tiny.parent, tmp_path / "full")
    (tmp_path / "full/generation_config.json").write_text(json.dumps(own | full))
    (tmp_path / "full/fetched.json").write_text(json.dumps({"folder": "."}))
    settings = Sampling(temperature=1.5, top_p=0.95, max_new_tokens=12, batch_size=4)
    notes = {}
    for stamp in (tiny, tmp_path / "full/fetched.json"):
        model, tokenizer = weights.load_for_sampling(stamp, None, torch.float32), weights.tokenizer(stamp, "chat")
        wanted = requests(tokenizer, 8)
        paged = continuous.make(ContinuousBackend(kind="continuous"), settings, model, tokenizer)
        notes[stamp] = [sorted((n for some in b(wanted, {}) for n in some), key=lambda n: n.note_id) for b in (static.make(settings, model, tokenizer), paged)]
    assert notes[tiny] == notes[stamp] and {n.finish_reason for n in notes[tiny][0]} == {"stop", "length"}


def test_parameters_of_known_models_and_the_committed_table(root, smollm2):
    counts = {name: round(shape.parameters / 1e9, 2) for name, shape in memory.MODELS.items()}
    assert counts == {"Llama-2 7B": 6.74, "Llama-2 13B": 13.02, "Llama-2 70B": 68.98}
    config = json.loads((weights.folder(smollm2) / "config.json").read_text())
    assert memory.shape_of(config).parameters == 134_515_008, "SmolLM2-135M"
    assert memory.shape_of({"d_model": 4}) is None
    thirteen = memory.MODELS["Llama-2 13B"]
    assert memory.cache_bytes(thirteen, 1, 1) == 2 * 40 * 5120 * 2
    assert memory.weight_bytes(thirteen, "nf4") == pytest.approx(12_687_769_600 * 0.5625 + 328_094_720 * 2, rel=1e-3)
    assert memory.weight_bytes(thirteen, "nf4_double") == pytest.approx(12_687_769_600 * (4.127 / 8) + 328_094_720 * 2, rel=1e-3), "4.127 bits, says QLoRA"
    assert memory.table() in (root / "docs/performance.md").read_text(), "run python -m mentionforge.generation.memory"


@pytest.mark.parametrize(("form", "kind"), [("float32", "none"), ("bfloat16", "none"), ("nf4", "nf4"), ("nf4_double", "nf4")])
def test_the_arithmetic_of_weights_against_a_loaded_model(tiny, form, kind):
    """Bytes of every tensor that is there, scales of the quantization included."""
    dtype = torch.bfloat16 if form == "bfloat16" else torch.float32
    model = weights.load_for_sampling(tiny, None, dtype, kind, form == "nf4_double")
    held = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            held[state.absmax.data_ptr()] = state.absmax.numel() * state.absmax.element_size()
            if state.nested:
                held[state.state2.absmax.data_ptr()] = state.state2.absmax.numel() * state.state2.absmax.element_size()
    shape = memory.shape_of(json.loads((tiny.parent / "config.json").read_text()))
    assert memory.weight_bytes(shape, form, "bfloat16" if form == "bfloat16" else "float32") == pytest.approx(sum(held.values()), rel=0.01)


# ----------------------------------------------------------------------------------------------------------- fine-tuning

PAIRS = [
    {"pair_id": str(i), "doc_id": "d", "cui": None, "prompt": f"Write about {name}.", "completion": f"He has <1CUI> {name} </1CUI>."}
    for i, name in enumerate(["gout", "fever", "flu", "cough", "anemia", "sprain"])
]


def tune(tmp_path, root, tiny, name="a", style="chat", **settings):
    spec = spec_file(
        tmp_path / f"{name}.json",
        root,
        "finetune",
        prompt_style=style,
        finetune={"corpus": "demo_semeval", "max_steps": 4, "batch_size": 2, "learning_rate": 0.01} | settings,
    )
    tables.write(tables.PAIRS, tmp_path / "pairs.parquet", PAIRS)
    finetune.finetune(spec, tiny, tmp_path / "pairs.parquet", tmp_path / name, tmp_path / f"{name}.csv")
    with open(tmp_path / f"{name}.csv", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(("style", "quantization"), [("chat", "nf4"), ("plain", "none")])
def test_fine_tuning_writes_an_adapter_without_pickles_or_paths_of_this_machine(tmp_path, root, tiny, style, quantization):
    history = tune(tmp_path, root, tiny, style=style, quantization=quantization, lora={"r": 4, "alpha": 8, "dropout": 0.0}, max_steps=8)
    assert [int(row["step"]) for row in history] == list(range(1, 9)) and tuple(history[0]) == finetune.COLUMNS
    losses, seen = [float(r["loss"]) for r in history], [float(r["num_tokens"]) for r in history]
    assert np.mean(losses[-2:]) < np.mean(losses[:2]) - 0.3 and seen == sorted(seen) and seen[0] > 0
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors", "provenance.json"]
    assert all(str(tiny.parent).encode() not in (tmp_path / "a" / name).read_bytes() for name in files)
    assert json.loads((tmp_path / "a/adapter_config.json").read_text())["base_model_name_or_path"] == "tiny/llama"
    assert weights.load_for_sampling(tiny, tmp_path / "a", torch.float32) is not None


@pytest.mark.slow
def test_fine_tuning_is_deterministic_and_seeded(tmp_path, root, tiny):
    same, again, other = (tune(tmp_path, root, tiny, name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    read = {name: (tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "abc"}
    assert same == again != other and read["a"] == read["b"] != read["c"]
    assert (tmp_path / "a/adapter_config.json").read_bytes() == (tmp_path / "b/adapter_config.json").read_bytes()


def test_every_fine_tuning_setting_reaches_the_trainer(tmp_path, tiny):
    settings = Finetune(
        corpus="x", lora={"r": 3, "alpha": 7, "dropout": 0.25, "targets": ["q_proj", "o_proj"]}, learning_rate=0.003, scheduler="linear", warmup_ratio=0.5,
        batch_size=2, gradient_accumulation=3, gradient_checkpointing=True, epochs=4, max_tokens=77, seed=5, compute_dtype="float32",
    )  # fmt: skip
    tokenizer = weights.tokenizer(tiny, "chat")
    model = weights.load_for_training(tiny, "nf4", torch.float32, double_quantization=True)
    examples = [weights.training_example(tokenizer, p["prompt"], p["completion"], "chat") for p in PAIRS]
    trainer = finetune.make_trainer(model, tokenizer, examples, settings, str(tmp_path))
    a, lora = trainer.args, trainer.model.peft_config["default"]
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, set(lora.target_modules)) == (3, 7, 0.25, {"q_proj", "o_proj"})
    assert (a.learning_rate, a.lr_scheduler_type, a.warmup_steps, a.max_steps) == (0.003, "linear", 2, 4), "6 pairs, 3 batches, 1 update per epoch"
    assert (a.per_device_train_batch_size, a.gradient_accumulation_steps, a.max_length, a.seed, a.bf16) == (2, 3, 77, 5, False)
    assert a.activation_checkpointing and a.activation_checkpointing_kwargs == {"use_reentrant": False}
    assert any(type(m).__name__ == "Linear4bit" and m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in model.modules())
    trained = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2 and all("lora" in n and p.dtype == torch.float32 for n, p in trained.items())


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_loss_is_on_the_completion_only_and_the_prompt_is_the_one_sampled_from(tmp_path, tiny, style):
    tokenizer = weights.tokenizer(tiny, style)
    examples = [weights.training_example(tokenizer, p["prompt"], p["completion"], style) for p in PAIRS]
    trainer = finetune.make_trainer(
        weights.load_for_training(tiny, "none", torch.float32), tokenizer, examples, Finetune(corpus="x", compute_dtype="float32"), str(tmp_path)
    )
    for pair, row in zip(PAIRS, trainer.train_dataset, strict=True):
        prompt = weights.prompt_ids(tokenizer, pair["prompt"], style)
        learned = tokenizer.decode([t for t in row["labels"] if t != -100])
        assert row["input_ids"][: len(prompt)] == prompt and row["labels"][: len(prompt)] == [-100] * len(prompt)
        assert learned.strip().removesuffix("<|im_end|>") == pair["completion"] and tokenizer.eos_token_id in row["labels"]


def test_prompts_that_do_not_fit_are_left_out_and_said(tmp_path, root, tiny, capsys):
    with pytest.raises(UserError, match="max_tokens"):
        tune(tmp_path, root, tiny, max_tokens=16)
    lengths = sorted(len(weights.prompt_ids(weights.tokenizer(tiny, "chat"), p["prompt"], "chat")) for p in PAIRS)
    tune(tmp_path, root, tiny, max_tokens=lengths[3], max_steps=1)
    assert f"{sum(n >= lengths[3] for n in lengths)} of 6 pairs left out" in capsys.readouterr().err


def test_no_chat_template_is_a_users_error(tmp_path, tiny):
    tokenizer = weights.tokenizer(tiny, "plain")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((tiny.parent / "config.json").read_text())
    (tmp_path / "fetched.json").write_text(json.dumps({"folder": "."}))
    with pytest.raises(UserError, match="prompt_style: plain"):
        weights.tokenizer(tmp_path / "fetched.json", "chat")


def test_an_adapter_of_another_model_is_a_users_error(tmp_path, root, tiny, smollm2):
    tune(tmp_path, root, tiny, max_steps=1)
    with pytest.raises(UserError, match="unusable adapter"):
        weights.load_for_sampling(smollm2, tmp_path / "a", torch.float32)


@pytest.mark.slow
def test_4_bit_gradients_survive_an_eval_pass_and_the_merged_model_agrees(tmp_path, root, smollm2):
    """On CPUs with AVX512-BF16, bitsandbytes repacks weights in eval mode; without the switch in `load_for_training`, this fails there."""
    tokenizer = weights.tokenizer(smollm2, "chat")
    examples = [weights.training_example(tokenizer, p["prompt"], p["completion"], "chat") for p in PAIRS]
    settings = Finetune(
        corpus="x",
        lora={"r": 8, "alpha": 16, "dropout": 0.0},
        gradient_checkpointing=False,
        batch_size=2,
        max_steps=2,
        learning_rate=4e-3,
        scheduler="constant",
        warmup_ratio=0,
    )
    trainer = finetune.make_trainer(weights.load_for_training(smollm2, "nf4", weights.training_dtype("bfloat16")), tokenizer, examples, settings, str(tmp_path))
    trainer.train()
    model, batch = trainer.model, trainer.data_collator([trainer.train_dataset[i] for i in range(2)])

    def gradients():
        model.train()
        model.zero_grad()
        model(**batch).loss.backward()
        return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.requires_grad])

    before = gradients()
    model.eval()
    with torch.no_grad():
        quantized = float(model(**batch).loss)
    assert torch.cosine_similarity(before, gradients(), dim=0) > 0.999

    finetune.save_adapter(model, tmp_path / "adapter", "base", {})
    full = weights.load_for_sampling(smollm2, None, torch.float32)
    with torch.no_grad():
        with model.disable_adapter():
            gain = float(model(**batch).loss) - quantized
        base = float(full(**batch).loss)
        merged = float(weights.load_for_sampling(smollm2, tmp_path / "adapter", torch.float32)(**batch).loss)
        beside = float(PeftModel.from_pretrained(full, str(tmp_path / "adapter"))(**batch).loss)
    assert abs(merged - beside) < 1e-3, "merging changes nothing"
    assert gain > 0.5 and base - merged > 0.6 * gain, ("what the adapter learned on 4-bit weights holds in full precision", gain, base, merged)
