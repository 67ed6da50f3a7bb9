"""Memory for keys and values: rows of one length in a pool for each layer, whose pages are taken as they are written to."""

import mmap
import os
import sys

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]
"""(rows, heads, length, head size)"""

# Past 16 rows a step computes hardly more tokens/s, but nobody waits for a row. On Windows their memory is committed.
_MAX_ROWS = 16 if os.name == "nt" else 64
_MIN_ROWS = 8  # that a pool should have; a longer chat may leave it with fewer
_LENGTH_STEP = 1024  # tokens; the lengths of rows are this, doubled as often as need be
# Address space may be several times the budget: nothing is taken of it until it is written to. On Windows it is committed.
_ADDRESS_SHARES = (1,) if os.name == "nt" else (4, 2, 1)
_NUMBER_BYTES = 4


class KVPool:
    """Keys and values of all layers. Not thread-safe."""

    def __init__(self, tensors: int, heads: int, head_size: int, context_length: int, budget: int) -> None:
        """`tensors` is twice the number of layers, `budget` the bytes that may be written to.

        OSError or MemoryError without address space for the budget.
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
        self.rows, self.length = self._rows_of(length), length

    @property
    def tensors(self) -> list[Tensor]:
        """The pool of each layer's keys and values."""
        return [tensor for _, tensor in self._memory]

    def length_for(self, tokens: int) -> int:
        """The length of a pool whose rows take so many tokens."""
        length = min(_LENGTH_STEP, self._context_length)
        while length < tokens:
            length = min(2 * length, self._context_length)
        return length

    def rows_for(self, tokens: int) -> int:
        """How many rows a pool has that take so many tokens."""
        return self._rows_of(self.length_for(tokens))

    def resize(self, tokens: int, kept: dict[int, int]) -> None:
        """Make the rows just long enough for `tokens`. The first rows get the contents of `kept`, in its order.

        `kept` has the number of tokens of each row. MemoryError or OSError if there is no address space for it.
        """
        length = self.length_for(tokens)
        new = self._map(length)
        for at, (_, tensor) in enumerate(new):
            for target, (source, count) in enumerate(kept.items()):
                tensor[target, :, :count] = self._memory[at][1][source, :, :count]
            self._memory[at] = new[at]  # the old memory is unmapped with the last reference to it
        self.rows, self.length = self._rows_of(length), length

    def copy(self, source: int, target: int, count: int) -> None:
        """Give a row the first tokens of another."""
        for tensor in self.tensors:
            tensor[target, :, :count] = tensor[source, :, :count]

    def free(self, row: int, start: int, end: int) -> None:
        """Give the memory of a row's tokens from `start` to `end` back to the system, as far as it has whole pages."""
        token = self._head_size * _NUMBER_BYTES
        if (end - start) * token < mmap.PAGESIZE or not hasattr(mmap, "MADV_DONTNEED"):
            return
        for memory, _ in self._memory:
            for head in range(self._heads):
                base = (row * self._heads + head) * self.length * token
                first = -(-(base + start * token) // mmap.PAGESIZE) * mmap.PAGESIZE
                # Past `end` nothing was written: the page that it is in may go as well, up to the next head.
                last = (base + min(self.length, end + mmap.PAGESIZE // token) * token) // mmap.PAGESIZE * mmap.PAGESIZE
                if last > first:
                    memory.madvise(mmap.MADV_DONTNEED, first, last - first)

    def _rows_of(self, length: int) -> int:
        return max(1, min(_MAX_ROWS, self._most_tokens // length))

    def _map(self, length: int) -> list[tuple[mmap.mmap, Tensor]]:
        """Map the pools of all tensors, and what numpy makes of them."""
        shape = (self._rows_of(length), self._heads, length, self._head_size)
        size = int(np.prod(shape)) * _NUMBER_BYTES
        mapped = [_map_pages(size) for _ in range(self._count)]
        return [(memory, np.frombuffer(memory, np.float32).reshape(shape)) for memory in mapped]


def _map_pages(size: int) -> mmap.mmap:
    """Memory of so many bytes, whose pages are taken when they are written to."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # a chat would take megabytes for each head
    return memory
