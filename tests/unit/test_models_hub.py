"""Models from a hub: every published form of weights loads, and what a job could not use is refused by the fetch, in one line.

The hub is a real server on the loopback address; its client reads its address and the cache's place at import, so each fetch is a process.
"""

import hashlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from hub import Hub, serve
from mentionforge import models
from published import REPOSITORIES, krissbert

BIOBERT, SAPBERT, KRISSBERT, LLAMA = REPOSITORIES
SHARDED_BIN = "lab/sharded-bin"
PINNED = "2e70a6447997aa07729c3dfe7cd2f177fd623b22"


class Done(NamedTuple):
    """A fetch that ended: exit code, its error lines, all it printed, the stamp file."""

    code: int
    errors: list[str]
    text: str
    stamp: Path

    @property
    def data(self) -> dict[str, Any]:
        assert self.code == 0, self.text
        return json.loads(self.stamp.read_text())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's four repositories, Llama-2 a second time with shards of .bin alone, and KrissBERT's revision with safetensors."""
    folder = tmp_path_factory.mktemp("repositories")
    for name, build in REPOSITORIES.items():
        build(folder / name)
    krissbert(folder / f"{KRISSBERT}@{PINNED}", safetensors=True)
    shutil.copytree(folder / LLAMA, folder / SHARDED_BIN, ignore=shutil.ignore_patterns("*.safetensors*"))
    (folder / SAPBERT / "tf_model.h5").write_bytes(b"not wanted")
    (folder / SAPBERT / "pytorch_model.bin").write_bytes(b"not wanted")
    (folder / SAPBERT / "onnx").mkdir()
    (folder / SAPBERT / "onnx/config.json").write_text("{}")
    return folder


@pytest.fixture
def hub(published: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub whose repositories the test may change."""
    shutil.copytree(published, tmp_path / "repositories")
    with serve(tmp_path / "repositories") as running:
        yield running


def command(reference: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "mentionforge.cli", "resources", "fetch-model", "m", "--settings", json.dumps({"hub": reference}), "--out", str(out / "fetched.json")]  # fmt: skip


def fetch(hub: Hub, reference: str, out: Path, cache: Path | None = None, **how: Any) -> Done:
    """Fetch a model with the command, into `out`; the cache is beside it unless one is named."""
    environment = {**os.environ, **hub.environment(cache or out.parent / "cache", **how)}
    done = subprocess.run(command(reference, out), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert "Traceback" not in done.stdout, done.stdout
    return Done(done.returncode, [line for line in done.stdout.splitlines() if line.startswith("error: ")], done.stdout, out / "fetched.json")


def refused(done: Done, *words: str) -> None:
    """Assert that a fetch ended with one line that has these words in this order, and no stamp."""
    assert done.code == 2 and len(done.errors) == 1 and not done.stamp.exists(), done.text
    rest = done.errors[0]
    for word in words:
        assert word in rest, f"{word!r} is not in order in {done.errors[0]!r}"
        rest = rest.partition(word)[2]


def original(repository: Path) -> dict[str, torch.Tensor]:
    """All tensors of a repository's .bin files under today's names, read without the code under test."""
    found: dict[str, torch.Tensor] = {}
    for file in sorted(repository.glob("pytorch_model*.bin")):
        found |= torch.load(file, weights_only=True)
    return {name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): value for name, value in found.items()}


# ------------------------------------------------------------------------------------------------------- what is published


@pytest.mark.slow
@pytest.mark.parametrize("repository", [BIOBERT, KRISSBERT, LLAMA, SHARDED_BIN])
def test_every_published_form_loads_with_its_own_weights(repository: str, hub: Hub, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    done = fetch(hub, repository, tmp_path / "m")
    place = models.folder(done.stamp) if done.code == 0 else pytest.fail(done.text)
    causal = repository in (LLAMA, SHARDED_BIN)
    model = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(place, use_safetensors=True, local_files_only=True, dtype=torch.float32)
    wanted = {name.removeprefix("bert."): value for name, value in original(hub.folder / repository).items()}
    loaded = dict(model.state_dict())
    assert len(loaded) > 20
    assert [name for name, value in loaded.items() if "pooler" not in name and not torch.equal(value, wanted[name].float())] == []
    assert AutoTokenizer.from_pretrained(place, local_files_only=True).unk_token_id is not None
    assert (place / "generation_config.json").is_file() == causal
    # What was downloaded, and what the stamp says of it.
    assert not any(name.endswith(".bin") for name in hub.downloaded()) if repository == LLAMA else any(name.endswith(".bin") for name in hub.downloaded())
    stamp = done.data
    assert stamp["revision"] == hub.commit(repository) and stamp["reference"] == {"hub": repository}
    assert set(stamp["files"]) == hub.downloaded()
    for name, file in stamp["files"].items():
        assert file["sha256"] == hashlib.sha256((hub.folder / repository / name).read_bytes()).hexdigest()


def test_only_what_is_needed_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    assert fetch(hub, SAPBERT, tmp_path / "m").code == 0
    assert hub.downloaded() == {"config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "model.safetensors"}


@pytest.mark.slow
def test_a_revision_is_pinned_and_the_main_branch_is_recorded(hub: Hub, tmp_path: Path) -> None:
    pinned = fetch(hub, f"{KRISSBERT}@{PINNED}", tmp_path / "pinned").data
    assert pinned["revision"] == PINNED and "model.safetensors" in pinned["files"] and pinned["reference"] == {"hub": f"{KRISSBERT}@{PINNED}"}
    before = fetch(hub, KRISSBERT, tmp_path / "main").data
    (hub.folder / KRISSBERT / "README.md").write_text("the branch moves on\n")
    after = fetch(hub, KRISSBERT, tmp_path / "main").data
    assert before["revision"] != after["revision"] == hub.commit(KRISSBERT) and before["sha256"] == after["sha256"]
    hub.requests.clear()
    assert fetch(hub, f"{KRISSBERT}@{PINNED}", tmp_path / "pinned").data == pinned and not hub.downloaded()


@pytest.mark.slow
def test_without_a_network_the_cache_is_enough(hub: Hub, tmp_path: Path) -> None:
    """Offline by setting, and offline since nothing answers: the same stamps from the cache; without a cache, one line."""
    cache = tmp_path / "cache"
    with_network = {name: fetch(hub, name, tmp_path / "a" / name, cache).data for name in (BIOBERT, SAPBERT)}
    hub.requests.clear()
    for name, stamp in with_network.items():
        assert fetch(hub, name, tmp_path / "b" / name, cache, offline=True).data == stamp
    assert hub.requests == []
    refused(
        fetch(hub, LLAMA, tmp_path / "c", cache, offline=True),
        "missing model in config: models.m.hub: ",
        "HF_HUB_OFFLINE is set; fetch it where there is a network",
    )
    (cache / "hub" / f"models--{SAPBERT.replace('/', '--')}" / "snapshots" / str(hub.commit(SAPBERT)) / "vocab.txt").unlink()
    refused(
        fetch(hub, SAPBERT, tmp_path / "d", cache, offline=True),
        "the cached copy of",
        "holds no tokenizer.json, vocab.txt",
        "fetch it where there is a network",
    )
    hub.down = True
    refused(fetch(hub, LLAMA, tmp_path / "f", cache), "unreachable model in config: models.m.hub: ", "the hub answers 503", "fetch it where there is a network")
    hub.port = 1  # nobody listens there
    assert fetch(hub, BIOBERT, tmp_path / "g", cache).data == with_network[BIOBERT]
    refused(
        fetch(hub, LLAMA, tmp_path / "h", cache),
        "unreachable model",
        "could not be downloaded from http://127.0.0.1:1 (Connection",
        "or set `path` to a local copy",
    )


# ---------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.slow
def test_who_may_not_read_is_told_why(hub: Hub, tmp_path: Path) -> None:
    hub.gated = {LLAMA}
    hub.tokens = {"hf_mine": set(), "hf_accepted": {LLAMA}}
    nobody = fetch(hub, LLAMA, tmp_path / "m")
    refused(nobody, "gated model in config: models.m.hub: ", "you are not logged in; accept it on ", f"/{LLAMA}, then set HF_TOKEN or run `hf auth login`")
    stranger = fetch(hub, LLAMA, tmp_path / "m", token="hf_mine")
    refused(stranger, "gated model in config: models.m.hub: your account has no access", "not in the authorized list", "accept its licence on")
    refused(fetch(hub, LLAMA, tmp_path / "m", token="hf_old"), "refused token in HF_TOKEN: ", "Invalid credentials", "/settings/tokens, or unset it")
    refused(fetch(hub, SAPBERT, tmp_path / "m", token="hf_old"), "refused token in HF_TOKEN: ")
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache/token").write_text("hf_old")
    refused(fetch(hub, SAPBERT, tmp_path / "m"), f"refused token in {tmp_path / 'cache/token'}: ")
    assert fetch(hub, LLAMA, tmp_path / "m", token="hf_accepted").code == 0
    refused(fetch(hub, "lab/gone", tmp_path / "n", token="hf_mine"), "unknown model in config: models.m.hub: the hub has no lab/gone for you; correct the name")
    refused(
        fetch(hub, f"{SAPBERT}@v9", tmp_path / "n", token="hf_mine"),
        "unknown revision in config: models.m.hub: ",
        "has no revision v9; give a branch, a tag or",
    )
    refused(fetch(hub, f"{SAPBERT}@{'0' * 40}", tmp_path / "n", token="hf_mine"), "unknown revision in config: models.m.hub: ", "has no revision 0000")
    refused(fetch(hub, "a/b/c", tmp_path / "n", token="hf_mine"), "bad value in config: models.m.hub: ", "write ORG/NAME")


def test_an_unknown_name_without_a_login(hub: Hub, tmp_path: Path) -> None:
    refused(fetch(hub, "lab/gone", tmp_path / "m"), "unknown model in config: models.m.hub: ", "correct the name; if it is private, set HF_TOKEN")


@pytest.mark.parametrize(
    ("repository", "remove", "words"),
    [
        (BIOBERT, ["vocab.txt"], ("no tokenizer in config: models.m.hub: ", "holds no tokenizer.json, vocab.txt", "choose a repository or revision")),
        (BIOBERT, ["pytorch_model.bin"], ("no weights in config: models.m.hub: ", "holds no model.safetensors and no pytorch_model.bin", "choose a rep")),
        (SAPBERT, ["model.safetensors", "pytorch_model.bin"], ("no weights in config: models.m.hub: ", "only tf_model.h5")),
        (SAPBERT, ["config.json"], ("missing model in config: models.m.hub: ", "holds no config.json")),
        (LLAMA, ["model-00002-of-00002.safetensors"], ("missing shard in config: models.m.hub: ", "lacks model-00002-of-00002.safetensors (1 of 2 shards)")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_a_job_could_not_use_is_refused(repository: str, remove: list[str], words: tuple[str, ...], hub: Hub, tmp_path: Path) -> None:
    for name in remove:
        (hub.folder / repository / name).unlink()
    refused(fetch(hub, repository, tmp_path / "m"), *words)
    assert not any(name.endswith((".bin", ".safetensors")) for name in hub.downloaded()), "refused before anything large is downloaded"


@pytest.mark.slow
def test_cut_off_and_changed_downloads(hub: Hub, tmp_path: Path) -> None:
    """Each is one line, leaves nothing that counts as whole, and the next fetch is right."""
    hub.short = {"model.safetensors"}
    refused(fetch(hub, SAPBERT, tmp_path / "m"), "cut-off download in config: models.m.hub: ", "run it again")
    hub.short, hub.changed = set(), {"model.safetensors"}
    refused(fetch(hub, SAPBERT, tmp_path / "m"), "damaged download in config: models.m.hub: ", "model.safetensors has not the SHA-256 that the hub gives")
    hub.changed = {"vocab.txt"}
    refused(
        fetch(hub, SAPBERT, tmp_path / "m", tmp_path / "other"), "damaged download in config: models.m.hub: ", "vocab.txt is not the file that the hub lists"
    )
    hub.changed, hub.cut = set(), {"model.safetensors"}
    refused(fetch(hub, SAPBERT, tmp_path / "m", tmp_path / "third"), "cut-off download in config: models.m.hub: ", "run it again")
    hub.cut = set()
    stamp = fetch(hub, SAPBERT, tmp_path / "m").data
    # The cache is damaged afterwards, its size unchanged: the file is downloaded again.
    file = (Path(stamp["folder"]) / "model.safetensors").resolve()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    again = fetch(hub, SAPBERT, tmp_path / "m")
    assert again.data == stamp and "downloading it again" in again.text
    assert hashlib.sha256(file.read_bytes()).hexdigest() == stamp["files"]["model.safetensors"]["sha256"]


def test_a_full_disk_is_one_line_and_names_the_cache(hub: Hub, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    environment = {**os.environ, **hub.environment(tmp_path / "cache")}
    limit = (300_000, 300_000)
    done = subprocess.run(
        command(SAPBERT, tmp_path / "m"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    refused(
        Done(done.returncode, [line for line in done.stderr.splitlines() if line.startswith("error: ")], done.stderr, tmp_path / "m/fetched.json"),
        f"no space in {tmp_path / 'cache/hub'}: ", "does not fit; free some, or set HF_HOME to a larger disk",
    )  # fmt: skip


def test_a_stamp_whose_cache_was_cleared_names_the_command_that_restores_it(hub: Hub, tmp_path: Path) -> None:
    from mentionforge.errors import UserError

    done = fetch(hub, SAPBERT, tmp_path / "m")
    before = done.stamp.read_bytes()
    shutil.rmtree(done.data["folder"])
    with pytest.raises(UserError, match=r"missing model in .*fetched\.json: its folder .* is gone; run: mentionforge resources fetch-model m ") as caught:
        models.folder(done.stamp)
    command = [sys.executable, "-m", "mentionforge.cli", *shlex.split(str(caught.value).partition("run: ")[2])[1:]]
    subprocess.run(command, check=True, env={**os.environ, **hub.environment(tmp_path / "cache")}, capture_output=True)
    assert done.stamp.read_bytes() == before and models.folder(done.stamp).is_dir()


@pytest.mark.slow
def test_a_fetch_killed_in_the_middle_of_a_download(hub: Hub, tmp_path: Path) -> None:
    hub.stalled = {"model-00002-of-00002.safetensors"}
    out = tmp_path / "m"
    running = subprocess.Popen(
        command(LLAMA, out), env={**os.environ, **hub.environment(tmp_path / "cache")}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(600):
        if any(path.startswith("/storage/") and path.endswith("00002-of-00002.safetensors") for _, path in hub.requests):
            break
        time.sleep(0.1)
    time.sleep(0.3)
    running.kill()
    assert running.wait() == -9 and not (out / "fetched.json").exists()
    hub.stalled = set()
    done = fetch(hub, LLAMA, out)
    for name, file in done.data["files"].items():
        assert hashlib.sha256((models.folder(done.stamp) / name).read_bytes()).hexdigest() == file["sha256"]
        assert (hub.folder / LLAMA / name).stat().st_size == file["size"]
