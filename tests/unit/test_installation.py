"""Installation: the lock and what is exported from it agree with pyproject.toml, name the public registry only, and are what install.sh installs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
LOCKED = {package["name"]: package for package in LOCK["package"]}
EXPORTED = [ROOT / "envs" / name for name in ("locked.txt", "locked-torch.txt")]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(requirements: list[str]) -> set[tuple[str, str]]:
    return {(normalized(name), version) for name, version in (pin.split("==") for pin in requirements)}


def test_the_lock_is_that_of_the_project() -> None:
    written = LOCKED["mentionforge"]["metadata"]
    stated: dict[str, list[str]] = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    for extra, requirements in stated.items():
        of_extra = [r for r in written["requires-dist"] if r.get("marker", "") == (f"extra == '{extra}'" if extra else "")]
        assert {(r["name"], r["specifier"].removeprefix("==")) for r in of_extra} == pins(requirements), f"extra '{extra}': make lock"
    assert set(written["provides-extras"]) == set(PROJECT["optional-dependencies"])
    assert LOCK["requires-python"] == PROJECT["requires-python"]


def test_the_lock_names_the_public_registry_only() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert set(re.findall(r"[a-z+]+://[^/\"' ]+", text)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert {next(iter(package["source"])) for package in LOCK["package"]} == {"registry", "editable"}
    assert not re.search(r"://|--(extra-)?index|--find-links", "".join(path.read_text(encoding="utf-8") for path in EXPORTED))


def test_exported_files_hold_the_whole_lock_with_its_digests() -> None:
    lines = "".join(path.read_text(encoding="utf-8").replace("\\\n", " ") for path in EXPORTED)
    found = re.findall(r"^([a-z0-9.-]+)==(\S+)(.*)$", lines, flags=re.M)
    assert {(name, version) for name, version, _ in found} == {(name, p["version"]) for name, p in LOCKED.items() if name != "mentionforge"}
    assert len(found) == len({name for name, _, _ in found})
    for name, _, rest in found:
        files = [*LOCKED[name].get("wheels", []), *([LOCKED[name]["sdist"]] if "sdist" in LOCKED[name] else [])]
        assert set(re.findall(r"sha256:[0-9a-f]{64}", rest)) == {file["hash"] for file in files}, name


def test_cuda_is_in_a_file_of_its_own() -> None:
    everything, torch = (set(re.findall(r"^([a-z0-9.-]+)==", path.read_text(encoding="utf-8"), flags=re.M)) for path in EXPORTED)
    assert {"torch", "triton", "nvidia-cublas"} <= torch and all(name == "torch" or name == "triton" or name.startswith(("nvidia-", "cuda-")) for name in torch)
    assert not any(name.startswith(("nvidia-", "cuda-")) for name in everything)


@pytest.mark.parametrize("python", ["311", "312", "313"])
def test_every_package_can_be_had_for_each_python(python: str) -> None:
    """A wheel for this Python on Linux with an x86-64 processor, or a source distribution."""
    for name, package in LOCKED.items():
        tags = [file["url"].rsplit("/", 1)[1] for file in package.get("wheels", [])]
        fits = [t for t in tags if re.search(rf"-(py3|py2\.py3|py310|cp{python}|cp3\d+)-(none|abi3|cp{python})-(any|manylinux\S*x86_64|linux_x86_64)", t)]
        assert fits or "sdist" in package or name == "mentionforge", name


# ------------------------------------------------------------------------------------------------------- install.sh

STAND_IN = """#!/bin/sh
echo "{name} $*" >> "$CALLS"
case "$*" in {refuses}) exit 1;; esac
case "$*" in "venv "*|"-m venv "*) for last; do :; done; mkdir -p "$last/bin"; cp "$STAND_INS/pip" "$last/bin/pip"; cp "$STAND_INS/pip" "$last/bin/python";; esac
"""


def calls(tmp_path: Path, refuses: str = "nothing", uv: bool = True, **environment: str) -> list[str]:
    """What install.sh asks uv or pip for, with stand-ins that refuse commands with these words."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("uv", "pip"):
        (tools / name).write_text(STAND_IN.format(name=name, refuses=refuses))
        (tools / name).chmod(0o755)
    (tools / "python3").write_text(f'#!/bin/sh\ncase "$*" in -c*) exit 0;; esac\nexec {tools}/pip "$@"\n')
    (tools / "python3").chmod(0o755)
    if not uv:
        environment["INSTALLER"] = "pip"
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "STAND_INS": str(tools), **environment}
    done = subprocess.run(["bash", ROOT / "envs/install.sh", tmp_path / "venv"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.replace(str(ROOT / "envs"), "ENVS") for line in (tmp_path / "calls").read_text().splitlines() if "pip config" not in line]


LAST = [r"--no-deps --requirement ENVS/locked.txt$", r"--no-deps --no-build-isolation --editable ENVS/..$"]
CPU_INDEX = "--no-deps --index-url https://download.pytorch.org/whl/cpu torch==2.13.0$"


@pytest.mark.parametrize("uv", [True, False], ids=["uv", "pip"])
@pytest.mark.parametrize(
    ("refuses", "environment", "expected"),
    [
        ("nothing", {"TORCH_BUILD": "cpu"}, ["--no-index --no-deps torch==2.13.0$"]),
        ("*--no-index*", {"TORCH_BUILD": "cpu"}, ["--no-index", CPU_INDEX]),
        ("*--no-index*|*whl/cpu*", {"TORCH_BUILD": "cpu"}, ["--no-index", CPU_INDEX, "--no-deps --requirement ENVS/locked-torch.txt$"]),
        ("nothing", {"TORCH_BUILD": "cuda"}, ["--no-deps --requirement ENVS/locked-torch.txt$"]),
        ("nothing", {"TORCH": "torch==2.13.0+cu130"}, [r"torch==2.13.0\+cu130$"]),
    ],
)
def test_the_build_of_torch_that_is_asked_for(uv: bool, refuses: str, environment: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    made, *installed = calls(tmp_path, refuses, uv, **environment)
    assert re.match(r"uv venv .*--seed" if uv else r"pip -m venv ", made)
    assert len(installed) == len(expected) + 2, installed
    for line, pattern in zip(installed, [*expected, *LAST], strict=True):
        assert line.startswith("uv pip install" if uv else "pip install") and re.search(pattern, line), line


def test_without_a_driver_linux_gets_the_build_for_cpus(tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver")
    assert "--no-index --no-deps torch==2.13.0" in calls(tmp_path)[1]


def test_torch_has_one_version() -> None:
    [torch] = [pin for pin in PROJECT["dependencies"] if pin.startswith("torch==")]
    assert f"wanted={torch}\n" in (ROOT / "envs/install.sh").read_text(encoding="utf-8")
    assert LOCKED["torch"]["version"] == torch.removeprefix("torch==")
