"""Merging: the weights that peft merges, from files of every form, in a process of its own that leaves nothing half done."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from mentionforge.errors import UserError
from mentionforge.generation import merging
from tiny import tiny_model

ALL = ["q_proj", "k_proj", "v_proj", "o_proj"]


def stamp_of(folder: Path) -> Path:
    """A stamp beside the folder that names it."""
    path = folder.with_name(f"{folder.name}.fetched.json")
    path.write_text(json.dumps({"folder": str(folder)}))
    return path


def adapter_on(folder: Path, target: Path, **settings) -> Path:
    torch.manual_seed(3)
    described = {"r": 4, "lora_alpha": 6, "target_modules": ALL, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | settings
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), LoraConfig(**described)).save_pretrained(target)
    return target


def merged_by_peft(folder: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return dict(PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """One file of float32, embeddings tied to the head."""
    return tiny_model(tmp_path_factory.mktemp("whole") / "model").parent


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    """As Llama-2 is published: several files of float16, a head of its own, torch_dtype, and generation settings."""
    pytest.importorskip("sentencepiece")
    from published import llama2

    return llama2(tmp_path_factory.mktemp("sharded") / "model", both=False)


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"target_modules": [*ALL, "gate_proj", "down_proj"]}, {"r": 1, "lora_alpha": 1}])
def test_one_file_is_merged_as_peft_merges(tmp_path, whole, settings):
    adapter = adapter_on(whole, tmp_path / "adapter", **settings)
    out = merging.merge(whole / "fetched.json", adapter, "float32", tmp_path / "merged")
    expected, found = merged_by_peft(whole, adapter), weights_of(out)
    assert expected.keys() == found.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    changed = [name for name, tensor in weights_of(whole).items() if not torch.equal(tensor, found[name])]
    assert len(changed) == 2 * len(settings.get("target_modules", ALL)), "the targets of two layers, and nothing else"
    assert "lm_head.weight" not in load_file(out / "model.safetensors"), "still tied"
    assert [p.name for p in tmp_path.iterdir()] and not list(tmp_path.glob(".*")), "no temporary folder"


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float32"])
def test_several_files_are_merged_in_float32_and_rounded_once(tmp_path, sharded, dtype):
    assert len(list(sharded.glob("*.safetensors"))) > 1
    stored = {"auto": torch.float16}.get(dtype) or getattr(torch, dtype)
    adapter = adapter_on(sharded, tmp_path / "adapter")
    out = merging.merge(stamp_of(sharded), adapter, dtype, tmp_path / "merged")
    expected, found = merged_by_peft(sharded, adapter), weights_of(out)
    assert expected.keys() == found.keys() and {tensor.dtype for tensor in found.values()} == {stored}
    assert all(torch.allclose(found[name].float(), expected[name].to(stored).float(), rtol=2**-7 if dtype == "bfloat16" else 2**-10) for name in expected)
    equal = sum(int((found[name] == expected[name].to(stored)).sum()) for name in expected)
    assert equal > 0.999 * sum(tensor.numel() for tensor in expected.values()), "but for sums in another order"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for f in out.glob("*.safetensors") for t in load_file(f).values())
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == str(stored).removeprefix("torch.")
    for name in ("generation_config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (out / name).read_bytes() == (sharded / name).read_bytes()
    text = "Huntington disease, <1CUI> gout </1CUI>"
    assert AutoTokenizer.from_pretrained(out)(text)["input_ids"] == AutoTokenizer.from_pretrained(sharded)(text)["input_ids"]


def test_transposed_matrices_and_names_without_the_head_are_known(tmp_path):
    """GPT-2: matrices are kept as (in, out), and published files name tensors from the base model on."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=24, n_layer=2, n_head=2, n_positions=32))
    model.save_pretrained(tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    save_file({name.removeprefix("transformer."): t for name, t in tensors.items()}, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    adapter = adapter_on(tmp_path / "model", tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    out = merging.merge(stamp_of(tmp_path / "model"), adapter, "float32", tmp_path / "merged")
    expected, found = merged_by_peft(tmp_path / "model", adapter), weights_of(out)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert not torch.equal(found["transformer.h.0.attn.c_attn.weight"], model.state_dict()["transformer.h.0.attn.c_attn.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "does not know use_dora"),
        ({"bias": "all"}, 'does not know bias: "all"'),
        ({"modules_to_save": ["lm_head"]}, "does not know modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "does not know rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "does not know alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa changes the model's own weights"),
        ({"a_setting_of_next_year": {"x": 1}}, "does not know a_setting_of_next_year"),
        ({"r": 5}, "are not a pair of rank 5"),
        ({"peft_type": "LOHA"}, "does not know peft_type"),
    ],
)
def test_adapters_of_another_kind_are_refused_before_anything_is_written(tmp_path, whole, settings, message):
    adapter = adapter_on(whole, tmp_path / "adapter")
    described = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(described | settings))
    with pytest.raises(UserError, match=message):
        merging.merge(whole / "fetched.json", adapter, "auto", tmp_path / "merged")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter"]


def test_adapters_of_another_model_are_refused(tmp_path, whole, sharded):
    wider = tiny_model(tmp_path / "wider", hidden=128).parent
    adapter = adapter_on(wider, tmp_path / "adapter")
    with pytest.raises(UserError, match=r"k_proj.weight is of shape \(32, 64\), the adapter's is \(64, 128\).*another model"):
        merging.merge(whole / "fetched.json", adapter, "auto", tmp_path / "merged")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name.replace("layers.1.", "layers.7."): tensor for name, tensor in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"no tensor model.layers.7\.\S+.weight; it was trained on another model"):
        merging.merge(wider / "fetched.json", adapter, "auto", tmp_path / "merged")
    tied = adapter_on(sharded, tmp_path / "embeddings", target_modules=["embed_tokens"])
    with pytest.raises(UserError, match=r"does not know its tensor .*embed_tokens"):
        merging.merge(stamp_of(sharded), tied, "auto", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_weights_that_are_no_safetensors_or_not_whole_are_refused(tmp_path, whole, sharded):
    adapter = adapter_on(whole, tmp_path / "adapter")
    copied = shutil.copytree(whole, tmp_path / "model")
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors weights"):
        merging.merge(stamp_of(copied), adapter, "auto", tmp_path / "merged")
    copied = shutil.copytree(sharded, tmp_path / "shards")
    sorted(copied.glob("*.safetensors"))[1].unlink()
    with pytest.raises(UserError, match=r"missing weights .* which is not there"):
        merging.merge(stamp_of(copied), adapter, "auto", tmp_path / "merged")
    (adapter / "adapter_model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(UserError, match="unreadable adapter"):
        merging.merge(whole / "fetched.json", adapter, "auto", tmp_path / "merged")


def test_too_little_room_is_said_before_the_work(tmp_path, whole, monkeypatch):
    adapter = adapter_on(whole, tmp_path / "adapter")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(UserError, match=r"too little room in .*merged weights take 0.0 GB, 0.0 GB are free; set backend.scratch"):
        merging.merge(whole / "fetched.json", adapter, "auto", tmp_path / "deeper" / "merged")
    assert not (tmp_path / "deeper").exists()


def test_a_merge_is_made_once_and_again_when_anything_has_changed(tmp_path, whole, capsys):
    adapter, out, stamp = adapter_on(whole, tmp_path / "adapter"), tmp_path / "merged", whole / "fetched.json"
    merging.merge(stamp, adapter, "float32", out)
    first = (out / "model.safetensors").stat().st_mtime_ns
    merging.merge(stamp, adapter, "float32", out)
    assert (out / "model.safetensors").stat().st_mtime_ns == first and "holds the merged weights already" in capsys.readouterr().err
    merging.merge(stamp, adapter, "bfloat16", out)
    assert load_file(out / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    shutil.rmtree(adapter)
    merging.merge(stamp, adapter_on(whole, adapter, r=2), "bfloat16", out)
    assert "holds" not in capsys.readouterr().err
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds no merged weights"):
        merging.merge(stamp, adapter, "float32", mine)
    assert (mine / "thesis.txt").is_file()


@pytest.mark.slow
def test_a_process_of_its_own_merges_and_passes_errors_on_as_one_line(tmp_path, whole, capfd):
    adapter = adapter_on(whole, tmp_path / "adapter")
    out = merging.merge_in_subprocess(whole / "fetched.json", adapter, "auto", tmp_path / "merged")
    assert merging.is_merged(out) and "merging: 20 of 20" in capfd.readouterr().err
    (adapter / "adapter_config.json").write_text(json.dumps(json.loads((adapter / "adapter_config.json").read_text()) | {"use_dora": True}))
    with pytest.raises(UserError) as error:
        merging.merge_in_subprocess(whole / "fetched.json", adapter, "auto", tmp_path / "other")
    assert str(error.value).startswith("adapter that cannot be merged in ") and "Traceback" not in capfd.readouterr().err


SLOW = """
import time, sys
from mentionforge.generation import merging
write = merging._write_file
def slow(*given):
    write(*given[:-1], lambda: time.sleep(0.05))
merging._write_file = slow
from mentionforge.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_merge_leaves_nothing_that_a_later_one_takes_for_whole(tmp_path, whole, number):
    adapter, out = adapter_on(whole, tmp_path / "adapter"), tmp_path / "merged"
    line = [sys.executable, "-c", SLOW, "generation", "merge", "--model", str(whole / "fetched.json"), "--adapter", str(adapter), "--out", str(out)]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".merged.tmp/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    assert not out.exists()
    merging.merge(whole / "fetched.json", adapter, "auto", out)
    assert merging.is_merged(out) and not list(tmp_path.glob(".*"))


def test_the_process_ends_with_the_one_that_wants_it(tmp_path, whole):
    adapter, out = adapter_on(whole, tmp_path / "adapter"), tmp_path / "merged"
    merge = [sys.executable, "-c", SLOW, "generation", "merge", "--model", str(whole / "fetched.json"), "--adapter", str(adapter), "--out", str(out)]
    starts = f"import os, subprocess; p = subprocess.Popen({merge!r} + ['--parent', str(os.getpid())]); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    child = int(parent.stdout.readline())
    while not list(tmp_path.glob(".merged.tmp/*.safetensors")):
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.05)
    assert not out.exists()


@pytest.mark.slow
def test_memory_is_that_of_a_tensor_not_of_the_model(tmp_path):
    """Twelve tensors of 32 MB, of which the process never holds more than a few."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"dtype": "float32"}')
    save_file({f"layers.{i}.q_proj.weight": torch.zeros(4096, 2048) for i in range(12)}, folder / "model.safetensors")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    pair = {"A": torch.ones(1, 2048), "B": torch.ones(4096, 1)}
    save_file(
        {f"base_model.model.layers.{i}.q_proj.lora_{k}.weight": v.clone() for i in range(12) for k, v in pair.items()}, adapter / "adapter_model.safetensors"
    )
    program = """
import resource, sys, threading, time
from pathlib import Path
import torch, safetensors
from mentionforge.generation import merging
held = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon"))
before, most = held(), [0]
def watch():
    while True:
        most[0] = max(most[0], held()); time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
merging.merge(Path(sys.argv[1]), Path(sys.argv[2]), "bfloat16", Path(sys.argv[3]))
print((most[0] - before) // 1024)
"""
    given = [str(stamp_of(folder)), str(adapter), str(tmp_path / "merged")]
    done = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    assert int(done.stdout) < 6 * 32, f"{done.stdout.strip()} MB"
    assert (tmp_path / "merged" / "model.safetensors").stat().st_size < 1.01 * 12 * 2 * 4096 * 2048
