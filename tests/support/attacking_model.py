"""A model that tries to break out of its process. Logged from this file; it answers with what came of each attempt, as JSON.

`model_config` names the targets; MLflow runs this file alone.
"""

import json
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel

_UNLIMITED = resource.RLIM_INFINITY


def _attempt(attack: Callable[[], object]) -> str:
    """What came of it: the name of the exception, or what it returned."""
    try:
        return f"done: {attack()}"[:2000]
    except BaseException as error:  # noqa: BLE001  # whatever stopped it
        return type(error).__name__


def _write_through_descriptors(store: Path) -> str:
    """Write into whatever inherited descriptor is the store's file."""
    hit = [fd for fd in os.listdir("/proc/self/fd") if _is_store(fd, store)]
    for fd in hit:
        os.pwrite(int(fd), b"broken", 0)
    if not hit:
        raise LookupError("no descriptor of the store")
    return ",".join(hit)


def _is_store(fd: str, store: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/self/fd/{fd}")).parent == store.parent
    except OSError:
        return False


def _descriptors() -> str:
    links = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            links[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
    return json.dumps(links)


def _symlink(store: Path) -> int:
    Path("link").symlink_to(store)
    return len(Path("link").read_bytes())


def _abstract_socket(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{name}")


def _bind() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def _huge_file(size: int) -> None:
    with Path("huge").open("wb") as file:
        file.seek(size)
        file.write(b"x")


class AttackingModel(PythonModel):
    """Attacks at each question."""

    def load_context(self, context: Any) -> None:
        """Take the targets from `model_config`."""
        self._targets = context.model_config

    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
        """Attack, whatever the question."""
        if "allocate" in str(model_input):
            return [str(len(bytearray(self._targets["memory"])))]
        store, parent = Path(self._targets["store"]), os.getppid()
        attacks: dict[str, Callable[[], object]] = {
            "read the store": lambda: len(store.read_bytes()),
            "read it through /proc": lambda: len(Path("/proc/self/root", str(store)[1:]).read_bytes()),
            "read it through a symbolic link": lambda: _symlink(store),
            "read it through a hard link": lambda: os.link(store, "hard"),
            "write to the store": lambda: store.open("r+b").close(),
            "empty the store": lambda: os.truncate(store, 0),
            "delete the store": lambda: store.with_name("to-be-deleted").unlink(),
            "write beside the store": lambda: store.with_name("planted").write_text("x"),
            "write to the store's descriptor": lambda: _write_through_descriptors(store),
            "list the store's folder": lambda: os.listdir(store.parent),
            "change its own model": lambda: Path(__file__).with_name("MLmodel").open("a").close(),
            "read the parent's environment": lambda: len(Path(f"/proc/{parent}/environ").read_bytes()),
            "read the parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
            "signal the parent": lambda: os.kill(parent, signal.SIGCONT),
            "read the home folder": lambda: os.listdir(os.path.realpath("/root")),
            "read shadow passwords": lambda: len(Path("/etc/shadow").read_bytes()),
            "connect to a server": lambda: socket.create_connection(("127.0.0.1", self._targets["port"]), 5).close(),
            "listen": _bind,
            "connect to an abstract socket": lambda: _abstract_socket(self._targets["socket"]),
            "start a program": lambda: subprocess.run(["/bin/true"], check=True).returncode,
            "write a huge file": lambda: _huge_file(self._targets["file"]),
            "see its descriptors": _descriptors,
            "see its environment": lambda: json.dumps(sorted(os.environ)),
            "see its first environment": lambda: Path("/proc/self/environ").read_text(),
            "see its working folder": lambda: os.getcwd(),
            "write into its working folder": lambda: Path("own").write_text("x"),
            "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (_UNLIMITED, _UNLIMITED)),
            "become another user": lambda: os.setuid(12345),
            "gain privileges": lambda: "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text(),
        }
        return [json.dumps({name: _attempt(attack) for name, attack in attacks.items()})]


mlflow.models.set_model(AttackingModel())
