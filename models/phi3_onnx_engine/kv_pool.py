"""Memory for keys and values: a pool per layer with rows of equal length, whose pages are committed when they are written."""

import mmap
import os
import sys

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]
"""(rows, heads, length, head size)"""

# With more than 16 rows, a step computes hardly more tokens/s, but requests need not wait for a row. Windows commits memory at once.
_MAX_ROWS = 16 if os.name == "nt" else 64
_MIN_ROWS = 8  # minimum when the length is chosen; a longer chat may reduce it
_LENGTH_STEP = 1024  # tokens; row lengths are this, doubled as often as necessary
# Address space may exceed the budget several times, since pages take no memory until they are written. Windows commits at once.
_ADDRESS_SHARES = (1,) if os.name == "nt" else (4, 2, 1)
_NUMBER_BYTES = 4


class KVPool:
    """Keys and values of all layers. Not thread-safe."""

    def __init__(self, tensors: int, heads: int, head_size: int, context_length: int, budget: int) -> None:
        """Map the memory; `tensors` is twice the number of layers, `budget` the number of bytes that may be written.

        Raises OSError or MemoryError if there is no address space for the budget.
        """
        self._count, self._heads, self._head_size = tensors, heads, head_size
        self._context_length = context_length
        self.token_bytes = tensors * heads * head_size * _NUMBER_BYTES
        for share in _ADDRESS_SHARES:
            self._most_tokens = share * budget // self.token_bytes
            length = min(_LENGTH_STEP, context_length)
            while length < context_length and self._most_tokens // (2 * length) >= _MIN_ROWS:
                length = min(2 * length, context_length)
            try:
                self._memory = self._map(length)
                break
            except (OSError, MemoryError):
                if share == _ADDRESS_SHARES[-1]:
                    raise
        self.rows, self.length = self._count_rows(length), length

    @property
    def tensors(self) -> list[Tensor]:
        """The pools, one for the keys and one for the values of each layer."""
        return [tensor for _, tensor in self._memory]

    def choose_length(self, tokens: int) -> int:
        """Return the row length of a pool whose rows can hold `tokens` tokens."""
        length = min(_LENGTH_STEP, self._context_length)
        while length < tokens:
            length = min(2 * length, self._context_length)
        return length

    def count_rows_for(self, tokens: int) -> int:
        """Return the number of rows of a pool whose rows can hold `tokens` tokens."""
        return self._count_rows(self.choose_length(tokens))

    def resize(self, tokens: int, kept: dict[int, int]) -> None:
        """Make the rows just long enough for `tokens`. The rows in `kept` are moved to the front, in its order.

        `kept` maps rows to their numbers of tokens. Raises MemoryError or OSError if there is no address space.
        """
        length = self.choose_length(tokens)
        new = self._map(length)
        for at, (_, tensor) in enumerate(new):
            for target, (source, count) in enumerate(kept.items()):
                tensor[target, :, :count] = self._memory[at][1][source, :, :count]
            self._memory[at] = new[at]  # the old memory is unmapped with the last reference to it
        self.rows, self.length = self._count_rows(length), length

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the first `count` tokens of a row to another."""
        for tensor in self.tensors:
            tensor[target, :, :count] = tensor[source, :, :count]

    def free(self, row: int, start: int, end: int) -> None:
        """Return the memory of a row's tokens from `start` to `end` to the system, as far as it consists of whole pages."""
        token = self._head_size * _NUMBER_BYTES
        if (end - start) * token < mmap.PAGESIZE or not hasattr(mmap, "MADV_DONTNEED"):
            return
        for memory, _ in self._memory:
            for head in range(self._heads):
                base = (row * self._heads + head) * self.length * token
                first = -(-(base + start * token) // mmap.PAGESIZE) * mmap.PAGESIZE
                # Nothing was written after `end`, so the page that contains it may be freed too, unless it reaches the next head.
                last = (base + min(self.length, end + mmap.PAGESIZE // token) * token) // mmap.PAGESIZE * mmap.PAGESIZE
                if last > first:
                    memory.madvise(mmap.MADV_DONTNEED, first, last - first)

    def _count_rows(self, length: int) -> int:
        return max(1, min(_MAX_ROWS, self._most_tokens // length))

    def _map(self, length: int) -> list[tuple[mmap.mmap, Tensor]]:
        """Map the memory of all tensors; return each mapping with the tensor that uses it."""
        shape = (self._count_rows(length), self._heads, length, self._head_size)
        size = int(np.prod(shape)) * _NUMBER_BYTES
        mapped = [_map_pages(size) for _ in range(self._count)]
        return [(memory, np.frombuffer(memory, np.float32).reshape(shape)) for memory in mapped]


def _map_pages(size: int) -> mmap.mmap:
    """Map `size` bytes of memory, whose pages are committed when they are written (except on Windows)."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # otherwise a chat would take megabytes per head
    return memory
