"""A model that tries to break out of its process, and answers with the outcome of each attempt as JSON.

`model_config` names the targets. The model is logged from this file, and MLflow executes this file alone.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel
from seccompy import syscall_nr

_LIBC = ctypes.CDLL(None, use_errno=True)
_MPTCP, _FAST_OPEN = 262, 0x20000000
_UNLIMITED = resource.RLIM_INFINITY


def _attempt(attack: Callable[[], object]) -> str:
    """Return the result of an attack, or the name of the exception that stopped it."""
    try:
        return f"done: {attack()}"[:2000]
    except BaseException as error:  # noqa: BLE001  # any exception is an outcome
        return type(error).__name__


def _write_through_descriptors(store: Path) -> str:
    """Write to every inherited descriptor of a file in the store's folder."""
    fds = [fd for fd in os.listdir("/proc/self/fd") if _is_store_file(fd, store)]
    for fd in fds:
        os.pwrite(int(fd), b"broken", 0)
    if not fds:
        raise LookupError("no descriptor of the store")
    return ",".join(fds)


def _is_store_file(fd: str, store: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/self/fd/{fd}")).parent == store.parent
    except OSError:
        return False


def _list_descriptors() -> str:
    links = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            links[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
    return json.dumps(links)


def _read_through_symlink(store: Path) -> int:
    Path("link").symlink_to(store)
    return len(Path("link").read_bytes())


def _connect_to_abstract_socket(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{name}")


def _bind() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def _syscall(name: str | int, *arguments: int | bytes) -> int:
    """Make a system call. Raise OSError with the kernel's reason."""
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = _LIBC.syscall(ctypes.c_long(syscall_nr(name)), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _find_allowed_calls(names: list[str]) -> list[str]:
    """Return the system calls that the sandbox allows. With invalid arguments, these fail for another reason."""
    allowed = []
    for name in names:
        try:
            _syscall(name, -1, -1, -1, -1, -1, -1)
            allowed.append(name)
        except ValueError:  # unknown to this architecture
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                allowed.append(f"{name}: {error.strerror}")
    return allowed


def _fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _connect_with_fast_open(port: int) -> None:
    with socket.socket() as connection:
        connection.sendto(b"x", _FAST_OPEN, ("127.0.0.1", port))


def _connect_with_mptcp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MPTCP) as connection:
        connection.connect(("127.0.0.1", port))


def _send_datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"x", ("127.0.0.1", port))


def _connect_to_unix_socket(path: str, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as connection:
        connection.connect(path)


def _send_from_socketpair(path: str) -> None:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, second:
        first.sendto(b"x", path)


def _listen_unbound() -> None:
    with socket.socket() as server:
        server.listen()


def _run_from_memory() -> None:
    program = os.memfd_create("program")
    os.write(program, Path("/bin/true").read_bytes())
    if (child := os.fork()) == 0:
        try:
            os.execve(program, ["true"], {})
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise PermissionError("the program did not run")


def _signal_through_pipe(pid: int) -> None:
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    finally:
        os.close(reader)
        os.close(writer)


def _signal_through_socket(request: int, pid: int) -> None:
    first, second = socket.socketpair()
    with first, second:
        fcntl.ioctl(first, request, pid.to_bytes(4, sys.byteorder))


def _take_lease(descriptor: int) -> None:
    try:
        fcntl.fcntl(descriptor, 1024, fcntl.F_RDLCK)  # F_SETLEASE
        fcntl.fcntl(descriptor, 1024, fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def _open_with_openat2(path: Path, flags: int) -> None:
    how = b"".join(value.to_bytes(8, sys.byteorder) for value in (flags, 0, 0))
    os.close(_syscall("openat2", -100, bytes(path), how, len(how)))


def _set_attributes(file: str) -> None:
    with open(file, "rb") as opened:
        flags = bytearray(8)
        fcntl.ioctl(opened, 0x80086601, flags)  # FS_IOC_GETFLAGS
        fcntl.ioctl(opened, 0x40086602, flags)  # FS_IOC_SETFLAGS


def _write_huge_file(size: int) -> None:
    with Path("huge").open("wb") as file:
        file.seek(size)
        file.write(b"x")


def _list_syscall_attacks(targets: dict[str, Any], canary: Path, parent: int) -> dict[str, Callable[[], object]]:
    """Return attacks by system calls that Landlock does not cover. Attacks that succeed are harmless."""
    port, unix, own = targets["port"], targets["unix"], Path(__file__)
    return {
        "call what is newer": lambda: _syscall(0x2000),
        "call as x32": lambda: _syscall(0x40000000 + syscall_nr("getpid")),
        "connect with Multipath TCP": lambda: _connect_with_mptcp(port),
        "connect with TCP Fast Open": lambda: _connect_with_fast_open(port),
        "send over UDP": lambda: _send_datagram(port),
        "listen without bind": _listen_unbound,
        "ask the kernel over netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "talk to the machine below": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
        "connect to a socket file": lambda: _connect_to_unix_socket(unix, socket.SOCK_STREAM),
        "send to a socket file": lambda: _send_from_socketpair(unix),
        "start a process": _fork,
        "run a program from memory": _run_from_memory,
        "outlive the app": lambda: _syscall("prctl", 1, 0),
        "outlive the app, with more bits": lambda: _syscall("prctl", 1 | 1 << 32, 0),
        "signal through a pipe": lambda: _signal_through_pipe(parent),
        "signal through a socket": lambda: _signal_through_socket(0x8901, parent),  # FIOSETOWN
        "signal through a socket otherwise": lambda: _signal_through_socket(0x8902, parent),  # SIOCSPGRP
        "signal through a socket, with more bits": lambda: _syscall("ioctl", 0, 0x8901 | 1 << 32, bytes(4)),
        "open a file to neither read nor write": lambda: os.close(os.open(canary, 3)),
        "open a file so with openat2": lambda: _open_with_openat2(canary, 3),
        "lease a file of the store": lambda: _take_lease(os.open(canary, 3)),
        "lease its own code": lambda: _take_lease(os.open(own, os.O_RDONLY)),
        "watch a folder": lambda: fcntl.fcntl(os.open("/usr", os.O_RDONLY), 1026, 1),  # F_NOTIFY
        "empty a file by its name": lambda: os.truncate(canary, 0),
        "empty a file that it reads": lambda: os.close(os.open(canary, os.O_RDONLY | os.O_TRUNC)),
        "type into a terminal": lambda: _syscall("ioctl", 0, 0x5412, b"x"),  # TIOCSTI
        "open the parent": lambda: os.close(os.pidfd_open(parent)),
        "trace the parent": lambda: _syscall("ptrace", 0x4206, parent, 0, 0),
        "change the parent's limits": lambda: resource.prlimit(
            parent, resource.RLIMIT_NOFILE, resource.prlimit(parent, resource.RLIMIT_NOFILE)
        ),
        "change the parent's priority": lambda: os.setpriority(
            os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)
        ),
        "change the parent's processors": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
        "change permissions": lambda: canary.chmod(0o777),
        "change the permissions of its own code": lambda: own.chmod(own.stat().st_mode),
        "change the owner": lambda: os.chown(canary, os.getuid(), os.getgid()),
        "change times": lambda: os.utime(canary, (0, 0)),
        "change an attribute": lambda: os.setxattr(canary, "user.attack", b"x"),
        "change flags": lambda: _set_attributes(str(own)),
        "watch the store": lambda: _syscall(
            "inotify_add_watch", _syscall("inotify_init1", 0), bytes(canary.parent), 0xFFF
        ),
        "name the store": lambda: _syscall(
            "name_to_handle_at", -100, bytes(canary), bytes([128] + [0] * 200), bytes(8), 0
        ),
        "see shared memory": lambda: _syscall("shmctl", 0, 3, bytes(256)),
        "see queues": lambda: _syscall("msgctl", 0, 3, bytes(256)),
        "use io_uring": lambda: os.close(_syscall("io_uring_setup", 1, bytes(120))),
        "load a kernel program": lambda: _syscall("bpf", 0, bytes(128), 128),
        "catch page faults": lambda: os.close(_syscall("userfaultfd", 1)),
        "measure the kernel": lambda: _syscall("perf_event_open", bytes(128), 0, -1, -1, 0),
        "mount": lambda: _syscall("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        "open a mount": lambda: _syscall("fsopen", b"tmpfs", 0),
        "be root in a namespace": lambda: _syscall("unshare", 0x10000000),
        "start a root in a namespace": lambda: (
            _syscall("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0) or os._exit(0)
        ),
        "keep a key": lambda: _syscall("keyctl", 0, -3, 1),
    }


class AttackingModel(PythonModel):
    """A model that attacks on every request."""

    def load_context(self, context: Any) -> None:
        """Read the targets from `model_config`."""
        self._targets = context.model_config

    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
        """Run all attacks, or only the check that the prompt names (`allocate` or `call`)."""
        if "allocate" in str(model_input):
            return [str(len(bytearray(self._targets["memory"])))]
        if "call" in str(model_input):
            return [json.dumps(_find_allowed_calls(self._targets["denied"]))]
        store, parent = Path(self._targets["store"]), os.getppid()
        attacks: dict[str, Callable[[], object]] = {
            "read the store": lambda: len(store.read_bytes()),
            "read it through /proc": lambda: len(Path("/proc/self/root", str(store)[1:]).read_bytes()),
            "read it through a symbolic link": lambda: _read_through_symlink(store),
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
            "connect to an abstract socket": lambda: _connect_to_abstract_socket(self._targets["socket"]),
            "start a program": lambda: subprocess.run(["/bin/true"], check=True).returncode,
            "write a huge file": lambda: _write_huge_file(self._targets["file"]),
            "see its descriptors": _list_descriptors,
            "see its environment": lambda: json.dumps(sorted(os.environ)),
            "see its first environment": lambda: Path("/proc/self/environ").read_text(),
            "see its working folder": lambda: os.getcwd(),
            "write into its working folder": lambda: Path("own").write_text("x"),
            "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (_UNLIMITED, _UNLIMITED)),
            "become another user": lambda: os.setuid(12345),
            **_list_syscall_attacks(self._targets, store.with_name("canary"), parent),
            "gain privileges": lambda: "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text(),
        }
        return [json.dumps({name: _attempt(attack) for name, attack in attacks.items()})]


mlflow.models.set_model(AttackingModel())
