"""The engine for CPUs: plain onnxruntime, all rows in one step.

It needs the rewritten graph (see graph.py). onnxruntime releases the GIL while a step runs, and a step can be cut off.
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
"""Pairs of tokens that are computed alone and together, to compare the logits."""


@dataclass(eq=False)
class _PooledRow(Row):
    index: int = 0
    computing: int = 0
    """Tokens of a prefill that has not ended: some layers have their keys and values."""
    run_options: Any = field(default_factory=ort.RunOptions)


class BatchedEngine:
    """See Engine. A row is freed with its memory, and rewinding returns what it no longer needs."""

    name: EngineName = "batched"
    is_batched = True
    shared_piece = 64

    def __init__(self, folder: OnnxFolder, graph: BatchedGraph | None, threads: int, budget: int) -> None:
        """`graph` is the rewritten model, None the one in the folder; `budget` is the memory for keys and values, in bytes.

        UnfitGraphError if it is not the graph that the folder declares. Any error of onnxruntime may be raised; MemoryError
        or OSError without address space.
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
        """See Engine. Costs nothing, unless the rows become longer for it, or shorter and more."""
        taken = [row for row in self._rows if row]
        if length > self._pool.length or len(taken) == self._pool.rows:
            needed = max(length, *(max(row.reserved, len(row.tokens) + row.computing) for row in taken), 1)
            if len(taken) >= self._pool.rows_for(needed):
                return None
            self._pool.resize(needed, {row.index: len(row.tokens) + row.computing for row in taken})
            self._runner.use_pool(self._names, self._pool.tensors)
            self._rows = [None] * self._pool.rows
            for index, row in enumerate(taken):
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
        pooled = self._pooled(row)
        pooled.computing = len(tokens)
        logits = yield from self._compute([pooled], [tokens], 1, pooled.run_options, wants_logits)
        pooled.computing = 0
        row.tokens += tokens
        return logits[-1] if wants_logits else logits

    def step(self, rows: Sequence[Row], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        """See Engine."""
        ordered = sorted(
            zip(map(self._pooled, rows), tokens, range(len(rows)), strict=True), key=lambda one: one[0].index
        )
        least = self._exact_tokens if exact else 1
        logits = _run_all(
            self._compute(
                [row for row, _, _ in ordered], [[token] for _, token, _ in ordered], least, self._run_options
            )
        )
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
        places = {place: at for at, (_, _, place) in enumerate(ordered)}
        return [logits[places[place]] for place in range(len(rows))]

    def rewind(self, row: Row, length: int, uses_long_rope: bool) -> None:
        """See Engine."""
        pooled = self._pooled(row)
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
        self._pool.copy(self._pooled(source).index, self._pooled(target).index, length)
        target.tokens[:] = source.tokens[:length]
        target.uses_long_rope = source.uses_long_rope

    def interrupt(self, row: Row) -> None:
        """See Engine. A step ends between two operators of the graph."""
        if isinstance(row, _PooledRow):
            row.run_options.terminate = True

    def free(self, row: Row) -> None:
        """See Engine."""
        pooled = self._pooled(row)
        self._pool.free(pooled.index, 0, self._pool.length)
        self._rows[pooled.index] = None
        row.tokens = []

    def _check_graph(self, heads: int, size: int) -> None:
        """UnfitGraphError if keys, values or logits have other shapes than genai_config.json says."""
        declared = self._runner.shapes
        caches = {f"{prefix}.{name}" for prefix in ("past_key_values", "present") for name in self._names}
        if caches != {name for name in declared if name.startswith(("past_key_values.", "present."))}:
            raise UnfitGraphError("it has another number of layers than genai_config.json says")
        for name in caches:
            # Some exports give a dimension a name instead of a number; then onnxruntime finds out at the first step.
            for found, wanted in zip(declared[name][1::2], (heads, size), strict=False):
                if isinstance(found, int) and found != wanted:
                    raise UnfitGraphError("its attention heads are not those of genai_config.json")
        if isinstance(declared["logits"][-1], int) and declared["logits"][-1] != self._vocabulary:
            raise UnfitGraphError("its vocabulary is not that of genai_config.json")

    def _pooled(self, row: Row) -> _PooledRow:
        if not isinstance(row, _PooledRow) or self._rows[row.index] is not row:
            raise ValueError("The row is not one of this engine, or it was freed.")
        return row

    def _compute(
        self,
        rows: Sequence[_PooledRow],
        new: Sequence[Sequence[int]],
        least: int,
        run_options: Any,
        wants_logits: bool = True,
    ) -> Generator[None, None, Logits]:
        """Compute new tokens, one or more, of rows in the order of their indexes; returns the logits (rows, vocabulary).

        Rows in between are left as they are, and cost next to nothing. With `least` more tokens of no row are computed, so
        that there are as many.
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
            "seqlens_k": np.maximum(totals - 1, 0).astype(np.int32),  # of an empty row: one token, which is never read
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
        """How many tokens a step must have for logits that do not depend on company: 2 where one alone takes another kernel."""
        differs = False
        row = self._pooled(self.allocate(1) or Row(0))
        for first, second in _PROBE:
            self.prefill(row, [first, second])
            alone, together = (_run_all(self._compute([row], [[first]], least, self._run_options)) for least in (1, 2))
            differs |= not np.array_equal(alone, together)
            self.rewind(row, 0, uses_long_rope=False)
        self.free(row)
        return 2 if differs else 1


def _run_all(segments: Generator[None, None, Logits]) -> Logits:
    """Run a computation to its end, and return what it returns."""
    while True:
        try:
            next(segments)
        except StopIteration as end:
            return cast(Logits, end.value)
