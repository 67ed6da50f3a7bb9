"""Create symbolic and hard links instead of copies of large files.

A hard link is the same file under two names: writing to one in place changes the other. Therefore small files, which users may
edit, are copied.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

SMALL = 1 << 20
"""Files below this many bytes are copied, never hard-linked."""


def symlink_or_copy(file: Path, target: Path) -> None:
    """Create `target` as a symbolic link to `file`, or like link_or_copy if the system does not support that."""
    try:
        target.symlink_to(file.resolve(strict=True))
    except OSError:
        link_or_copy(file, target)


def link_or_copy(file: Path, target: Path) -> None:
    """Create `target` as a hard link to `file` (symbolic links followed), or as a copy of it.

    Small files are copied, and so are files on another disk or on a file system without links, or if the system forbids links to
    other users' files.
    """
    real = file.resolve(strict=True)
    if real.stat().st_size >= SMALL:
        with suppress(OSError):
            os.link(real, target)
            return
    shutil.copy2(real, target)
