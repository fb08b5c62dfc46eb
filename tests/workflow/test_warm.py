"""The commands that a server forks behave as the installed ones: output, exit code, folder, environment, packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import warm
from checkout import ROOT

TOLD = "import os, sys; print(os.getcwd(), os.environ['WORD'], sys.argv, sys.stdin.read(), flush=True); print('wrong', file=sys.stderr); sys.exit(3)"
PROGRAMS = {
    "output and code": TOLD,
    "killed": "import os; os.kill(os.getpid(), 9)",
    "a message": "raise SystemExit('error: no')",
    "an exception": "1 / 0",
    "a package of its own": "import mentionforge; print(mentionforge.__file__)",
    "at exit": "import atexit; atexit.register(print, 'last')",
    "temporary folder": "import tempfile; print(tempfile.gettempdir())",
}
COMMANDS = [
    ("mentionforge", "--version"),
    ("mentionforge", "kb", "nonsense"),
    ("mentionforge", "corpora", "read", "--spec", "gone"),
    ("snakemake", "--version"),
]


def ran(folder: Path, line: tuple[str, ...], place: Path, **more: str) -> tuple[int, str, str]:
    """Code and output of a command of a folder."""
    own = os.environ | {"WORD": "blue", "TMPDIR": str(place), "PYTHONPATH": str(place)} | more
    done = subprocess.run([folder / line[0], *line[1:]], cwd=place, env=own, input="read", capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr.splitlines()[-1] if done.stderr else ""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a package of the same name."""
    (tmp_path / "mentionforge").symlink_to(ROOT / "workflow" / "mentionforge")
    return tmp_path


@pytest.mark.parametrize("line", [*COMMANDS, *(("python", "-c", program, "word") for program in PROGRAMS.values())], ids=[*map(" ".join, COMMANDS), *PROGRAMS])
def test_as_the_installed_command(line: tuple[str, ...], place: Path) -> None:
    assert ran(warm.folder(os.environ), line, place) == ran(warm.BIN, line, place)


@pytest.mark.skipif(bool(os.environ.get("MENTIONFORGE_COLD")) or sys.platform != "linux", reason="no server")
def test_it_is_a_fork_unless_a_library_would_read_other_variables(place: Path) -> None:
    said = "import sys; print('torch' in sys.modules)"
    assert ran(warm.folder(os.environ), ("python", "-c", said), place)[1] == "True\n"
    assert ran(warm.folder(os.environ), ("python", "-c", said), place, HF_HOME="elsewhere")[1] == "False\n"
    first = warm.folder(os.environ)
    assert first == warm.folder(os.environ | {"WORD": "red"}) != warm.folder(os.environ | {"HF_HOME": "elsewhere"})
    warm.stop()
    assert not first.exists()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_are_those_of_the_environment(threads: str, place: Path) -> None:
    said = "import torch, threadpoolctl as t; print(torch.get_num_threads(), {p['num_threads'] for p in t.threadpool_info()})"
    line = ("python", "-c", f"import os, numpy; {said}")
    given = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    assert ran(warm.folder(os.environ), line, place, **given)[1] == ran(warm.BIN, line, place, **given)[1] == f"{threads} {{{threads}}}\n"
