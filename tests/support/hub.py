"""A stand-in for the Hugging Face hub, which the real client talks to, and which fails where a test wants it to.

    with hub(tmp_path) as stand_in:
        commit = stand_in.add("owner/name", folder)       # a folder of this machine becomes the branch main
        stand_in.tag("owner/name", "v1", commit)
        subprocess.run([...], env={**os.environ, **stand_in.environment})

What was added must stay as it is on disk; adding another folder to the same repository is its next commit.
Weights (LFS_SUFFIXES) are large files, as on the hub: known by their SHA-256, and handed out by a second host (`cdn`).
"""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_SUFFIXES = {".safetensors", ".onnx", ".data", ".bin", ".gguf"}
_PIECE = 16 * 1024


@dataclass(frozen=True)
class Request:
    """What was asked: `path` is the file's in its repository, or the URL's for the API; `range` and `token` are the headers."""

    method: str
    path: str
    on_cdn: bool
    range: str
    token: str
    headers: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class StoredFile:
    source: Path
    size: int
    sha256: str
    git_sha1: str

    @property
    def is_lfs(self) -> bool:
        return self.source.suffix in LFS_SUFFIXES

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_sha1


@dataclass
class Repo:
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


@dataclass
class Hub:
    """The stand-in. Faults are set by assigning; they hold until they are taken away."""

    home: Path
    url: str = ""
    cdn_url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    """The bytes of each file that were sent, over all requests."""

    tokens: dict[str, set[str]] = field(default_factory=dict)
    """The tokens that the hub knows, with the private and gated repositories that each may read."""

    breaks: dict[str, list[int]] = field(default_factory=dict)
    """By file: after how many bytes of an answer the connection breaks, once for each number; see also `breaks_always`."""

    breaks_always: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    """By file, or "api": a status such as 500 to answer with, and nothing else."""

    changed: set[str] = field(default_factory=set)
    """Files that arrive with a byte that is not theirs."""

    holds: dict[str, int] = field(default_factory=dict)
    """By file: after how many bytes an answer stops until `go_on` is set; `held` is set when it does."""

    without_ranges: bool = False
    held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to this hub, with no token and no settings of the person's own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home / "hf-home"),
            "HF_TOKEN": "",
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }

    def add(self, repo: str, folder: Path, branch: str = "main", commit: str | None = None) -> str:
        """Make `folder` the newest commit of a branch of `repo`, which is made if need be; the commit's hash (default: computed)."""
        files = {
            file.relative_to(folder).as_posix(): _stored(file) for file in sorted(folder.rglob("*")) if file.is_file()
        }
        content = json.dumps([repo, [(name, file.etag) for name, file in files.items()]])
        commit = commit or hashlib.sha1(content.encode()).hexdigest()
        kept = self.repos.setdefault(repo, Repo())
        kept.commits[commit] = files
        kept.names[branch] = commit
        return commit

    def tag(self, repo: str, name: str, commit: str) -> None:
        self.repos[repo].names[name] = commit

    def asked_for(self, path: str, method: str = "GET") -> list[Request]:
        """The requests for a file that its bytes were to answer: not the redirects that led there."""
        return [one for one in self.requests if one.path == path and one.method == method and _answers(one, path)]


def _answers(request: Request, path: str) -> bool:
    return request.on_cdn or Path(path).suffix not in LFS_SUFFIXES


def _stored(file: Path) -> StoredFile:
    size = file.stat().st_size
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        git = hashlib.sha1(b"blob %d\0" % size)
        while piece := stream.read(1 << 20):
            git.update(piece)
    return StoredFile(file, size, sha256, git.hexdigest())


@contextmanager
def hub(home: Path) -> Iterator[Hub]:
    """A hub without repositories; `home` is a folder for what the client keeps."""
    made = Hub(home)
    with _served(made, on_cdn=False) as made.url, _served(made, on_cdn=True) as made.cdn_url:
        yield made
        made.go_on.set()


@contextmanager
def _served(made: Hub, on_cdn: bool) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"hub": made, "on_cdn": on_cdn})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            made.go_on.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    on_cdn: bool

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            self._note(url.path)
            self._api(parts[2:], parse_qs(url.query))
        elif "resolve" in parts:
            at = parts.index("resolve")
            path = "/".join(parts[at + 2 :])
            self._note(path)
            self._file("/".join(parts[:at]), parts[at + 1], path)
        else:
            self._note(url.path)
            self._refuse(404, "", "There is nothing here")

    def _note(self, path: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = self.headers.get("Range", "")
        self.hub.requests.append(Request(self.command, path, self.on_cdn, asked, token, dict(self.headers)))

    def _api(self, parts: list[str], query: dict[str, list[str]]) -> None:
        """/api/models/{id}, …/revision/{revision} and …/tree/{revision}."""
        if status := self.hub.answers.get("api"):
            return self._refuse(status, "", "Out of order")
        verb = next((word for word in ("revision", "tree") if word in parts), "")
        at = parts.index(verb) if verb else len(parts)
        found = self._find("/".join(parts[:at]), parts[at + 1] if verb else "main")
        if found is None:
            return None
        repo, commit, files = found
        if verb == "tree":
            return self._json([self._entry(path, file) for path, file in files.items()])
        siblings: list[dict[str, object]] = [{"rfilename": path} for path in files]
        if "blobs" in query:
            siblings = [{"rfilename": path, **self._blob(file)} for path, file in files.items()]
        about: dict[str, object] = {
            "private": repo.private,
            "gated": "auto" if repo.gated else False,
            "tags": [],
            "downloads": 0,
        }
        name = "/".join(parts[:at])
        return self._json({"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": siblings, **about})

    @staticmethod
    def _blob(file: StoredFile) -> dict[str, object]:
        lfs = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134}} if file.is_lfs else {}
        # Of a large file git knows only the pointer, so its id is not that of the content.
        return {"size": file.size, "blobId": "f" * 40 if file.is_lfs else file.git_sha1, **lfs}

    @staticmethod
    def _entry(path: str, file: StoredFile) -> dict[str, object]:
        lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134}} if file.is_lfs else {}
        return {"type": "file", "path": path, "size": file.size, "oid": file.git_sha1, **lfs}

    def _find(self, name: str, revision: str) -> tuple[Repo, str, dict[str, StoredFile]] | None:
        """The repository's files at a revision; None after the hub's own refusal."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        rights = self.hub.tokens.get(token)
        if token and rights is None:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return None
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and name not in (rights or set())):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        commit = repo.names.get(revision, revision)
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, commit, repo.commits[commit]

    def _file(self, name: str, revision: str, path: str) -> None:
        if self.on_cdn:  # whoever has the signed address may read
            repo = self.hub.repos[name]
            return self._bytes(path, repo.commits[revision][path])
        found = self._find(name, revision)
        if found is None:
            return None
        repo, commit, files = found
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo.gated and name not in self.hub.tokens.get(token, set()):
            said = f"Access to model {name} is restricted. You must have access to it."
            return self._refuse(403 if token else 401, "GatedRepo", said)
        if path not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        file = files[path]
        marks = {"X-Repo-Commit": commit}
        if not file.is_lfs:
            return self._bytes(path, file, marks)
        linked = {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
        location = f"{self.hub.cdn_url}/{name}/resolve/{commit}/{quote(path)}"
        return self._head(302, {"Location": location, "Content-Length": "0", **linked, **marks})

    def _bytes(self, path: str, file: StoredFile, marks: dict[str, str] | None = None) -> None:
        if status := self.hub.answers.get(path):
            return self._refuse(status, "", "Out of order")
        start = 0
        asked = self.headers.get("Range", "")
        if asked and not self.hub.without_ranges:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= file.size:
                return self._head(416, {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"})
            marks = {**(marks or {}), "Content-Range": f"bytes {start}-{file.size - 1}/{file.size}"}
        shape = {"ETag": f'"{file.etag}"', "Content-Length": str(file.size - start), "Accept-Ranges": "bytes"}
        self._head(206 if marks and "Content-Range" in marks else 200, {**shape, **(marks or {})})
        if self.command == "GET":
            self._send(path, file, start)
        return None

    def _send(self, path: str, file: StoredFile, start: int) -> None:
        left = self.hub.breaks.get(path, [])
        break_at = left.pop(0) if left else self.hub.breaks_always.get(path)
        hold_at = self.hub.holds.get(path)
        sent = 0
        with file.source.open("rb") as stream:
            stream.seek(start)
            while True:
                stops = [at - sent for at in (break_at, hold_at) if at is not None and at >= sent]
                size = min([_PIECE, *(stop for stop in stops if stop > 0)])
                if break_at == sent:
                    return self._break()
                if hold_at == sent:
                    self.wfile.flush()
                    self.hub.held.set()
                    self.hub.go_on.wait()
                piece = stream.read(size)
                if not piece:
                    return None
                if path in self.hub.changed and start + sent == 0:
                    piece = bytes([piece[0] ^ 1]) + piece[1:]
                sent += len(piece)
                # Counted first: the other side may have it, and look, before a write returns.
                self.hub.sent[path] = self.hub.sent.get(path, 0) + len(piece)
                try:
                    self.wfile.write(piece)
                except OSError:  # the other side is gone
                    return None

    def _break(self) -> None:
        """What was sent arrives, then the connection is reset."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str, message: str) -> None:
        marks = {"X-Error-Code": code} if code else {}
        self._head(status, {"X-Error-Message": message, "Content-Length": "0", **marks})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
