"""Finds the external weight files of an ONNX model by walking its protobuf messages without building objects.

The field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

_MAX_DEPTH = 30
_MAX_FIELDS = 5_000_000
_MAX_LENGTH = (1 << 31) - 1  # bytes; protobuf's own limit

# By message, the fields with messages that may contain tensors, at any depth.
_MODEL = "model"
_NESTED: dict[str, dict[int, str]] = {
    _MODEL: {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {13: "entry"},
}


def find_external_files(file: Path) -> set[str]:
    """Return the locations of external data in an ONNX file, verbatim. Raise ValueError if it is not valid ONNX."""
    if not file.stat().st_size:
        raise ValueError("it is empty")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return set(_Walker(content).find_locations())


class _Walker:
    """Walks the messages of a mapped ONNX file. Methods raise ValueError if it is invalid."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._fields = 0

    def find_locations(self) -> Iterator[str]:
        pending = [(_MODEL, 0, len(self._content), 0)]
        while pending:
            message, start, end, depth = pending.pop()
            if depth > _MAX_DEPTH:
                raise ValueError("it is nested too deeply")
            if message == "entry":
                yield from self._read_location(start, end)
                continue
            nested = _NESTED[message]
            for number, begin, stop in self._iterate_fields(start, end):
                if number in nested:
                    pending.append((nested[number], begin, stop, depth + 1))

    def _read_location(self, start: int, end: int) -> Iterator[str]:
        """Yield the value of a StringStringEntryProto whose key is `location`; of a repeated field, the last value counts."""
        fields = {number: self._content[begin:stop] for number, begin, stop in self._iterate_fields(start, end)}
        if fields.get(1) == b"location":
            yield fields.get(2, b"").decode("utf-8", "surrogateescape")

    def _iterate_fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, start and end of each length-delimited field of a message."""
        while at < end:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise ValueError("it has too many fields")
            tag, at = self._read_varint(at, end)
            if not 8 <= tag < 1 << 32:  # protobuf reads 32 bits, so a longer tag may hide a field
                raise ValueError("it is not an ONNX file")
            kind = tag & 7
            if kind == 0:
                _, at = self._read_varint(at, end)
            elif kind == 1:
                at += 8
            elif kind == 5:
                at += 4
            elif kind == 2:
                length, at = self._read_varint(at, end)
                if length > min(end - at, _MAX_LENGTH):
                    raise ValueError("it is truncated")
                yield tag >> 3, at, at + length
                at += length
            else:
                raise ValueError("it is not an ONNX file")
        if at > end:
            raise ValueError("it is truncated")

    def _read_varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise ValueError("it is not an ONNX file")
            byte = self._content[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at
