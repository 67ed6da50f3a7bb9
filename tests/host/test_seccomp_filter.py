"""The system call filter, as built for each architecture; its effect is tested in test_sandbox.py."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from seccompy.syscalls import AARCH64_SYSCALLS, AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64, X86_64_SYSCALLS

from phi3_ui.host import sandbox_policy
from phi3_ui.host.seccomp_filter import DENIED, build_filter
from phi3_ui.paths import ROOT


def test_every_denied_call_exists() -> None:
    older = {"fork", "vfork", "chmod", "chown", "lchown", "utime", "utimes", "futimesat", "modify_ldt"}
    assert X86_64_SYSCALLS.keys() >= DENIED
    assert AARCH64_SYSCALLS.keys() >= DENIED - older


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", AUDIT_ARCH_X86_64), ("aarch64", AUDIT_ARCH_AARCH64)])
@pytest.mark.parametrize(("allow_unix_sockets", "allow_workers"), [(True, False), (False, False), (True, True)])
def test_a_filter_is_built_for_each_architecture(
    monkeypatch: pytest.MonkeyPatch, machine: str, arch: int, allow_unix_sockets: bool, allow_workers: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    program = build_filter(1, allow_unix_sockets, allow_workers).program
    assert arch.to_bytes(4, "little") in program[:16]  # compared first; another one ends the process
    assert len(program) // 8 <= 4096  # the kernel's limit


def test_another_architecture_is_not_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    sandbox_policy.has_seccomp.cache_clear()
    assert not sandbox_policy.has_seccomp()
    sandbox_policy.has_seccomp.cache_clear()


_WITHOUT_LANDLOCK = """
import fcntl, json, os, socket, sys
from phi3_ui.host.seccomp_filter import filter_system_calls
filter_system_calls(allow_unix_sockets=False)
path, parent = sys.argv[1], os.getppid()
own = socket.socketpair()[0]
attacks = {
    "truncate": lambda: os.truncate(path, 0),
    "open to read and truncate": lambda: os.open(path, os.O_RDONLY | os.O_TRUNC),
    "open in no mode": lambda: os.open(path, 3),
    "lease": lambda: fcntl.fcntl(os.open(path, os.O_RDONLY), 1024, fcntl.F_RDLCK),
    "FIOSETOWN": lambda: fcntl.ioctl(own, 0x8901, parent.to_bytes(4, sys.byteorder)),
    "SIOCSPGRP": lambda: fcntl.ioctl(own, 0x8902, parent.to_bytes(4, sys.byteorder)),
    "F_SETOWN": lambda: fcntl.fcntl(own, 8, parent),
    "read": lambda: os.open(path, os.O_RDONLY),
    "write": lambda: os.open(path, os.O_WRONLY | os.O_TRUNC),
    "append": lambda: os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT),
}
done = []
for name, attack in attacks.items():
    try:
        attack()
        done.append(name)
    except PermissionError:
        pass
    if name == "read":
        assert os.path.getsize(path) == 1
print(json.dumps(done))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has seccomp")
def test_calls_that_landlock_allows_on_older_kernels_are_filtered(tmp_path: Path) -> None:
    assert sandbox_policy.has_seccomp(), "Use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64"
    (tmp_path / "file").write_text("x")
    command = [sys.executable, "-c", _WITHOUT_LANDLOCK, str(tmp_path / "file")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == ["read", "write", "append"]
