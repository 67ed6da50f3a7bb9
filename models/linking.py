"""Symbolic and hard links in place of copies of large files.

A hard link is the same file under two names: writing to one in place changes the other. So small files, which people edit,
are copied.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

SMALL = 1 << 20
"""Files below this many bytes are copied, never hard-linked."""


def symlink_or_copy(file: Path, target: Path) -> None:
    """Create `target` as a symbolic link to `file`, or as link_or_copy does where the system has no symbolic links."""
    try:
        target.symlink_to(file.resolve(strict=True))
    except OSError:
        link_or_copy(file, target)


def link_or_copy(file: Path, target: Path) -> None:
    """Create `target` as a hard link to `file` (symbolic links followed), or as a copy of it.

    Small files are copied; so are files on another disk, on a file system without links, or where the system forbids
    links to other users' files.
    """
    real = file.resolve(strict=True)
    if real.stat().st_size >= SMALL:
        with suppress(OSError):
            os.link(real, target)
            return
    shutil.copy2(real, target)
