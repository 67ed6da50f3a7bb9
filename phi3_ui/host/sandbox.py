"""Confines a model's process before it imports anything from a model: resource limits, Landlock, capabilities, seccomp."""

import contextlib
import os
import sys
from pathlib import Path

from phi3_ui.host.sandbox_policy import (
    MAX_FILE_BYTES,
    SandboxPolicy,
    address_space_limit,
    has_gpu_driver,
    has_seccomp,
    landlock_version,
)
from phi3_ui.host.seccomp_filter import filter_system_calls

_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt/rocm", "/nix/store", "/sys")
_SYSTEM_FILES = tuple(
    f"/etc/{name}"
    for name in [
        "alternatives",
        "ca-certificates",
        "fonts",
        "group",
        "host.conf",
        "hosts",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
        "machine-id",
        "mime.types",
        "nsswitch.conf",
        "OpenCL",
        "os-release",
        "passwd",
        "pki",
        "protocols",
        "resolv.conf",
        "services",
        "ssl",
        "timezone",
    ]
)
_PROC_FILES = tuple(
    f"/proc/{name}"
    for name in ["self", "cpuinfo", "meminfo", "stat", "version", "filesystems", "loadavg", "uptime", "sys", "driver"]
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
_GPU_DEVICES = ("nvidia*", "dri", "kfd")


def confine(policy: SandboxPolicy) -> None:
    """Confine this process irrevocably. It must not have other threads yet. Raises OSError if the system refuses."""
    if os.name != "posix":
        return
    with contextlib.suppress(ValueError, OSError):
        os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 1 << 20))
    # Checked first: the library runs a program to find libc.
    is_filtered = has_seccomp() and not policy.may_execute
    _set_limits(None if policy.uses_zero_gpu else address_space_limit())  # a GPU driver may appear later
    if landlock_version():
        _restrict(policy)
        _drop_capabilities()  # new programs cannot regain them: Landlock sets no_new_privs
    if is_filtered:
        has_gpu = has_gpu_driver() or policy.uses_zero_gpu
        filter_system_calls(has_gpu, policy.uses_zero_gpu)  # CUDA shares its device through a Unix socket


def _set_limits(address_space: int | None) -> None:
    import resource

    for limit, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_AS, address_space),
    ):
        _, hard = resource.getrlimit(limit)
        if wanted is not None:
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(limit, (value, value))
    with contextlib.suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text(
            "1000", encoding="ascii"
        )  # the first to be killed when memory runs out


def _drop_capabilities() -> None:
    """Drop root's capabilities, such as raising limits, except for opening other users' files, which a load may need."""
    import ctypes

    kept = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3; this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of 32 capabilities each
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets) == 0:
        libc.capset(header, (ctypes.c_uint32 * 6)(sets[0] & kept, sets[1] & kept, 0, 0, 0, 0))


def _restrict(policy: SandboxPolicy) -> None:
    import landlockpy
    from landlockpy import AccessFS, AccessNet, Scope
    from landlockpy.flags import LATEST_ABI

    read = AccessFS.READ_FILE | AccessFS.READ_DIR
    run = read | AccessFS.EXECUTE if policy.may_execute else read
    write = landlockpy.fs_for_abi(LATEST_ABI) & ~(
        AccessFS.EXECUTE | AccessFS.MAKE_CHAR | AccessFS.MAKE_BLOCK | AccessFS.IOCTL_DEV | AccessFS.RESOLVE_UNIX
    )
    device = AccessFS.READ_FILE | AccessFS.WRITE_FILE | AccessFS.READ_DIR | AccessFS.IOCTL_DEV
    file_access = AccessFS.EXECUTE | AccessFS.READ_FILE | AccessFS.WRITE_FILE | AccessFS.TRUNCATE | AccessFS.IOCTL_DEV
    devices = [Path("/dev", name) for name in _DEVICES]
    devices += [found for pattern in _GPU_DEVICES for found in Path("/dev").glob(pattern)]
    rules = [
        *((path, run) for path in (*_SYSTEM_FOLDERS, sys.prefix, sys.base_prefix)),
        *((path, read) for path in (*_SYSTEM_FILES, *_PROC_FILES, *policy.readable)),
        *((path, write) for path in policy.writable),
        # CUDA fails where it cannot name its threads.
        ("/proc/self/task", read | AccessFS.WRITE_FILE | AccessFS.TRUNCATE),
        *((str(path), device) for path in devices),
    ]
    if policy.uses_zero_gpu:
        # Devices may appear once a GPU is lent. Each forked worker names its threads in its own folder of /proc; root gets no
        # write access there, since it could change settings of the machine.
        rename = AccessFS.WRITE_FILE | AccessFS.TRUNCATE if os.geteuid() else AccessFS.NONE
        rules += [("/dev", device), ("/proc", read | rename)]
    scoped = Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL
    # Access rights that a ruleset does not handle are allowed; None handles all of them.
    denied_net = AccessNet.NONE if policy.has_network else None
    with landlockpy.Ruleset(handled_net=denied_net, scoped=scoped) as ruleset:
        for path, access in rules:
            if os.path.exists(path):
                ruleset.allow_path(path, access if os.path.isdir(path) else access & file_access)
        ruleset.restrict()
    for path in (*_PROC_FILES, "/proc/self/task"):
        # A rule applies to an inode, and /proc creates a new one when the old one is no longer in use: keep these open.
        with contextlib.suppress(OSError):
            os.open(path, os.O_PATH)
