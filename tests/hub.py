"""A small hub on the loopback address, which speaks as much of the Hugging Face hub's HTTP as its client asks for.

`serve(folder)` serves folder/ORG/NAME as the main branch of ORG/NAME and folder/ORG/NAME@REVISION as another revision of it; a REVISION of 40
hexadecimal digits is a commit. What the real hub refuses, it refuses in the same words: gated repositories, wrong tokens, unknown names and
revisions. Downloads can be made to break off, to come out short, or to come out changed.

    with serve(folder) as hub:
        subprocess.run([...], env={**os.environ, **hub.environment(cache)})
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".bin", ".safetensors", ".model", ".h5", ".msgpack")
"""Ends of names of the files that lie in large-file storage, and are downloaded from another address."""


@dataclass
class Hub:
    """A hub that is being served; a test changes its fields while it runs.

    Attributes:
        folder: The repositories.
        port: Port on the loopback address.
        gated: Repositories that ask for their licence to be accepted.
        tokens: Tokens that are known, each with the gated repositories that its owner may read.
        cut: Names of files whose download always breaks off in the middle.
        short: Names of files that come from the storage a few bytes short, as if whole.
        changed: Names of files that come with other bytes of the same number.
        stalled: Names of files of which half comes, and then nothing.
        down: Answer 503 to everything.
        requests: Method and path of each request so far.
    """

    folder: Path
    port: int = 0
    gated: set[str] = field(default_factory=set)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    stalled: set[str] = field(default_factory=set)
    down: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Address of the hub."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        """Address of large files, which has another host name, as the real one: the client sends no token there."""
        return f"http://localhost:{self.port}/storage"

    def environment(self, home: Path, token: str | None = None, offline: bool = False) -> dict[str, str]:
        """Variables that make the hub client, in a process of its own, use this hub and a cache below `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN": token or "",
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def downloaded(self) -> set[str]:
        """Names of the files whose content was asked for."""
        return {path.rpartition("/")[2] for method, path in self.requests if method == "GET" and ("/resolve/" in path or path.startswith("/storage/"))}

    def commit(self, repository: str, revision: str = "main") -> str | None:
        """The commit of a revision, made of the names and bytes of its files; none if there is no such revision."""
        where = self._place(repository, revision)
        if where is None:
            return None
        if re.fullmatch(r"[0-9a-f]{40}", where.name.partition("@")[2]):
            return where.name.partition("@")[2]
        digest = hashlib.sha1()
        for path in sorted(p for p in where.rglob("*") if p.is_file()):
            digest.update(f"{path.relative_to(where)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _place(self, repository: str, revision: str) -> Path | None:
        main = self.folder / repository
        if revision == "main":
            return main if main.is_dir() else None
        named = main.with_name(f"{main.name}@{revision}")
        if named.is_dir():
            return named
        for place in [main, *main.parent.glob(f"{main.name}@*")] if main.parent.is_dir() else []:
            if place.is_dir() and self.commit(repository, place.name.partition("@")[2] or "main") == revision:
                return place
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip() or None
        if self.hub.down:
            self._say(503, {"error": "down"})
        elif path.startswith("/storage/"):
            self._send(Path("/" + path.removeprefix("/storage/")))
        elif token and token not in self.hub.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+(?:/.+)?))?", path):
            self._describe(found[1], found[2] or "main", token)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._list(found[1], found[2], token)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3], token)
        else:
            self._refuse(404, "", "Not found")

    def _known(self, repository: str, revision: str, token: str | None) -> Path | None:
        """The files of a revision; else the refusal is sent."""
        if not (self.hub.folder / repository).is_dir():
            # Whoever is not logged in is not told whether a repository exists.
            self._refuse(404, "RepoNotFound", "Repository not found") if token else self._refuse(401, "", "Invalid username or password.")
            return None
        place = self.hub._place(repository, revision)
        if place is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return place

    def _describe(self, repository: str, revision: str, token: str | None) -> None:
        if place := self._known(repository, revision, token):
            files = [{"rfilename": p.relative_to(place).as_posix()} for p in sorted(place.rglob("*")) if p.is_file()]
            gated = "manual" if repository in self.hub.gated else False
            self._say(200, {"_id": "1", "id": repository, "modelId": repository, "sha": self.hub.commit(repository, revision), "private": False, "gated": gated, "tags": [], "downloads": 0, "likes": 0, "siblings": files})  # fmt: skip

    def _list(self, repository: str, revision: str, token: str | None) -> None:
        place = self._known(repository, revision, token)
        if place is None:
            return
        deep = "recursive=true" in self.path.lower()
        rows = []
        for path in sorted(place.rglob("*") if deep else place.iterdir()):
            name, data = path.relative_to(place).as_posix(), path.read_bytes() if path.is_file() else b""
            row: dict[str, object] = {"type": "directory" if path.is_dir() else "file", "path": name, "size": len(data), "oid": _git_id(data)}
            if path.is_file() and path.name.endswith(LARGE):
                row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            rows.append(row)
        self._say(200, rows)

    def _resolve(self, repository: str, revision: str, name: str, token: str | None) -> None:
        place = self._known(repository, revision, token)
        if place is None:
            return
        if repository in self.hub.gated and token is None:
            self._refuse(401, "GatedRepo", f"Access to model {repository} is restricted. You must have access to it and be authenticated to access it.")
        elif repository in self.hub.gated and repository not in self.hub.tokens[str(token)]:
            self._refuse(403, "GatedRepo", f"Access to model {repository} is restricted and you are not in the authorized list.")
        elif not (place / name).is_file():
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": str(self.hub.commit(repository, revision))})
        else:
            data = (place / name).read_bytes()
            commit = {"X-Repo-Commit": str(self.hub.commit(repository, revision))}
            if name.endswith(LARGE):
                large = hashlib.sha256(data).hexdigest()
                headers = commit | {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{large}"', "Location": f"{self.hub.storage}{place / name}"}
                self._say(302, None, headers)
            else:
                self._send(place / name, commit | {"ETag": f'"{_git_id(data)}"'})

    def _send(self, path: Path, headers: dict[str, str] | None = None) -> None:
        """A file, or the rest of it from where the client stopped."""
        data = path.read_bytes()
        if path.name in self.hub.short:
            data = data[: -min(7, len(data))]
        if path.name in self.hub.changed:
            data = bytes(byte ^ 1 for byte in data)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if path.name in self.hub.cut | self.hub.stalled:
            self.wfile.write(data[start : len(data) // 2])
            self.close_connection = True
            while path.name in self.hub.stalled:
                time.sleep(0.02)
            return
        self.wfile.write(data[start:])

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._say(status, {"error": message}, {**({"X-Error-Code": code} if code else {}), "X-Error-Message": message, **(headers or {})})

    def _say(self, status: int, data: object, headers: dict[str, str] | None = None) -> None:
        body = b"" if data is None else json.dumps(data).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """Serve the repositories in a folder until the block ends."""
    hub = Hub(folder.resolve())
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
