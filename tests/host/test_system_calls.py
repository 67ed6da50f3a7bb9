"""The filter of system calls, as built for each architecture; what it does is tested in test_containment.py."""

import platform

import pytest
from seccompy.syscalls import AARCH64_SYSCALLS, AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64, X86_64_SYSCALLS

from phi3_ui.host import containment
from phi3_ui.host.system_calls import DENIED, build_filter


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
    containment.has_seccomp.cache_clear()
    assert not containment.has_seccomp()
    containment.has_seccomp.cache_clear()
