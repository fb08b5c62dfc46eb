"""Commands that start without importing their libraries: a server that has imported them forks a process for each command.

In: command lines of `mentionforge` and `snakemake` whose PATH begins with `folder()`. Out: the same processes, files and exit codes as those of the
installed commands. Imports nothing of the package, so that each process reads it from its own PYTHONPATH. MENTIONFORGE_COLD=1: without it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
COMMANDS = {"mentionforge": "mentionforge.cli", "snakemake": "snakemake.cli", "python": ""}
"""Each command with the module whose `main` it is; of Python's own command, `-c` with a program."""
LIBRARIES = (
    *("snakemake.cli", "snakemake.executors.local", "snakemake.executors.dryrun", "snakemake_executor_plugin_slurm", "typer", "rich.console", "pydantic"),
    *("yaml", "jsonschema", "jinja2", "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pyarrow.dataset", "duckdb", "faiss", "scipy.stats", "rapidfuzz.process"),
    *("scipy.sparse.csgraph", "sklearn.feature_extraction.text", "networkx", "datasketch", "bioc", "lxml.etree", "altair", "seqeval.metrics", "threadpoolctl"),
    *("torch", "safetensors.torch", "tokenizers", "transformers", "peft", "accelerate", "transformers.models.auto.modeling_auto"),
    *("transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama", "transformers.generation.utils", "transformers.trainer"),
)  # fmt: skip
"""What the commands spend their first seconds with."""
AT_IMPORT = ("HF_", "TRANSFORMERS_", "PYTHON", "ATEN_", "MKL_ENABLE", "ONEDNN_", "CUDA_VISIBLE", "XDG_")
"""Beginnings of variables that libraries read when they are imported: a process with other values starts by itself."""
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"-"], [0, 1, 2])
server.sendall(json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
code = server.recv(16)
if code == b"plain":
    os.execv({command!r}, [{command!r}, *sys.argv[1:]])
if not code:
    os.kill(os.getpid(), 9)  # as the process was ended
sys.exit(int(code))
"""

_servers: dict[tuple[tuple[str, str], ...], tuple[subprocess.Popen, Path]] = {}


def folder(environment: Mapping[str, str]) -> Path:
    """A folder with the commands, for the beginning of PATH in this environment: the first call with its variables of `AT_IMPORT` starts a server."""
    if os.environ.get("MENTIONFORGE_COLD") or sys.platform != "linux":  # elsewhere, libraries may not work in a forked process
        return BIN
    key = tuple(sorted((name, value) for name, value in environment.items() if _matters(name)))
    if key not in _servers:
        scratch = Path(tempfile.mkdtemp(prefix="warm"))
        for name in COMMANDS:
            client = scratch / name
            client.write_text(CLIENT.format(python=sys.executable, address=str(scratch / "socket"), name=name, command=str(BIN / name)), encoding="utf-8")
            client.chmod(0o755)
        own = {**environment, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
        # It ends when the other end of its standard input is closed: with this process, however that ends.
        with open(scratch / "log", "wb") as log:
            process = subprocess.Popen([sys.executable, __file__, scratch / "socket"], env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout and process.stdout.readline() == b"ready\n", (scratch / "log").read_text()
        if not _servers:
            atexit.register(stop)
        _servers[key] = process, scratch
    return _servers[key][1]


def stop() -> None:
    """End the servers; the next call of `folder` starts another one, with another order of hashes."""
    while _servers:
        _, (process, scratch) = _servers.popitem()
        assert process.stdin
        process.stdin.close()
        process.wait()
        shutil.rmtree(scratch)


def _matters(name: str) -> bool:
    return name.startswith(AT_IMPORT) and name != "PYTHONPATH"


def serve(address: str) -> None:
    """Import the libraries, then fork a process for each connection until standard input is closed."""
    first = dict(os.environ)  # libraries change it
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    gc.freeze()  # else each process would look through the objects of all libraries, again and again
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    print("ready", flush=True)
    os.dup2(2, 1)
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    while all(key.fileobj is listening for key, _ in waiting.select()):
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            waiting.close()
            _work(connection, first)
        connection.close()
        _reap()
    _reap()
    os._exit(0)


def _reap() -> None:
    """Forget the processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _work(connection: socket.socket, first: dict[str, str]) -> None:
    """Become the command that a connection asks for, and end."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    name, arguments, place, environment = json.loads(connection.makefile("rb").readline())
    differing = {key for key in first.keys() | environment.keys() if first.get(key) != environment.get(key)}
    if any(map(_matters, differing)) or (name == "python" and arguments[:1] != ["-c"]):
        connection.sendall(b"plain")
        os._exit(0)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    own = [path for path in first.get("PYTHONPATH", "").split(":") if path]
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.path[:] = [
        str(BIN),
        *(str(Path(path).absolute()) for path in environment.get("PYTHONPATH", "").split(":") if path),
        *(path for path in sys.path[1:] if path not in own),
    ]
    program = arguments.pop(1) if name == "python" and arguments[0] == "-c" else None
    sys.argv = arguments if program else [str(BIN / name), *arguments]
    threads = environment.get("OMP_NUM_THREADS", "")
    if threads != "1":
        import threadpoolctl
        import torch

        count = int(threads) if threads.isdecimal() else len(os.sched_getaffinity(0))
        torch.set_num_threads(count)
        threadpoolctl.threadpool_limits(count)
    code: object = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = exec(program, {"__name__": "__main__"}) if program else importlib.import_module(COMMANDS[name]).main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    connection.sendall(str(code if isinstance(code, int) else int(code is not None)).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
