"""Versions of the parts of the code: that each is stated beside the code, and that code does not change in substance unnoticed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mentionforge import sources, versions
from mentionforge.config import load_config, spec, spec_text
from mentionforge.errors import UserError

LENGTH = "generation/filters/text.py"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, all of it confirmed."""
    folder = tmp_path / "mentionforge"
    shutil.copytree(versions.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    versions.confirm(versions.VERSIONED_CODE, folder)
    return folder


def edit(package: Path, module: str, old: str, new: str) -> None:
    path = package / module
    text = path.read_text()
    assert text.count(old) >= 1, f"{module} has {old!r}"
    path.write_text(text.replace(old, new, 1))


def named(lines: list[str]) -> set[str]:
    return {line.partition(":")[0] for line in lines}


def test_code_and_versions_of_this_checkout_are_confirmed() -> None:
    """Where it fails, each line says what to do: raise the version of a part, or confirm that its results stay as they are."""
    lines = [*versions.changed(), *versions.unrecorded()]
    assert not lines, "\n".join(lines)


def test_every_part_states_a_version_and_has_code() -> None:
    for part in versions.VERSIONED_CODE:
        assert versions.number(part) >= versions.VERSIONED_CODE[part].first >= 1
        assert versions.code_of(part)
    kept = json.loads((versions.PACKAGE / versions.CONFIRMED).read_text())
    assert set(kept) == set(versions.VERSIONED_CODE)
    lines = (versions.PACKAGE / versions.CONFIRMED).read_text().splitlines()
    assert len(lines) == len(kept) + 2 and lines[1:-1] == sorted(lines[1:-1]), "one line for each part, sorted: merges meet in few lines"


def test_every_module_of_a_stage_is_part_of_something() -> None:
    """A new module that makes results is reached by a part; the modules listed here make none, or only for people who read or convert."""
    exempt = {
        "corpora/convert.py", "corpora/show.py", "external/questions.py", "kb/show.py", "normalization/loaded.py",
        "report/difference.py", "report/document.py", "report/published.py", "report/rulegraph.py", "report/watch.py",
    }  # fmt: skip
    reached = {module for part in versions.VERSIONED_CODE for module in versions.code_of(part)}
    stages = ("kb", "corpora", "generation", "augmentation", "recognition", "normalization", "external", "evaluation", "report")
    there = {str(path.relative_to(versions.PACKAGE)) for stage in stages for path in (versions.PACKAGE / stage).rglob("*.py")}
    left = {
        module for module in there - reached - exempt - versions.MODULES_WITHOUT_RESULTS if not module.endswith(("commands.py", "__init__.py", "settings.py"))
    }
    assert not left, f"name them in versions.VERSIONED_CODE: {sorted(left)}"
    assert not exempt & reached


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('    """Drop notes with too few or too many words."""', '    """Words: too few or too many."""'),
        ('    """Drop notes with too few or too many words."""\n', ""),
        ("    counts = {note.note_id", "    # how many\n    counts = {note.note_id"),
        ("    counts = {note.note_id", "    counts: dict[str, int] = {note.note_id"),
        ("def length(notes: Sequence[Note], settings: Length, _: FilterContext) -> Reasons:", "def length(notes, settings, _):"),
        ('{i: f"{n} words" for i, n in counts.items() if not', '{\n        i: f"{n} words"\n        for i, n in counts.items()\n        if not'),
    ],
)
def test_words_and_layout_change_nothing(package: Path, old: str, new: str) -> None:
    edit(package, LENGTH, old, new)
    assert versions.changed(package) == []


@pytest.mark.parametrize(
    ("module", "old", "new", "parts"),
    [
        (LENGTH, "if not settings.min_words <= n <=", "if not settings.min_words < n <=", {"filter.length"}),
        (LENGTH, 'f"{n} words"', 'f"{n} Words"', {"filter.length"}),
        (LENGTH, '"as an ai"', '"as a machine"', {"filter.refusal"}),
        ("generation/filters/contract.py", 'r"\\w+"', 'r"\\S+"', {"generation.filter"}),
        ("generation/filtering.py", "EXAMPLES = 20", "EXAMPLES = 21", {"generation.filter"}),
        ("generation/filters/copies.py", "        if shared:  #", "        if len(shared) > 1:  #", {"filter.leakage", "filter.memorization"}),
    ],
)
def test_substance_is_noticed_until_raised_or_confirmed(package: Path, module: str, old: str, new: str, parts: set[str]) -> None:
    edit(package, module, old, new)
    lines = versions.changed(package)
    assert named(lines) == parts
    for part, line in zip(sorted(parts), sorted(lines), strict=True):
        assert "\n" not in line and module in line and f"mentionforge dev raise {part}" in line and f"mentionforge dev confirm {part}" in line
    *others, last = sorted(parts)
    versions.confirm(others, package)
    assert named(versions.changed(package)) == {last}
    before = versions.number_in(last, package)
    assert versions.raise_version(last, package) == before + 1 == versions.number_in(last, package)
    assert versions.changed(package) == versions.unrecorded(package) == []


def test_a_version_raised_by_hand_is_enough_but_is_to_be_written_down(package: Path) -> None:
    """Otherwise the next change would pass for the same one."""
    edit(package, LENGTH, "settings.min_words <= n <=", "settings.min_words < n <=")
    edit(package, LENGTH, '"length": 1', '"length": 2')
    assert versions.changed(package) == [] and named(versions.unrecorded(package)) == {"filter.length"}
    versions.confirm(["filter.length"], package)
    assert versions.unrecorded(package) == []
    edit(package, LENGTH, "settings.min_words < n <=", "settings.min_words < n <")
    assert named(versions.changed(package)) == {"filter.length"}


def test_shared_modules_are_code_of_all_parts_that_import_them(package: Path) -> None:
    edit(package, "text.py", "def normalize_surface", "X = 3\n\n\ndef normalize_surface")
    parts = named(versions.changed(package))
    assert {"generation.locate", "normalization.tfidf", "normalization.exact", "kb.ontologies", "corpora.read"} <= parts
    assert parts.isdisjoint({"kb.rrf", "downloads", "normalization.fuse", "filter.length"})
    versions.confirm(versions.VERSIONED_CODE, package)
    assert versions.changed(package) == []


@pytest.mark.slow
@pytest.mark.parametrize(("family", "folder"), versions.FAMILIES.items())
def test_a_new_file_of_a_kind_is_a_part_by_itself(package: Path, family: str, folder: str) -> None:
    """It needs no line in `VERSIONED_CODE`, and its code is watched as that of the others; one that states no version is none."""
    (package / folder / "shouting.py").write_text("VERSION = 1\nLOUD = 1\n")
    (package / folder / "helper.py").write_text("LOUD = 1\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mentionforge.cli", "dev", *arguments]
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(package.parent)}, capture_output=True, text=True, check=False)

    part = f"{family}.shouting"
    assert run("versions").stderr.startswith(f"error: {part}: ")
    assert run("confirm", "--all").returncode == 0
    assert f"{part}: 1" in run("versions").stdout.splitlines()
    edit(package, f"{folder}/shouting.py", "LOUD = 1", "LOUD = 2")
    done = run("versions")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {part}: ") and done.stderr.count("\n") == 1
    assert run("raise", part).stdout == f"{part}: 2\n" and run("versions").returncode == 0
    assert f"{family}.helper" not in run("versions").stdout


def test_files_that_are_no_python_count_as_they_are(package: Path) -> None:
    edit(package, "report/page/page.css", "{", "{ /* said */")
    assert named(versions.changed(package)) == {"report.page"}


def test_a_file_with_marks_of_a_merge_is_one_error_and_mended_by_confirming_all(package: Path) -> None:
    path = package / versions.CONFIRMED
    path.write_text("<<<<<<< ours\n" + path.read_text())
    with pytest.raises(UserError, match="dev confirm --all"):
        versions.changed(package)
    versions.confirm(versions.VERSIONED_CODE, package)
    assert versions.changed(package) == []


def test_mistakes_of_those_who_write_code_are_one_line(package: Path) -> None:
    for call in (versions.confirm, lambda parts, folder: versions.raise_version(parts[0], folder)):
        with pytest.raises(UserError, match="unknown part"):
            call(["filter.lenght"], package)
    edit(package, LENGTH, "def length(", "def long(")
    with pytest.raises(UserError, match=r"filter\.length names length"):
        versions.code_of("filter.length", package)


def test_code_that_cannot_be_read_is_one_line(package: Path) -> None:
    path = package / LENGTH
    kept = path.read_text()
    path.write_text(f"{kept}\nx = (\n")
    with pytest.raises(UserError, match=rf"^broken code in {LENGTH}:\d+: .*; correct it$"):
        versions.changed(package)
    path.write_text(kept)
    for value in ('"2"', "0", "True", "None"):
        edit(package, "generation/prompts.py", "VERSION = 2", f"VERSION = {value}")
        for call in (lambda: versions.unrecorded(package), lambda: versions.raise_version("generation.prompts", package)):
            with pytest.raises(UserError, match=r"^bad version in generation/prompts\.py: .* is no whole number from 1"):
                call()
        edit(package, "generation/prompts.py", f"VERSION = {value}", "VERSION = 2")
    path.rename(path.with_name("sieves.py"))
    with pytest.raises(UserError, match=rf"^missing module in {LENGTH}: a part names it, and it is not there; correct versions\.VERSIONED_CODE$"):
        versions.changed(package)


@pytest.mark.parametrize("content", ["[]", '{"models": 3}', '{"models": ["1", {}]}', '{"models": [1, []]}', "<<<<<<<"])
def test_a_list_of_versions_that_is_none_is_one_line(package: Path, content: str) -> None:
    (package / versions.CONFIRMED).write_text(content)
    for check in (versions.changed, versions.unrecorded):
        with pytest.raises(UserError, match=r"unreadable file in .*; run `mentionforge dev confirm --all`"):
            check(package)


def test_a_version_is_not_raised_where_its_code_cannot_be_told(package: Path) -> None:
    """Otherwise the next try would raise it again."""
    edit(package, LENGTH, "def length(", "def long(")
    before = (package / LENGTH).read_text()
    with pytest.raises(UserError, match=r"filter\.length names length"):
        versions.raise_version("filter.length", package)
    assert (package / LENGTH).read_text() == before


@pytest.mark.parametrize(
    "line", ["import mentionforge.generation.more as more", "from . import more", "from .more import f", "from .. import generation, more"]
)
def test_however_a_module_is_imported_it_is_code_of_the_part(package: Path, line: str) -> None:
    edit(package, "generation/prompts.py", "import hashlib", f"import hashlib\n{line}")
    module = "more.py" if ".. " in line else "generation/more.py"
    (package / module).write_text("def f():\n    return 1\n")
    versions.confirm(versions.VERSIONED_CODE, package)
    edit(package, module, "return 1", "return 2")
    assert "generation.prompts" in named(versions.changed(package))


@pytest.mark.slow
def test_an_installed_copy_is_not_that_of_the_checkout(package: Path, tmp_path: Path) -> None:
    """Where the package is installed without `-e`, these commands would tell of that copy, and change it."""
    site = tmp_path / "site-packages"
    site.mkdir()
    package.rename(site / "mentionforge")
    folder = tmp_path / "checkout/workflow/mentionforge"
    folder.mkdir(parents=True)
    (folder / versions.CONFIRMED).write_text("{}")
    for arguments, where, code in (
        (["versions"], tmp_path, 0),
        (["versions"], tmp_path / "checkout", 2),
        (["confirm", "--all"], tmp_path, 2),
        (["raise", "filter.length"], tmp_path, 2),
    ):
        command = [sys.executable, "-m", "mentionforge.cli", "dev", *arguments]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=False, cwd=where)
        assert done.returncode == code, (arguments, done.stderr)
        assert not code or (done.stderr.startswith("error: installed copy in ") and done.stderr.endswith("; install the checkout: pip install -e .\n"))


@pytest.mark.slow
def test_the_command(package: Path) -> None:
    """`mentionforge dev versions` is the check of `make lint`: it ends with 2 and one line for each part."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(package.parent)}
        return subprocess.run([sys.executable, "-m", "mentionforge.cli", "dev", *arguments], env=environment, capture_output=True, text=True, check=False)

    done = run("versions")
    assert done.returncode == 0 and f"filter.length: {versions.number('filter.length')}" in done.stdout.splitlines(), done.stderr
    edit(package, LENGTH, "settings.min_words <= n <=", "settings.min_words < n <=")
    done = run("versions")
    assert done.returncode == 2 and done.stderr.startswith("error: filter.length: ") and done.stderr.count("\n") == 1
    assert run("confirm").returncode == 2 and run("confirm", "--all").returncode == 0 and run("versions").returncode == 0
    assert run("raise", "filter.length").stdout == f"filter.length: {versions.number('filter.length') + 1}\n"


PYTHONS = [path for name in ("python3.11", "python3.12", "python3.13") if (path := shutil.which(name))]
DIGESTS = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
errors = types.ModuleType("mentionforge.errors"); errors.UserError = Exception
package = types.ModuleType("mentionforge"); package.__path__ = [sys.argv[1]]
sys.modules |= {"mentionforge": package, "mentionforge.errors": errors}
from mentionforge import versions
print(json.dumps({part: versions.code_of(part) for part in versions.VERSIONED_CODE}, sort_keys=True))
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_the_digest_is_the_same_for_every_python(python: str, tmp_path: Path) -> None:
    """Python of this machine, whichever there are; no library is needed."""
    done = subprocess.run([python, "-c", DIGESTS, str(versions.PACKAGE)], capture_output=True, text=True, cwd=tmp_path, check=False)
    if done.returncode and "mentionforge" not in done.stderr:
        pytest.skip(f"{python} does not run")
    assert json.loads(done.stdout) == {part: versions.code_of(part) for part in versions.VERSIONED_CODE}, done.stderr


def test_code_that_versions_of_python_parse_otherwise() -> None:
    """F-strings, quotes in them, and type parameters aside, equal code has equal digests however it is written."""
    same = ['x = f"{a!r:>{w}}" "b" f"c{d:.2f}"', "x = f'{a!r:>{w}}bc{d:.2f}'", 'x: str = f"""{a!r:>{w}}b"""f"c{d:.2f}"  # said']
    assert len({sources.parsed(text.encode()).named["x"] for text in same}) == 1


# ---------------------------------------------------------------------------------------------------------------- specs


def test_specs_hold_the_versions_of_what_reads_them_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a number that each part has alone."""
    numbers = {part: 100 + i for i, part in enumerate(versions.VERSIONED_CODE)}
    monkeypatch.setattr(versions, "number", numbers.__getitem__)
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["linkers"] |= {"aligned": {"kind": "self_aligned", "model": "minilm"}, "both": {"kind": "hybrid", "linkers": ["mention", "tfidf"]}}
    raw["linkers"]["cross"] = {"kind": "rerank", "linker": "mention", "model": "minilm"}
    config = load_config(raw)
    expected = {
        ("kbs", "demo", None): "kb.rrf",
        ("corpora", "demo_ncbi", None): "corpora.read",
        ("generators", "smollm2", "prompts"): "generation.prompts",
        ("generators", "smollm2", "finetune"): "generation.pairs",
        ("generators", "smollm2", "sampling"): "generation.sample",
        ("generators", "names", "locate"): "generation.locate",
        ("generators", "names", "filter"): "generation.filter",
        ("strategies", "naive", None): "augmentation.choose",
        ("recognizers", "minilm", None): "recognition.train",
        ("recognizers", "dictionary", None): "recognition.dictionary",
        ("linkers", "mention", None): "normalization.embed",
        ("linkers", "context", None): "normalization.embed",
        ("linkers", "tfidf", None): "normalization.tfidf",
        ("linkers", "exact", None): "normalization.exact",
        ("linkers", "aligned", None): "normalization.align",
        ("linkers", "both", None): "normalization.fuse",
        ("linkers", "cross", None): "normalization.rerank",
        ("indexes", "kb", None): "normalization.search",
        ("parts", "filter.length", None): "filter.length",
        ("evaluation", "normalization", None): "evaluation.normalization",
        ("statistics", "compare", None): "statistics.compare",
        ("report", "page", None): "report.page",
    }
    for (kind, name, part), owner in expected.items():
        assert spec(config, kind, name, part)["stage_version"] == numbers[owner], owner
    assert spec(config, "statistics", "compare")["settings"] == config.statistics.model_dump(mode="json")
    assert spec(config, "report", "page")["settings"] == config.report.model_dump(mode="json")


def test_kinds_of_recognizers_name_parts_that_exist() -> None:
    from mentionforge.recognition.kinds import RECOGNIZERS

    assert [kind.part for kind in RECOGNIZERS] == ["recognition.train", "recognition.dictionary", "external.spans"]
    assert {kind.part for kind in RECOGNIZERS} <= set(versions.VERSIONED_CODE)


def test_kinds_of_generators_and_backends_name_parts_that_exist() -> None:
    from mentionforge.generation import backends, kinds

    assert {name: kind.part for name, kind in backends.BACKENDS.items()} == {
        name: f"backend.{name}" for name in ("transformers", "continuous", "vllm", "openai")
    }
    expected = ["generation.sample", "generation.control", "generation.replay", "generation.replacement", "generation.sample"]
    assert [kind.notes_part for kind in kinds.GENERATORS] == expected
    assert {part for kind in kinds.GENERATORS for part in (kind.prompts_part, kind.notes_part)} <= set(versions.VERSIONED_CODE)


def test_generators_say_whether_they_train_and_what_they_read() -> None:
    from mentionforge.generation.kinds import ControlGenerator, LlmGenerator, ReplayGenerator

    server = {"kind": "openai", "base_url": "http://localhost/v1", "model": "m"}
    tuned = LlmGenerator.model_validate({"kind": "llm", "kb": "k", "model": "m", "finetune": {"corpus": "c"}})
    served = LlmGenerator.model_validate({"kind": "llm", "kb": "k", "model": "m", "backend": server})
    control = ControlGenerator.model_validate({"kind": "names", "kb": "k"})
    replay = ReplayGenerator.model_validate({"kind": "replay", "kb": "k", "path": "notes.csv", "licensed": "ask"})
    assert [(g.writes_in_shards, g.trains, g.weights, g.source, g.how_to_obtain) for g in (tuned, served, control, replay)] == [
        (True, True, "m", None, None),
        (True, False, None, None, None),
        (False, False, None, None, None),
        (False, False, None, "notes.csv", "ask"),
    ]


def test_specs_of_entries_are_what_they_were_before_parts_had_versions(root: Path) -> None:
    """First versions are those of the stages of then, so that finished results do not rerun: the texts, written by hand from that code."""
    config = load_config(yaml.safe_load((root / "config.yaml").read_text()))
    stages = {"kbs": 2, "corpora": 3, "strategies": 1, "recognizers": 1, "linkers": 2, "indexes": 2}
    for kind, version in stages.items():
        for name, entry in getattr(config, kind).items():
            owner = versions.of_spec(kind, entry, None)
            assert versions.VERSIONED_CODE[owner].first == version, owner
            first = {"kind": kind, "name": name, "part": None, "stage_version": versions.number(owner), "settings": entry.model_dump(mode="json")}
            assert spec_text(config, kind, name) == json.dumps(first, sort_keys=True)
    for part in ("prompts", "finetune", "sampling", "locate", "filter"):
        assert versions.VERSIONED_CODE[versions.of_spec("generators", config.generators["smollm2"], part)].first == 2
