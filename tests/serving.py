"""Servers for the tests: a real OpenAI-compatible one on loopback with a small model, and a hand-made one that fails as told."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served_folder(weights: Path, target: Path) -> Path:
    """A copy of a model's folder whose generation settings sample: the server ignores the temperature otherwise."""
    target.mkdir(parents=True)
    for file in weights.iterdir():
        if file.name == "generation_config.json":
            settings = json.loads(file.read_text(encoding="utf-8")) | {"do_sample": True}
            (target / file.name).write_text(json.dumps(settings), encoding="utf-8")
        elif file.is_file():
            os.link(file, target / file.name) if file.stat().st_dev == target.stat().st_dev else shutil.copyfile(file, target / file.name)
    return target


class Server:
    """`transformers serve` on loopback; it can be stopped and started again on its port."""

    def __init__(self, log: Path) -> None:
        self.port, self.log = free_port(), log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """What the config is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, limit_s: float = 60, extra: tuple[str, ...] = ()) -> None:
        """Start it and wait until it answers."""
        line = [Path(sys.executable).parent / "transformers", "serve", "--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu", *extra]
        with open(self.log, "ab") as sink:
            self.process = subprocess.Popen(line, stdout=sink, stderr=sink, env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + limit_s
        while True:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the server does not come up"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)

    def stop(self) -> None:
        """End this process, and no other."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()


@contextmanager
def failing_server(answer: Callable[[int, str, dict[str, Any], dict[str, str]], tuple[int, Any, dict[str, str]]]) -> Iterator[str]:
    """A server whose answers are those of `answer(number, path, body, headers)`: status, JSON and headers; yields its base address."""
    lock, count = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                count[0] += 1
                number = count[0]
            status, said, headers = answer(number, self.path, body, {name.lower(): value for name, value in self.headers.items()})
            data = json.dumps(said).encode() if not isinstance(said, bytes) else said
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
