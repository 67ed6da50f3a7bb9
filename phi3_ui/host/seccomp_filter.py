"""The seccomp filter for models' processes without approved third-party code.

Landlock guards files, TCP connections and signals. The filter denies what Landlock does not cover: all other networking, new
processes, and calls that change other processes, the attributes of files, or the kernel. It sees the values of a call's
arguments, not the memory that they point to, so it cannot tell one path from another.
"""

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seccompy import ArgCmp, Filter

_SOCKETS = {"socket", "socketpair", "bind", "connect", "listen", "accept", "accept4"}
_SELF_ONLY = {
    "kill",
    "tgkill",
    "prlimit64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
}
"""Calls allowed on this process only: their first argument is its id, or 0."""

_OTHER_CALLS = """
    fork vfork clone execve execveat
    tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd pidfd_send_signal
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp get_robust_list
    setpriority ioprio_set move_pages migrate_pages
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr
    shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink
    truncate inotify_add_watch fanotify_init fanotify_mark name_to_handle_at open_by_handle_at
    io_uring_setup io_uring_enter io_uring_register bpf userfaultfd perf_event_open modify_ldt
    add_key keyctl request_key unshare setns chroot pivot_root mount umount2 move_mount mount_setattr
    open_tree open_tree_attr fsopen fsconfig fsmount fspick
"""
DENIED = frozenset(_SOCKETS | _SELF_ONLY | set(_OTHER_CALLS.split()))
"""The denied calls. Others that change the system need capabilities, which the process drops (sandbox.py)."""

_CLONE_THREAD, _CLONE_NAMESPACES = 0x00010000, 0x7E020080
_AF_UNIX, _AF_INET, _AF_INET6, _SOCK_STREAM, _SOCK_TYPE = 1, 2, 10, 1, 0xF
_ALL_BITS = 0xFFFFFFFF
_OPEN_MODES = (
    (0x003, 0x003),  # neither reading nor writing: needs no Landlock right, yet suffices for leases and locks
    (0x200, 0x203),  # O_RDONLY with O_TRUNC: Landlock denies it only since version 3
)
_DENIED_ARGUMENTS: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "prctl": (0, ((1, _ALL_BITS),)),  # PR_SET_PDEATHSIG: to outlive the app
    "open": (1, _OPEN_MODES),
    "openat": (2, _OPEN_MODES),
    "fcntl": (
        1,
        # F_SETOWN, F_SETOWN_EX: which process a descriptor signals; F_SETLEASE: makes others wait to open a file; F_NOTIFY
        tuple((command, _ALL_BITS) for command in (8, 15, 1024, 1026)),
    ),
    "ioctl": (
        1,
        # FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR: attributes of a file; FIOSETOWN, SIOCSPGRP: like F_SETOWN; TIOCSTI, TIOCLINUX: insert
        # input into a terminal
        tuple((request, _ALL_BITS) for request in (0x40086602, 0x401C5820, 0x8901, 0x8902, 0x5412, 0x541C)),
    ),
}
"""By call, the index of an argument and its denied values, each with the mask of the bits that are compared."""
_HIDDEN = {"clone3", "openat2"}
"""Their flags are in memory, which the filter cannot see. Where they are missing, libraries call `clone` and `openat`."""


def filter_system_calls(allow_unix_sockets: bool, allow_workers: bool = False) -> None:
    """Restrict this process irrevocably. It must not have other threads yet. Raises OSError if the system refuses.

    Denied calls fail with EPERM (sockets with EACCES), and calls that are newer than the filter with ENOSYS, as on an older
    kernel. A call of another architecture (32-bit) kills the process. `allow_unix_sockets` allows Unix sockets;
    `allow_workers` allows internet sockets and forking, which the package `spaces` needs.
    """
    build_filter(os.getpid(), allow_unix_sockets, allow_workers).load()


def build_filter(pid: int, allow_unix_sockets: bool, allow_workers: bool = False) -> "Filter":
    """Return the filter for the process `pid`. It covers exactly the calls that the library lists for this architecture."""
    from seccompy import Action, Filter, arch
    from seccompy.syscalls import AARCH64_SYSCALLS, X86_64_SYSCALLS

    rules = Filter(Action.ERRNO | errno.ENOSYS)
    for name in {"x86_64": X86_64_SYSCALLS, "aarch64": AARCH64_SYSCALLS}[arch()]:
        if name in _HIDDEN:
            continue
        index, values = _DENIED_ARGUMENTS.get(name, (0, ()))
        for value, mask in values:
            rules.errno(name, errno.EPERM, args=[_equals(index, value, mask)])
        has_sockets = allow_unix_sockets or allow_workers
        if name not in DENIED or (has_sockets and name in _SOCKETS - {"socket", "socketpair"}):
            rules.allow(name)
            continue
        for conditions in _exceptions(name, pid, allow_unix_sockets, allow_workers):
            rules.allow(name, args=conditions)
        rules.errno(name, errno.EACCES if name in _SOCKETS else errno.EPERM)
    return rules


def _exceptions(name: str, pid: int, allow_unix_sockets: bool, allow_workers: bool) -> "Iterator[list[ArgCmp]]":
    """Yield conditions, each of which allows a call that is otherwise denied."""
    if name in _SELF_ONLY:
        yield from ([_equals(0, process)] for process in (0, pid))
    elif name == "clone":
        thread = 0 if allow_workers else _CLONE_THREAD
        yield [_equals(0, thread, thread | _CLONE_NAMESPACES)]
    elif name == "socketpair":  # other types could send to named sockets
        yield [_equals(0, _AF_UNIX), _equals(1, _SOCK_STREAM, _SOCK_TYPE)]
    elif name == "socket":
        families = [_AF_UNIX] * allow_unix_sockets + [_AF_INET, _AF_INET6] * allow_workers
        yield from ([_equals(0, family)] for family in families)


def _equals(index: int, value: int, mask: int = _ALL_BITS) -> "ArgCmp":
    """Return the condition that an argument, of which the kernel reads 32 bits, has this value in the bits of `mask`."""
    from seccompy import ArgCmp, CmpOp

    return ArgCmp(index, CmpOp.MASKED_EQ, value, mask)
