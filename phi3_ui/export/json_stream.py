"""Reads JSON value by value, within bounds.

Parsed at once, a file takes up to thirty times its size of memory: an empty object of three bytes takes 64. Here only one
chat is held, and only while it takes at most `_MAX_GROWTH` times its size.
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
_FREE_BYTES = 8_000_000  # of memory, that every chat may take: a short one may be all structure
_CHUNK = 64 * 1024

_PAIR_BYTES = 12  # of a surrogate pair, as it is escaped
_MAX_ESCAPED = 64 * 1024  # bytes in a row that are read beyond a chunk, because they are all escape sequences
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
"""One escape sequence, or a pair of them; a lone surrogate is the group."""

_OBJECT_BYTES, _LIST_BYTES, _NUMBER_BYTES, _REFERENCE_BYTES = 232, 88, 32, 16
"""What CPython takes for a small dict, a list, a number, and for the reference to a value."""


@dataclass(frozen=True)
class Element:
    """One value of a file: the whole document, or an element of its list."""

    value: Any
    """ImportRefusedError if it is beyond the bounds."""
    in_list: bool
    size: int
    """Memory that it takes, in bytes, about."""
    ends_list: bool = False
    """A mark instead of a value: the list has ended."""


def iterate_elements(file: BinaryIO) -> Iterator[Element]:
    """The documents of a JSON or JSON Lines file in UTF-8, -16 or -32; of a list its elements, followed by its end.

    Lone surrogates, which UTF-8 cannot encode, become "?".

    Raises:
        ImportRefusedError: not_json, number, too_large (one text is longer than MAX_CHAT_BYTES). What comes before is read.
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
            elif builder.take(event, value):
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
    """Feeds a file to the parser, recoded to UTF-8, and counts what it has read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder: codecs.IncrementalDecoder | None = None
        self._marked_at = self.position = 0

    def mark(self) -> None:
        """The parser has found the end of a text, or of anything else."""
        self._marked_at = self.position

    def read(self, size: int) -> bytes:
        """Up to `size` bytes and a little; a first call without a size asks for the type."""
        if self.position - self._marked_at > MAX_CHAT_BYTES:
            raise ImportRefusedError("too_large")
        if not size:
            return b""
        chunk = self._read_utf8(max(size, 4))
        # No escape sequence may be cut; a text of nothing else ends that.
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
    """JSON with "?" for each: yajl ends with an error at the second half of a pair, and takes what follows a first one for its other half."""
    return _ESCAPE.sub(lambda found: b"\\u003f" if found[1] else found[0], chunk) if _SURROGATE.search(chunk) else chunk


class _Builder:
    """Puts a value together from the parser's events. What is beyond the bounds is skipped, and becomes an ImportRefusedError."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._names = dict[str, str]()  # one copy of each field's name
        self.reset()

    def reset(self) -> None:
        """Begin the next value."""
        self.result: Any = None
        self.size = 0
        self._depth = 0
        self._open: list[Any] = []  # the containers around the current place
        self._keys: list[str] = []  # of those that are objects, the current name
        self._refusal: ImportRefusedError | None = None
        self._started_at = self._source.position

    @property
    def refusal(self) -> ImportRefusedError | None:
        """Why the value that is not complete yet is skipped."""
        return self._refusal

    @property
    def is_idle(self) -> bool:
        """Whether no value has begun."""
        return self._depth == 0

    def take(self, event: str, value: Any) -> bool:
        """Take an event; True if it completes the value, which is in `result` then."""
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
            value = self._read_number(value)
        self._put(value)
        self._grow(_REFERENCE_BYTES + (sys.getsizeof(value) if isinstance(value, str) else _NUMBER_BYTES))

    def _put(self, value: Any) -> None:
        if not self._open:
            self.result = value
        elif isinstance(self._open[-1], dict):
            self._open[-1][self._keys[-1]] = value
        else:
            self._open[-1].append(value)

    def _read_number(self, value: int | Decimal) -> int | float:
        """Integers of more than 18 digits are times in nanoseconds, and ids that are not read."""
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
