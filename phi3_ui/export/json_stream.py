"""Read JSON value by value, within limits.

Parsing a whole file takes up to thirty times its size in memory: an empty object of three bytes takes 64. Here, only one chat is
held in memory at a time, and it may take at most `_MAX_GROWTH` times its size.
"""

import codecs
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, BinaryIO

import ijson

from phi3_ui.export.refusal import ImportRefusedError

MAX_CHAT_BYTES = 20_000_000
_MAX_DEPTH = 100
_MAX_GROWTH = 4  # bytes of memory for each byte of a chat
_FREE_BYTES = 8_000_000  # of memory that every chat may take, since a short one may consist of structure only
_CHUNK = 64 * 1024

_PAIR_BYTES = 12  # of an escaped surrogate pair
_MAX_ESCAPED = 64 * 1024  # bytes read beyond a chunk if it ends in a run of escape sequences
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
"""One escape sequence or an escaped surrogate pair; the group matches a lone surrogate."""

_OBJECT_BYTES, _LIST_BYTES, _NUMBER_BYTES, _REFERENCE_BYTES = 232, 88, 32, 16
"""Sizes in CPython of a small dict, a list, a number, and the reference to a value."""


@dataclass(frozen=True)
class Element:
    """One value of a file: a complete document, or an element of a list."""

    value: Any
    """An ImportRefusedError instance if the value exceeds the limits."""
    in_list: bool
    size: int
    """Approximate memory that it takes, in bytes."""
    ends_list: bool = False
    """A marker without a value: the list has ended."""


def iterate_elements(file: BinaryIO) -> Iterator[Element]:
    """Yield the documents of a JSON or JSON Lines file in UTF-8, -16 or -32; for a list, its elements and then its end.

    Lone surrogates, which UTF-8 cannot encode, become "?".

    Raises:
        ImportRefusedError: not_json, number, too_large (one string is longer than MAX_CHAT_BYTES). Values before it are yielded.
    """
    source = _Source(file)
    builder, in_list = _Builder(source), False
    try:
        for event, value in ijson.basic_parse(source, multiple_values=True, buf_size=_CHUNK):
            source.mark()
            if builder.is_idle and event == "start_array" and not in_list:
                in_list = True
            elif builder.is_idle and event == "end_array":
                in_list = False
                yield Element(None, True, 0, ends_list=True)
            elif builder.add_event(event, value):
                yield Element(builder.result, in_list, builder.size)
                builder.reset()
    except ImportRefusedError:
        raise
    except (ijson.JSONError, UnicodeError) as error:
        raise builder.refusal or ImportRefusedError("not_json") from error
    except (
        ValueError,
        SystemError,
    ) as error:  # int() refuses thousands of digits; ijson 3.6 reports that as a SystemError
        raise ImportRefusedError("number") from error


class _Source:
    """Feeds a file to the parser, transcoded to UTF-8, and counts the bytes read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder: codecs.IncrementalDecoder | None = None
        self._marked_at = self.position = 0

    def mark(self) -> None:
        """Remember the position: the parser has emitted an event, so that no string is open."""
        self._marked_at = self.position

    def read(self, size: int) -> bytes:
        """Read about `size` bytes. The parser first calls this with size 0, to learn whether the file is binary."""
        if self.position - self._marked_at > MAX_CHAT_BYTES:
            raise ImportRefusedError("too_large")
        if not size:
            return b""
        chunk = self._read_utf8(max(size, 4))
        # Do not split an escape sequence; `end` limits this for strings that consist of nothing else.
        end = len(chunk) + _MAX_ESCAPED
        while b"\\" in chunk[-_PAIR_BYTES:] and len(chunk) < end and (more := self._read_utf8(_PAIR_BYTES)):
            chunk += more
        return _replace_lone_surrogates(chunk)

    def _read_utf8(self, size: int) -> bytes:
        while chunk := self._file.read(size):
            if not self.position and (encoding := json.detect_encoding(chunk[:4])) != "utf-8":
                self._decoder = codecs.getincrementaldecoder(encoding)()
            self.position += len(chunk)
            if self._decoder is None:
                return chunk
            if text := self._decoder.decode(chunk):
                return text.encode()
        if self._decoder:
            self._decoder.decode(b"", final=True)
        return b""


def _replace_lone_surrogates(chunk: bytes) -> bytes:
    """Replace lone surrogates by "?": yajl fails at a lone low surrogate, and takes whatever follows a lone high one for its second half."""
    return _ESCAPE.sub(lambda found: b"\\u003f" if found[1] else found[0], chunk) if _SURROGATE.search(chunk) else chunk


class _Builder:
    """Assembles a value from the parser's events. A value that exceeds the limits is skipped, and becomes an ImportRefusedError."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._names = dict[str, str]()  # interned field names
        self.reset()

    def reset(self) -> None:
        """Start the next value."""
        self.result: Any = None
        self.size = 0
        self._depth = 0
        self._open: list[Any] = []  # the containers around the current position
        self._keys: list[str] = []  # the current field name of each open object
        self._refusal: ImportRefusedError | None = None
        self._started_at = self._source.position

    @property
    def refusal(self) -> ImportRefusedError | None:
        """The reason why the incomplete value is skipped, if it is."""
        return self._refusal

    @property
    def is_idle(self) -> bool:
        """Whether no value has been started."""
        return self._depth == 0

    def add_event(self, event: str, value: Any) -> bool:
        """Process an event; return True if it completes the value, which is then in `result`."""
        if event in ("end_map", "end_array"):
            self._depth -= 1
            if self._open and self._refusal is None:
                ended = self._open.pop()
                if event == "end_map":
                    self._keys.pop()
                self.result = ended
        elif event == "map_key":
            if self._refusal is None:
                self._keys[-1] = self._names.setdefault(value, value) if len(self._names) < 1000 else value
                self._grow(_REFERENCE_BYTES)
        elif event in ("start_map", "start_array"):
            self._depth += 1
            self._start({} if event == "start_map" else [])
        else:
            self._add(value)
        if self._depth:
            return False
        self.result = self._refusal or self.result
        return True

    def _start(self, container: Any) -> None:
        if self._depth > _MAX_DEPTH:
            self._refuse("too_deep")
        if self._refusal is None:
            self._put(container)
            self._open.append(container)
            if isinstance(container, dict):
                self._keys.append("")
            self._grow(_OBJECT_BYTES if isinstance(container, dict) else _LIST_BYTES)

    def _add(self, value: Any) -> None:
        if self._refusal is not None:
            return
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            value = self._convert_number(value)
        self._put(value)
        self._grow(_REFERENCE_BYTES + (sys.getsizeof(value) if isinstance(value, str) else _NUMBER_BYTES))

    def _put(self, value: Any) -> None:
        if not self._open:
            self.result = value
        elif isinstance(self._open[-1], dict):
            self._open[-1][self._keys[-1]] = value
        else:
            self._open[-1].append(value)

    def _convert_number(self, value: int | Decimal) -> int | float:
        """Convert a number. Integers of more than 18 digits become floats: they are times in nanoseconds, or ids that are ignored."""
        if isinstance(value, int) and -(10**18) < value < 10**18:
            return value
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._refuse("number")
        return number

    def _grow(self, count: int) -> None:
        self.size += count
        read = self._source.position - self._started_at
        if read > MAX_CHAT_BYTES + _CHUNK or self.size > _FREE_BYTES + _MAX_GROWTH * read:
            self._refuse("too_large")

    def _refuse(self, code: str) -> None:
        self._refusal = self._refusal or ImportRefusedError(code)
        self._open.clear()
        self._keys.clear()
        self.result = None
