"""A fake Hugging Face hub for the real client, with faults that tests can inject.

    with hub(tmp_path) as fake_hub:
        commit = fake_hub.add("owner/name", folder)       # a local folder becomes the branch main
        fake_hub.tag("owner/name", "v1", commit)
        subprocess.run([...], env={**os.environ, **fake_hub.environment})

Added folders must not change on disk; adding another folder to the same repository creates its next commit.
Weights (LFS_SUFFIXES) are LFS files, as on the hub: identified by their SHA-256, and served by a second host (`cdn`).
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
_CHUNK_BYTES = 16 * 1024


@dataclass(frozen=True)
class Request:
    """A request. `path` is within the repository, or the URL's for the API; `range_header` and `token` are from the headers."""

    method: str
    path: str
    on_cdn: bool
    range_header: str
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
    """The state of the fake hub. Tests inject faults by changing attributes; faults stay until they are removed."""

    home: Path
    url: str = ""
    cdn_url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes sent by file, over all requests."""

    tokens: dict[str, set[str]] = field(default_factory=dict)
    """Valid tokens, with the private and gated repositories that each may read."""

    breaks: dict[str, list[int]] = field(default_factory=dict)
    """By file: the byte counts after which the connection of a response breaks, one per response; see also `breaks_always`."""

    breaks_always: dict[str, int] = field(default_factory=dict)
    error_statuses: dict[str, int] = field(default_factory=dict)
    """By file, or "api": an error status to respond with, such as 500."""

    corrupt_files: set[str] = field(default_factory=set)
    """Files that are sent with one corrupt byte."""

    pause_after_bytes: dict[str, int] = field(default_factory=dict)
    """By file: the byte count at which a response sets `paused` and pauses until `resume` is set."""

    without_ranges: bool = False
    paused: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for a client of this hub, without the developer's own token and settings."""
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
        """Commit `folder` to a branch of `repo`, which is created if missing, and return the hash (default: computed)."""
        files = {
            file.relative_to(folder).as_posix(): _read_stored_file(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        content = json.dumps([repo, [(name, file.etag) for name, file in files.items()]])
        commit = commit or hashlib.sha1(content.encode()).hexdigest()
        stored = self.repos.setdefault(repo, Repo())
        stored.commits[commit] = files
        stored.names[branch] = commit
        return commit

    def tag(self, repo: str, name: str, commit: str) -> None:
        self.repos[repo].names[name] = commit

    def find_requests(self, path: str, method: str = "GET") -> list[Request]:
        """Return the requests for the content of a file, without those that were redirected."""
        return [
            request
            for request in self.requests
            if request.path == path and request.method == method and _wants_content(request, path)
        ]


def _wants_content(request: Request, path: str) -> bool:
    return request.on_cdn or Path(path).suffix not in LFS_SUFFIXES


def _read_stored_file(file: Path) -> StoredFile:
    size = file.stat().st_size
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        git_sha1 = hashlib.sha1(b"blob %d\0" % size)
        while chunk := stream.read(1 << 20):
            git_sha1.update(chunk)
    return StoredFile(file, size, sha256, git_sha1.hexdigest())


@contextmanager
def hub(home: Path) -> Iterator[Hub]:
    """Serve a hub without repositories. `home` is a folder for the client's cache."""
    fake_hub = Hub(home)
    with _serve(fake_hub, on_cdn=False) as fake_hub.url, _serve(fake_hub, on_cdn=True) as fake_hub.cdn_url:
        yield fake_hub
        fake_hub.resume.set()


@contextmanager
def _serve(fake_hub: Hub, on_cdn: bool) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"hub": fake_hub, "on_cdn": on_cdn})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            fake_hub.resume.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    on_cdn: bool

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            self._record(url.path)
            self._send_api_response(parts[2:], parse_qs(url.query))
        elif "resolve" in parts:
            index = parts.index("resolve")
            path = "/".join(parts[index + 2 :])
            self._record(path)
            self._send_file("/".join(parts[:index]), parts[index + 1], path)
        else:
            self._record(url.path)
            self._send_error(404, "", "There is nothing here")

    def _record(self, path: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        range_header = self.headers.get("Range", "")
        self.hub.requests.append(Request(self.command, path, self.on_cdn, range_header, token, dict(self.headers)))

    def _send_api_response(self, parts: list[str], query: dict[str, list[str]]) -> None:
        """Respond to /api/models/{id}, …/revision/{revision} and …/tree/{revision}."""
        if status := self.hub.error_statuses.get("api"):
            return self._send_error(status, "", "Out of order")
        endpoint = next((word for word in ("revision", "tree") if word in parts), "")
        index = parts.index(endpoint) if endpoint else len(parts)
        name = "/".join(parts[:index])
        found = self._find_revision(name, parts[index + 1] if endpoint else "main")
        if found is None:
            return None
        repo, commit, files = found
        if endpoint == "tree":
            return self._send_json([self._tree_entry(path, file) for path, file in files.items()])
        siblings: list[dict[str, object]] = [{"rfilename": path} for path in files]
        if "blobs" in query:
            siblings = [{"rfilename": path, **self._blob_fields(file)} for path, file in files.items()]
        metadata: dict[str, object] = {
            "private": repo.private,
            "gated": "auto" if repo.gated else False,
            "tags": [],
            "downloads": 0,
        }
        return self._send_json(
            {"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": siblings, **metadata}
        )

    @staticmethod
    def _blob_fields(file: StoredFile) -> dict[str, object]:
        lfs = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134}} if file.is_lfs else {}
        # Git stores only the pointer of an LFS file, so the blob id is not a hash of the content.
        return {"size": file.size, "blobId": "f" * 40 if file.is_lfs else file.git_sha1, **lfs}

    @staticmethod
    def _tree_entry(path: str, file: StoredFile) -> dict[str, object]:
        lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134}} if file.is_lfs else {}
        return {"type": "file", "path": path, "size": file.size, "oid": file.git_sha1, **lfs}

    def _find_revision(self, name: str, revision: str) -> tuple[Repo, str, dict[str, StoredFile]] | None:
        """Return the repository, commit and files of a revision, or None after sending an error."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        readable = self.hub.tokens.get(token)
        if token and readable is None:
            self._send_error(401, "", "Invalid credentials in Authorization header")
            return None
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and name not in (readable or set())):
            self._send_error(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        commit = repo.names.get(revision, revision)
        if commit not in repo.commits:
            self._send_error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, commit, repo.commits[commit]

    def _send_file(self, name: str, revision: str, path: str) -> None:
        if self.on_cdn:  # signed URLs need no token
            repo = self.hub.repos[name]
            return self._send_content(path, repo.commits[revision][path])
        found = self._find_revision(name, revision)
        if found is None:
            return None
        repo, commit, files = found
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo.gated and name not in self.hub.tokens.get(token, set()):
            message = f"Access to model {name} is restricted. You must have access to it."
            return self._send_error(403 if token else 401, "GatedRepo", message)
        if path not in files:
            return self._send_error(404, "EntryNotFound", "Entry not found")
        file = files[path]
        headers = {"X-Repo-Commit": commit}
        if not file.is_lfs:
            return self._send_content(path, file, headers)
        lfs_headers = {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
        location = f"{self.hub.cdn_url}/{name}/resolve/{commit}/{quote(path)}"
        return self._send_head(302, {"Location": location, "Content-Length": "0", **lfs_headers, **headers})

    def _send_content(self, path: str, file: StoredFile, extra_headers: dict[str, str] | None = None) -> None:
        if status := self.hub.error_statuses.get(path):
            return self._send_error(status, "", "Out of order")
        start = 0
        range_header = self.headers.get("Range", "")
        if range_header and not self.hub.without_ranges:
            start = int(range_header.removeprefix("bytes=").split("-")[0])
            if start >= file.size:
                return self._send_head(416, {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"})
            extra_headers = {**(extra_headers or {}), "Content-Range": f"bytes {start}-{file.size - 1}/{file.size}"}
        headers = {"ETag": f'"{file.etag}"', "Content-Length": str(file.size - start), "Accept-Ranges": "bytes"}
        status = 206 if extra_headers and "Content-Range" in extra_headers else 200
        self._send_head(status, {**headers, **(extra_headers or {})})
        if self.command == "GET":
            self._stream_content(path, file, start)
        return None

    def _stream_content(self, path: str, file: StoredFile, start: int) -> None:
        breaks = self.hub.breaks.get(path, [])
        break_at = breaks.pop(0) if breaks else self.hub.breaks_always.get(path)
        pause_at = self.hub.pause_after_bytes.get(path)
        sent = 0
        with file.source.open("rb") as stream:
            stream.seek(start)
            while True:
                stops = [offset - sent for offset in (break_at, pause_at) if offset is not None and offset >= sent]
                size = min([_CHUNK_BYTES, *(stop for stop in stops if stop > 0)])
                if break_at == sent:
                    return self._reset_connection()
                if pause_at == sent:
                    self.wfile.flush()
                    self.hub.paused.set()
                    self.hub.resume.wait()
                chunk = stream.read(size)
                if not chunk:
                    return None
                if path in self.hub.corrupt_files and start + sent == 0:
                    chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
                sent += len(chunk)
                # Count before writing: the test may check the count before the write returns.
                self.hub.sent_bytes[path] = self.hub.sent_bytes.get(path, 0) + len(chunk)
                try:
                    self.wfile.write(chunk)
                except OSError:  # the client has disconnected
                    return None

    def _reset_connection(self) -> None:
        """Flush the bytes written so far, then reset the connection."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

    def _send_json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self._send_head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _send_error(self, status: int, code: str, message: str) -> None:
        code_header = {"X-Error-Code": code} if code else {}
        self._send_head(status, {"X-Error-Message": message, "Content-Length": "0", **code_header})

    def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
