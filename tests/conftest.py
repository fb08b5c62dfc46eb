"""Fixtures: fetched weights, and the real corpora where they are at hand; which tests run side by side, and which are units."""

import ast
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT, copy_checkout, snakemake

LONGEST = (
    "experiment",
    "tests/e2e/test_paper.py",
    "tests/workflow/test_dag.py",
    "tests/workflow/test_resources_asked.py",
    "tests/workflow/test_reruns_of_parts.py",
    "tests/unit/test_generation_sample.py",
    "tests/unit/test_generation_backends.py",
    "tests/unit/test_generation_finetune.py",
    "tests/unit/test_normalization_training.py",
)
"""Groups of tests that take minutes, longest first: they begin first, so that the processes of `pytest -n` end at about the same time."""
NO_UNITS = {"finished", "rich", "minilm", "smollm2", "shared_data"}
"""Fixtures that run an experiment, or that need something that is not in the checkout."""
UNIT_S = 5.0
"""Seconds of CPU that a unit test may take, started processes included; more needs the mark `slow`."""


def pytest_configure(config: pytest.Config) -> None:
    """With `pytest -n`, each process computes on one core: of two threads each, four would wait for two cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups come first; tests of tests/unit are units unless they are marked `slow` or take one of the fixtures `NO_UNITS`."""
    order = {group: place for place, group in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(_group(item.nodeid), len(order)))
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if item.nodeid.startswith("tests/unit/") and not item.get_closest_marker("slow") and not fixtures & NO_UNITS:
            item.add_marker("unit")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """See `_bounded`."""
    return (yield from _bounded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """See `_bounded`."""
    return (yield from _bounded(item))


def _bounded(item: pytest.Item) -> Iterator[None]:
    """In a run of units alone (`make test-unit`), one that takes `UNIT_S` fails: so that none becomes slow unnoticed."""
    before = sum(os.times()[:4])
    result = yield
    used = sum(os.times()[:4]) - before
    if item.config.option.markexpr == "unit" and used > UNIT_S:
        pytest.fail(f"took {used:.1f} s of CPU: make it smaller, or mark it: @pytest.mark.slow", pytrace=False)
    return result


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """For `pytest -n`: tests of a file share its fixtures, and all tests of the finished experiment, in whichever file, share that experiment."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)


def _group(nodeid: str) -> str:
    file, _, test = nodeid.partition("::")
    return "experiment" if test.partition("[")[0] in _of_the_experiment(file) else file


@functools.cache
def _of_the_experiment(file: str) -> frozenset[str]:
    """The fixtures `finished` and `rich`, and functions of a file that take one of them, or a fixture of the file that does."""
    takes = {f.name: {a.arg for a in f.args.args} for f in ast.parse((ROOT / file).read_text(encoding="utf-8")).body if isinstance(f, ast.FunctionDef)}
    found, more = set[str](), {"finished", "rich"}
    while more > found:
        found = more
        more = found | {name for name, arguments in takes.items() if arguments & found}
    return frozenset(found)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


def _stamp(name: str) -> Path:
    stamp = ROOT / "resources" / "models" / name / "fetched.json"
    if not stamp.is_file():
        pytest.skip(f"weights of {name} are not fetched; run `make models`")
    return stamp


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Stamp of the small encoder."""
    return _stamp("minilm")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Stamp of the small language model."""
    return _stamp("smollm2")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real corpora and ontologies: MENTIONFORGE_MIRROR, or ../shared/data."""
    folder = Path(os.environ.get("MENTIONFORGE_MIRROR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real corpora are not at hand; set MENTIONFORGE_MIRROR")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, minilm: Path, smollm2: Path) -> Path:
    """A checkout in which the mini experiment has run to its end."""
    folder = copy_checkout(tmp_path_factory.mktemp("finished") / "mentionforge")
    snakemake(folder, "--configfile", "tests/mini.yaml")
    return folder


@pytest.fixture(scope="session")
def rich(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini experiment and what only some experiments have on top of it: seeds, a swept dose, other corpora, end to end."""
    folder = tmp_path_factory.mktemp("rich") / "mentionforge"
    shutil.copytree(finished, folder, symlinks=True)
    snakemake(folder, "--configfile", "tests/mini.yaml", "tests/rich.yaml")
    return folder
