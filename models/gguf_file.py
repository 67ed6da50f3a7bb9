"""Read a GGUF file: its metadata and its tensors, dequantised to float32. Independent of the model's architecture.

The `gguf` package has a reader too, but it creates a NumPy array for every token of the vocabulary, which takes 4 s for the demo
model instead of 0.2 s here. The package's dequantisation is used unchanged.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # both little-endian with 64-bit lengths
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_DEFAULT_ALIGNMENT = 32  # bytes


@dataclass(frozen=True)
class Tensor:
    """The location of one tensor in the file."""

    name: str
    shape: tuple[int, ...]
    """Row-major, as in NumPy and PyTorch: the reverse of the order in the file."""
    quantization: int
    """A value of gguf.GGMLQuantizationType."""
    offset: int
    """Bytes from the start of the file."""


class GGUFFile:
    """The metadata and tensors of a memory-mapped GGUF file. Raises ValueError for another format or an unsupported version."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._position = 0
        magic, version = self._data[:4], struct.unpack_from("<I", self._data, 4)[0]
        if magic != _MAGIC or version not in _VERSIONS:
            raise ValueError(f"{path.name} is not a little-endian GGUF file of version 2 or 3.")
        self._position = 8
        tensor_count, field_count = self._read_scalar("<Q"), self._read_scalar("<Q")
        self.metadata: dict[str, Any] = {
            self._read_string(): self._read_value(self._read_scalar("<I")) for _ in range(field_count)
        }
        """Values by key, such as "llama.block_count": numbers, strings, booleans, lists of these."""
        self.tensors: dict[str, Tensor] = {}
        for name, shape, quantization, offset in [self._read_tensor_info() for _ in range(tensor_count)]:
            self.tensors[name] = Tensor(name, shape, quantization, offset)
        alignment = self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        self._start = -(-self._position // alignment) * alignment

    def read_tensor(self, name: str) -> FloatArray:
        """Return the tensor `name` as float32, in its shape. Thread-safe. Raises KeyError if there is no such tensor."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        tensor = self.tensors[name]
        quantization = GGMLQuantizationType(tensor.quantization)
        block_elements, block_bytes = GGML_QUANT_SIZES[quantization]
        *rows, columns = tensor.shape
        row_bytes = columns // block_elements * block_bytes
        count = int(np.prod(rows, dtype=np.int64)) * row_bytes
        raw = np.frombuffer(self._data, np.uint8, count, self._start + tensor.offset).reshape(*rows, row_bytes)
        values: FloatArray = dequantize(raw, quantization).astype(np.float32, copy=False)
        return values.reshape(tensor.shape)

    def _read_tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._read_string()
        dimensions = [self._read_scalar("<Q") for _ in range(self._read_scalar("<I"))]
        return name, tuple(reversed(dimensions)), self._read_scalar("<I"), self._read_scalar("<Q")

    def _read_value(self, type_: int) -> Any:
        if type_ == _STRING:
            return self._read_string()
        if type_ == _ARRAY:
            item_type, length = self._read_scalar("<I"), self._read_scalar("<Q")
            return list(self._read_items(item_type, length))
        return self._read_scalar(_SCALARS[type_])

    def _read_items(self, type_: int, length: int) -> Iterator[Any]:
        if type_ in _SCALARS:
            code = _SCALARS[type_][1]
            values = struct.unpack_from(f"<{length}{code}", self._data, self._position)
            self._position += struct.calcsize(f"<{length}{code}")
            yield from values
        else:
            yield from (self._read_value(type_) for _ in range(length))

    def _read_string(self) -> str:
        length = self._read_scalar("<Q")
        start = self._position
        self._position += length
        return self._data[start : self._position].decode("utf-8")

    def _read_scalar(self, format_: str) -> Any:
        (value,) = struct.unpack_from(format_, self._data, self._position)
        self._position += struct.calcsize(format_)
        return value
