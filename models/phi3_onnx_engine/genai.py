"""The engine that runs any device: ONNX Runtime GenAI, a generator for each row, one row after another."""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime_genai as og

from .engine import EngineName, Logits, Row
from .folder import OnnxFolder


@dataclass(eq=False)
class _GenaiRow(Row):
    generator: Any = None


class GenaiEngine:
    """See Engine. Computing holds the GIL and cannot be interrupted."""

    name: EngineName = "genai"
    is_batched = False
    # In small pieces prefill runs at a tenth of its speed, but nobody's text stalls.
    shared_piece = 8
    segments = 1

    def __init__(self, folder: OnnxFolder, threads: int) -> None:
        """Load the model. Any error of ONNX Runtime GenAI may be raised."""
        config = og.Config(str(folder.path))
        # Unset, the engine decodes on one thread.
        session = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = og.Model(config)
        self.context_length, self.switches_rope = folder.context_length, folder.switches_rope
        self.token_bytes = folder.token_numbers * (4 if self._model.device_type == "CPU" else 2)

    def allocate(self, length: int) -> Row | None:
        """See Engine. Takes tenths of a second for thousands of tokens."""
        params = og.GeneratorParams(self._model)
        # The engine's own sampling would keep one setting and one seed for the generator's whole life.
        params.set_search_options(max_length=length, do_sample=False)
        return _GenaiRow(length, generator=og.Generator(self._model, params))

    def prefill(self, row: Row, tokens: Sequence[int], wants_logits: bool = True) -> Logits:
        """See Engine; the logits are computed in any case."""
        generator = _generator_of(row)
        generator.append_tokens(list(tokens))
        row.tokens += tokens
        return np.array(generator.get_logits(), dtype=np.float32).reshape(-1)

    def prefill_by_segment(
        self, row: Row, tokens: Sequence[int], wants_logits: bool = True
    ) -> Generator[None, None, Logits]:
        """See Engine; never suspended."""
        yield from ()
        return self.prefill(row, tokens, wants_logits)

    def step(self, rows: Sequence[Row], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        """See Engine; a token alone is always computed the same way."""
        return [self.prefill(row, [token]) for row, token in zip(rows, tokens, strict=True)]

    def rewind(self, row: Row, length: int, uses_long_rope: bool) -> None:
        """See Engine."""
        if length < len(row.tokens):
            _generator_of(row).rewind_to(length)
            del row.tokens[length:]
        row.uses_long_rope = uses_long_rope

    def copy_prefix(self, source: Row, target: Row, length: int) -> None:
        """Not possible. NotImplementedError."""
        raise NotImplementedError("ONNX Runtime GenAI cannot copy keys and values")

    def interrupt(self, row: Row) -> None:
        """Do nothing: a step always ends."""

    def free(self, row: Row) -> None:
        """See Engine."""
        if isinstance(row, _GenaiRow):
            row.generator = None
        row.tokens = []


def _generator_of(row: Row) -> Any:
    if not isinstance(row, _GenaiRow) or row.generator is None:
        raise ValueError("The row is not one of this engine, or it was freed.")
    return row.generator
