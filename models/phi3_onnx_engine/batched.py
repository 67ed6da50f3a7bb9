"""The engine for CPUs: plain onnxruntime, with all rows in one step.

It needs the rewritten graph (see graph.py). onnxruntime releases the GIL during a step, and a step can be interrupted.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import onnxruntime as ort

from .engine import EngineName, Logits, Row
from .folder import LONG_ROPE_OFFSET, BatchedGraph, OnnxFolder, UnfitGraphError
from .kv_pool import KVPool
from .segment_runner import SegmentRunner

_PROBE = [(11, 7), (5, 3), (2, 9)]
"""Pairs of tokens whose logits are compared between computing them alone and together."""


@dataclass(eq=False)
class _PooledRow(Row):
    index: int = 0
    computing: int = 0
    """Number of tokens of an unfinished prefill, whose keys and values some layers have already."""
    run_options: Any = field(default_factory=ort.RunOptions)


class BatchedEngine:
    """See Engine. Freeing a row frees its memory, and rewinding returns the memory that is no longer needed."""

    name: EngineName = "batched"
    is_batched = True
    shared_chunk = 64

    def __init__(self, folder: OnnxFolder, graph: BatchedGraph | None, threads: int, budget: int) -> None:
        """Load the rewritten model `graph`, or the one in the folder if None; `budget` is the memory for keys and values, in bytes.

        Raises UnfitGraphError if it is not the graph that the folder declares, MemoryError or OSError without address space, and
        any error of onnxruntime.
        """
        self._runner = SegmentRunner(folder, graph, threads)
        self.segments = self._runner.count
        decoder = folder.decoder
        self.context_length, self.switches_rope = folder.context_length, folder.switches_rope
        self._vocabulary = int(folder.model["vocab_size"])
        self._long_rope_offset = int(self._runner.properties.get(LONG_ROPE_OFFSET, 0))
        layers = int(decoder["num_hidden_layers"])
        self._names = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
        heads, size = int(decoder["num_key_value_heads"]), int(decoder["head_size"])
        self._check_graph(heads, size)
        self._pool = KVPool(len(self._names), heads, size, self.context_length, budget)
        self.token_bytes = self._pool.token_bytes
        self._rows: list[_PooledRow | None] = [None] * self._pool.rows
        self._runner.use_pool(self._names, self._pool.tensors)
        self._run_options = ort.RunOptions()
        self._exact_tokens = 1
        self._exact_tokens = self._measure_exact_tokens()

    def allocate(self, length: int) -> Row | None:
        """See Engine. Takes no time, unless the pool is resized to longer rows, or to more and shorter ones."""
        used = [row for row in self._rows if row]
        if length > self._pool.length or len(used) == self._pool.rows:
            needed = max(length, *(max(row.reserved, len(row.tokens) + row.computing) for row in used), 1)
            if len(used) >= self._pool.count_rows_for(needed):
                return None
            self._pool.resize(needed, {row.index: len(row.tokens) + row.computing for row in used})
            self._runner.use_pool(self._names, self._pool.tensors)
            self._rows = [None] * self._pool.rows
            for index, row in enumerate(used):
                row.index, row.length, self._rows[index] = index, self._pool.length, row
        index = self._rows.index(None)
        new = self._rows[index] = _PooledRow(self._pool.length, index=index)
        return new

    def prefill(self, row: Row, tokens: Sequence[int], wants_logits: bool = True) -> Logits:
        """See Engine."""
        return _run_all(self.prefill_by_segment(row, tokens, wants_logits))

    def prefill_by_segment(
        self, row: Row, tokens: Sequence[int], wants_logits: bool = True
    ) -> Generator[None, None, Logits]:
        """See Engine."""
        pooled = self._get_pooled(row)
        pooled.computing = len(tokens)
        logits = yield from self._compute([pooled], [tokens], 1, pooled.run_options, wants_logits)
        pooled.computing = 0
        row.tokens += tokens
        return logits[-1] if wants_logits else logits

    def step(self, rows: Sequence[Row], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        """See Engine."""
        ordered = sorted(
            zip(map(self._get_pooled, rows), tokens, range(len(rows)), strict=True), key=lambda one: one[0].index
        )
        least = self._exact_tokens if exact else 1
        logits = _run_all(
            self._compute(
                [row for row, _, _ in ordered], [[token] for _, token, _ in ordered], least, self._run_options
            )
        )
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
        positions = {number: at for at, (_, _, number) in enumerate(ordered)}
        return [logits[positions[number]] for number in range(len(rows))]

    def rewind(self, row: Row, length: int, uses_long_rope: bool) -> None:
        """See Engine."""
        pooled = self._get_pooled(row)
        before = len(row.tokens) + pooled.computing
        if uses_long_rope != row.uses_long_rope:
            length = 0
        if length < before:
            del row.tokens[length:]
            self._pool.free(pooled.index, length, before)
        pooled.computing = 0
        row.uses_long_rope = uses_long_rope
        pooled.run_options.terminate = False

    def copy_prefix(self, source: Row, target: Row, length: int) -> None:
        """See Engine."""
        self._pool.copy(self._get_pooled(source).index, self._get_pooled(target).index, length)
        target.tokens[:] = source.tokens[:length]
        target.uses_long_rope = source.uses_long_rope

    def interrupt(self, row: Row) -> None:
        """See Engine. A step ends between two operators of the graph."""
        if isinstance(row, _PooledRow):
            row.run_options.terminate = True

    def free(self, row: Row) -> None:
        """See Engine."""
        pooled = self._get_pooled(row)
        self._pool.free(pooled.index, 0, self._pool.length)
        self._rows[pooled.index] = None
        row.tokens = []

    def _check_graph(self, heads: int, size: int) -> None:
        """Raise UnfitGraphError if the shapes of keys, values or logits differ from genai_config.json."""
        declared = self._runner.shapes
        caches = {f"{prefix}.{name}" for prefix in ("past_key_values", "present") for name in self._names}
        if caches != {name for name in declared if name.startswith(("past_key_values.", "present."))}:
            raise UnfitGraphError("its number of layers differs from genai_config.json")
        for name in caches:
            # Some exports give a dimension a name instead of a number; then onnxruntime detects a mismatch in the first step.
            for found, expected in zip(declared[name][1::2], (heads, size), strict=False):
                if isinstance(found, int) and found != expected:
                    raise UnfitGraphError("its attention heads differ from genai_config.json")
        if isinstance(declared["logits"][-1], int) and declared["logits"][-1] != self._vocabulary:
            raise UnfitGraphError("its vocabulary size differs from genai_config.json")

    def _get_pooled(self, row: Row) -> _PooledRow:
        if not isinstance(row, _PooledRow) or self._rows[row.index] is not row:
            raise ValueError("The row does not belong to this engine, or was freed.")
        return row

    def _compute(
        self,
        rows: Sequence[_PooledRow],
        new: Sequence[Sequence[int]],
        least: int,
        run_options: Any,
        wants_logits: bool = True,
    ) -> Generator[None, None, Logits]:
        """Compute one or more new tokens of each row, in the order of their indexes; return the logits (rows, vocabulary).

        Rows in between are left unchanged, at almost no cost. Dummy tokens of no row are added if there are fewer than `least`.
        """
        first, count = rows[0].index, rows[-1].index - rows[0].index + 1
        lengths, counts = np.zeros(count, np.int32), np.zeros(count, np.int32)
        starts = np.zeros(count, np.int64)
        for row, tokens in zip(rows, new, strict=True):
            at = row.index - first
            lengths[at], counts[at] = len(row.tokens), len(tokens)
            starts[at] = len(row.tokens) + (self._long_rope_offset if row.uses_long_rope else 0)
        ends, width = counts.cumsum(), int(counts.max())
        within = np.arange(width)
        is_token = within < counts[:, None]
        dummies = [0] * max(0, least - int(counts.sum()))
        totals = lengths + counts
        inputs = {
            "input_ids": np.array([token for tokens in new for token in tokens] + dummies, np.int64),
            "pad_index": np.where(is_token, (ends - counts)[:, None] + within, 0).astype(np.int64),
            "unpad_index": np.append(np.argwhere(is_token), [[0, 0]] * len(dummies), axis=0).astype(np.int64)
            if dummies
            else np.argwhere(is_token),
            "seqlens_k": np.maximum(totals - 1, 0).astype(np.int32),  # for an empty row: one token, which is never read
            "query_seqlens": counts,
            "total_sequence_length": np.array(max(int(totals.max()), width), np.int32),
            "logits_index": np.append((ends - 1)[counts > 0], dummies).astype(np.int64)[: None if wants_logits else 0],
        }
        if self._long_rope_offset:
            inputs["row_positions"] = starts[:, None] + within
        logits = np.empty((len(inputs["logits_index"]), self._vocabulary), np.float32)
        yield from self._runner.run(rows, count, inputs, logits, run_options)
        return logits[: len(rows)]

    def _measure_exact_tokens(self) -> int:
        """Return the least number of tokens of a step for logits that do not depend on it: 2 if one token uses another kernel."""
        differs = False
        row = self._get_pooled(self.allocate(1) or Row(0))
        for first, second in _PROBE:
            self.prefill(row, [first, second])
            alone, together = (_run_all(self._compute([row], [[first]], least, self._run_options)) for least in (1, 2))
            differs |= not np.array_equal(alone, together)
            self.rewind(row, 0, uses_long_rope=False)
        self.free(row)
        return 2 if differs else 1


def _run_all(segments: Generator[None, None, Logits]) -> Logits:
    """Run a computation to its end, and return its result."""
    while True:
        try:
            next(segments)
        except StopIteration as end:
            return cast(Logits, end.value)
