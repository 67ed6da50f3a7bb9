"""Which files an ONNX model takes its weights from: its protobuf messages are walked over, not parsed into objects.

The field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

_MAX_DEPTH = 30
_MAX_FIELDS = 5_000_000
_MAX_LENGTH = (1 << 31) - 1  # bytes; protobuf's own limit

# Of each message: the fields that hold messages which may, at any depth, hold tensors.
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
    """The locations of external data that an ONNX file names, as they are written. ValueError if it is not valid ONNX."""
    if not file.stat().st_size:
        raise ValueError("it is empty")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return set(_Walk(content).locations())


class _Walk:
    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._fields = 0

    def locations(self) -> Iterator[str]:
        pending = [(_MODEL, 0, len(self._content), 0)]
        while pending:
            message, start, end, depth = pending.pop()
            if depth > _MAX_DEPTH:
                raise ValueError("it is nested too deep")
            if message == "entry":
                yield from self._location(start, end)
                continue
            nested = _NESTED[message]
            for number, begin, stop in self._length_delimited(start, end):
                if number in nested:
                    pending.append((nested[number], begin, stop, depth + 1))

    def _location(self, start: int, end: int) -> Iterator[str]:
        """The value of a StringStringEntryProto whose key is `location`; the last of a repeated field counts."""
        fields = {number: self._content[begin:stop] for number, begin, stop in self._length_delimited(start, end)}
        if fields.get(1) == b"location":
            yield fields.get(2, b"").decode("utf-8", "surrogateescape")

    def _length_delimited(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each field of a message that has a length."""
        while at < end:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise ValueError("it has too many fields")
            tag, at = self._varint(at, end)
            if not 8 <= tag < 1 << 32:  # protobuf reads 32 bits, so a longer one may hide a field
                raise ValueError("it is no ONNX file")
            kind = tag & 7
            if kind == 0:
                _, at = self._varint(at, end)
            elif kind == 1:
                at += 8
            elif kind == 5:
                at += 4
            elif kind == 2:
                length, at = self._varint(at, end)
                if length > min(end - at, _MAX_LENGTH):
                    raise ValueError("it is cut off")
                yield tag >> 3, at, at + length
                at += length
            else:
                raise ValueError("it is no ONNX file")
        if at > end:
            raise ValueError("it is cut off")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise ValueError("it is no ONNX file")
            byte = self._content[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at
