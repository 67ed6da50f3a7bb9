"""The engine for every device: ONNX Runtime GenAI, with a generator for each row, one row after another."""

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
    """See Engine. Computation holds the GIL and cannot be interrupted."""

    name: EngineName = "genai"
    is_batched = False
    # In small chunks, prefill runs at a tenth of its speed, but other answers do not stall.
    shared_chunk = 8
    segments = 1

    def __init__(self, folder: OnnxFolder, threads: int) -> None:
        """Load the model. Raises any error of ONNX Runtime GenAI."""
        config = og.Config(str(folder.path))
        # By default, the engine decodes on one thread.
        session = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = og.Model(config)
        self.context_length, self.switches_rope = folder.context_length, folder.switches_rope
        self.token_bytes = folder.token_numbers * (4 if self._model.device_type == "CPU" else 2)

    def allocate(self, length: int) -> Row | None:
        """See Engine. Takes tenths of a second for thousands of tokens."""
        params = og.GeneratorParams(self._model)
        # The engine's own sampling would keep the same settings and seed for the lifetime of the generator.
        params.set_search_options(max_length=length, do_sample=False)
        return _GenaiRow(length, generator=og.Generator(self._model, params))

    def prefill(self, row: Row, tokens: Sequence[int], wants_logits: bool = True) -> Logits:
        """See Engine; the logits are computed in any case."""
        generator = _get_generator(row)
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
        """See Engine; each token is computed alone, so always in the same way."""
        return [self.prefill(row, [token]) for row, token in zip(rows, tokens, strict=True)]

    def rewind(self, row: Row, length: int, uses_long_rope: bool) -> None:
        """See Engine."""
        if length < len(row.tokens):
            _get_generator(row).rewind_to(length)
            del row.tokens[length:]
        row.uses_long_rope = uses_long_rope

    def copy_prefix(self, source: Row, target: Row, length: int) -> None:
        """Raise NotImplementedError: this engine cannot copy."""
        raise NotImplementedError("ONNX Runtime GenAI cannot copy keys and values")

    def interrupt(self, row: Row) -> None:
        """Do nothing: this engine's steps cannot be interrupted."""

    def free(self, row: Row) -> None:
        """See Engine."""
        if isinstance(row, _GenaiRow):
            row.generator = None
        row.tokens = []


def _get_generator(row: Row) -> Any:
    if not isinstance(row, _GenaiRow) or row.generator is None:
        raise ValueError("The row does not belong to this engine, or was freed.")
    return row.generator
