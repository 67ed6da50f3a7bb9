"""Read the chat files of a zip, within limits: neither its directory nor its unpacked sizes can be trusted."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from phi3_ui.export.refusal import ImportRefusedError

MAX_FILES = 5_000
_MAX_ENTRIES = 4 * MAX_FILES  # including other files, which are skipped
_MAX_DIRECTORY = 8_000_000  # bytes; zipfile loads all of it
MAX_UNPACKED = 400_000_000  # bytes of all files together
_MAX_RATIO = 50  # unpacked size over the size of the zip; chats compress to a tenth of their size or more
_FREE_BYTES = 1_000_000  # bytes that any zip may unpack to

_CHAT_FILE = re.compile(r"(^|/)[^./][^/]*\.jsonl?$", re.I)
_DAMAGE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ArithmeticError,
    ValueError,
)


def is_zip(file: BinaryIO) -> bool:
    """Whether a file begins like a zip. Rewinds the file."""
    file.seek(0)
    start = file.read(2)
    file.seek(0)
    return start == b"PK"


def iterate_members(file: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Yield name and content of every .json and .jsonl file of a zip, in order.

    Raises:
        ImportRefusedError: zip_damaged, zip_empty, too_many_chats, encrypted, packing, too_large; member_too_large, also while a
            member is read.
    """
    with _translate_damage():
        left = min(MAX_UNPACKED, _FREE_BYTES + _MAX_RATIO * _check_size(file))
        with zipfile.ZipFile(file) as packed:
            for member in _list_members(packed):
                with packed.open(member) as opened:
                    bounded = _Member(opened, member, left)
                    yield member.filename, cast(BinaryIO, bounded)
                left = bounded.left
                if left < 0:
                    return


@contextmanager
def _translate_damage() -> Iterator[None]:
    try:
        yield
    except ImportRefusedError:
        raise
    except _DAMAGE_ERRORS as error:
        raise ImportRefusedError("zip_damaged") from error


def _check_size(file: BinaryIO) -> int:
    """Return the size of a zip, after checking that its directory is small enough to read."""
    size = file.seek(0, 2)
    entries, tail = 0, b""
    file.seek(0)
    while chunk := file.read(1_000_000):
        entries += (tail + chunk).count(b"PK\1\2")
        tail = chunk[-3:]
    file.seek(max(0, size - 65_557))  # the end-of-directory record, with the longest possible comment
    end = file.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 20:
        raise ImportRefusedError("zip_damaged")
    (directory,) = struct.unpack("<L", end[at + 12 : at + 16])
    if entries > _MAX_ENTRIES or directory > _MAX_DIRECTORY:
        raise ImportRefusedError("too_large")
    file.seek(0)
    return size


def _list_members(packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in packed.infolist() if _CHAT_FILE.search(member.filename)]
    if any(re.search(r"(^|/)chat\.html$", member.filename) for member in packed.infolist()):
        # ChatGPT's export: its other files are about the account and contain no chats.
        members = [member for member in members if re.search(r"(^|/)conversations[^/]*\.json$", member.filename)]
    if not members:
        raise ImportRefusedError("zip_empty")
    if len(members) > MAX_FILES:
        raise ImportRefusedError("too_many_chats", count=MAX_FILES)
    for member in members:
        if member.flag_bits & 1:
            raise ImportRefusedError("encrypted", file=member.filename)
        # zipfile decompresses other methods without a limit.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ImportRefusedError("packing", file=member.filename)
    return members


class _Member:
    """A member that is read up to a limit, because the size declared in the zip may be wrong."""

    def __init__(self, opened: object, member: zipfile.ZipInfo, left: int) -> None:
        self._opened = cast(BinaryIO, opened)
        self._name = member.filename
        self.left = left
        if member.file_size > left:
            raise ImportRefusedError("member_too_large", file=self._name)

    def read(self, size: int) -> bytes:
        with _translate_damage():
            data = self._opened.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ImportRefusedError("member_too_large", file=self._name)
        return data
