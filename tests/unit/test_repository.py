"""What a stranger meets in the repository: versions agree, commands named in it exist, entry points lead somewhere, hosted workflows are well formed."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import mentionforge
from checkout import BIN, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, flags=re.M))
COMMUNITY = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "config/README.md", "docs/install.md")]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
"""Targets that are part of the site's own change."""


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert newest and {PROJECT["version"], mentionforge.__version__, citation["version"], newest[1]} == {PROJECT["version"]}
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PROJECT["license"]
    assert {"title", "message", "authors", "abstract", "keywords", "type"} <= set(citation)
    assert [author["given-names"] for author in citation["references"][0]["authors"]] == ["Kuleen", "Shinjitha", "Richard E.", "John D."]


def test_the_changelog_is_for_readers() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("### ")][:3] == ["### Added", "### Changed", "### Fixed"]
    assert max(map(len, lines)) <= 130


def test_make_help_lists_every_command() -> None:
    said = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.M)
    assert set(re.findall(r"^  make (\S+) +\S", said, flags=re.M)) == set(phony.split()) == TARGETS
    plain = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert plain == said


@pytest.mark.parametrize("path", [*COMMUNITY, *WORKFLOWS, ROOT / ".github/pull_request_template.md"], ids=lambda p: p.name)
def test_commands_and_files_named_for_contributors_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^ +|run: |&& |; )make ([a-z-]+)", text, flags=re.M))
    assert named <= TARGETS, named - TARGETS
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists(), link
    for file in re.findall(r"`((?:docs|tests|config|workflow|envs)/[\w./-]+\.(?:md|py|yaml|json|txt|sh))`", text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_hosted_workflows_are_well_formed(path: Path) -> None:
    """Triggers, rights to read alone, a limit of time for each job, and steps that run or use something."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(workflow[True]) >= {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120 and job["runs-on"] == "ubuntu-latest"
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_workflows_cover_tests_lint_docs_and_containers() -> None:
    assert {path.stem for path in WORKFLOWS} == {"tests", "lint", "docs", "containers"}
    units = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["units"]
    stated = {entry.rpartition(" ")[2] for entry in PROJECT["classifiers"] if "Python :: 3." in entry}
    assert set(units["strategy"]["matrix"]["python"]) == stated == {"3.11", "3.12", "3.13"}


def test_issue_forms_ask_something() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[bi]*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"] and any(field["type"] in ("textarea", "input") for field in form["body"])
        assert len({field["id"] for field in form["body"] if "id" in field}) == sum("id" in field for field in form["body"])


def test_hooks_run_what_lint_runs() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    lint = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    for hook in repository["hooks"]:
        assert hook["language"] == "system" and hook["entry"] in lint


def test_entry_points_lead_to_what_they_promise() -> None:
    """`mentionforge`, and the spaCy factory of the same name, as installed packages find them."""
    module, _, name = PROJECT["scripts"]["mentionforge"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    code = "import spacy; nlp = spacy.blank('en'); print(nlp.has_factory('mentionforge'), nlp.get_factory_meta('mentionforge').assigns)"
    module, _, name = PROJECT["entry-points"]["spacy_factories"]["mentionforge"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("True"), done.stderr


def test_files_of_the_package_that_are_no_code_are_in_the_wheel() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mentionforge"]
    package = ROOT / "workflow" / "mentionforge"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "versions.json"}
    assert files and files == {path for pattern in patterns for path in package.glob(pattern)}


def test_spelling() -> None:
    if not (BIN / "codespell").exists():
        pytest.skip("codespell is not installed here; `make lint` runs it")
    files = ["CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "docs", "config", ".github"]
    done = subprocess.run([BIN / "codespell", *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
