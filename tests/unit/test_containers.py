"""Container and conda files: pinned, without root, without weights. What they say is read, not built."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from checkout import ROOT

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
DEFINITIONS = sorted((ROOT / "docker").glob("*.def"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
[TORCH] = [pin for pin in PROJECT["dependencies"] if pin.startswith("torch==")]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def base_of(text: str) -> set[str]:
    return set(re.findall(r"python:3\S+", text))


def test_all_images_have_one_pinned_base() -> None:
    assert {p.stem for p in DOCKERFILES} == {p.stem for p in DEFINITIONS} == {"annotate", "workflow"}
    [base] = set.union(*(base_of(path.read_text()) for path in [*DOCKERFILES, *DEFINITIONS]))
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base), "to the patch version"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda p: p.stem)
def test_an_image_runs_without_root_and_takes_no_data(dockerfile: Path) -> None:
    done = instructions(dockerfile)
    assert {word for word, _ in done} <= {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    last = max(i for i, (word, _) in enumerate(done) if word == "FROM")
    assert ("USER", "1000") in done[last:] and done.index(("USER", "1000")) > max(i for i, (word, _) in enumerate(done) if word == "RUN")
    admitted = Path(f"{dockerfile}.dockerignore").read_text().split()
    assert admitted[0] == "*" and {line for line in admitted if line.startswith("!")} == {"!pyproject.toml", "!README.md", "!LICENSE", "!workflow/mentionforge"}
    assert TORCH in dockerfile.read_text()


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda p: p.stem)
def test_docker_and_apptainer_install_the_same(definition: Path) -> None:
    text, twin = definition.read_text(), definition.with_suffix(".Dockerfile").read_text()
    for pattern in (r"pip install (\S+)", r"apt-get install (.*?) &&", r"HF_HUB_OFFLINE=1"):
        mine = [found.replace('"{{', '"$TORCH"') for found in re.findall(pattern, text)]
        assert mine and mine == re.findall(pattern, twin), pattern
    assert f"torch={TORCH}" in text


def test_conda_environments_pin_every_direct_dependency() -> None:
    environment = yaml.safe_load((ROOT / "envs/mentionforge.yaml").read_text())
    python, _, inner = environment["dependencies"]
    assert python == "python=3.11" and TORCH in inner["pip"]
    assert all("==" in pin for pin in inner["pip"]) and len(inner["pip"]) > 30
    engine = yaml.safe_load((ROOT / "envs/vllm.yaml").read_text())["dependencies"][2]["pip"]
    assert [pin for pin in engine if pin.startswith("vllm==")], "which pins what it is built with"


def test_rules_name_an_environment_that_is_there() -> None:
    named = {found for path in (ROOT / "workflow/rules").glob("*.smk") for found in re.findall(r'conda:\n +"(.*?)"', path.read_text())}
    assert named == {"../../envs/mentionforge.yaml", "../../envs/vllm.yaml"}
