"""Layered prefill: suspended prefills, rows that move meanwhile, and tensors reused by later steps."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.phi3_onnx_engine import Scheduler, Token
from models.phi3_onnx_engine.batched import BatchedEngine
from models.phi3_onnx_engine.engine import Logits, Row
from tests.engine.engines import BUDGET, get_token_ids, make_request, open_batched, random_ids


def test_other_rows_can_be_computed_and_moved_between_two_segments(tiny_onnx: Path) -> None:
    prompt = random_ids(1, 150)
    expected = prefill(open_batched(tiny_onnx), prompt)
    engine = open_batched(tiny_onnx, budget=2_400_000)
    leaving, row = engine.allocate(100), engine.allocate(200)
    assert leaving
    assert row
    engine.prefill(row, prompt[:60])
    suspended = engine.prefill_by_segment(row, prompt[60:])
    next(suspended)
    assert engine.segments == 2
    engine.prefill(leaving, random_ids(2, 90))
    engine.step([leaving], [7], exact=True)
    engine.free(leaving)
    longer = engine.allocate(2000)  # all rows move
    assert longer
    assert row.tokens == prompt[:60]
    assert row.index == 0, "it was 1 before"  # type: ignore[attr-defined]
    engine.prefill(longer, random_ids(3, 90))
    with pytest.raises(StopIteration) as end:
        next(suspended)
    np.testing.assert_array_equal(end.value.value, expected)
    assert row.tokens == prompt


def prefill(engine: BatchedEngine, prompt: list[int]) -> Logits:
    """Return the logits after a prompt, prefilled in the same chunks as in the test above."""
    row = engine.allocate(200)
    assert row
    engine.prefill(row, prompt[:60])
    return engine.prefill(row, prompt[60:])


def test_abandoning_a_prefill_between_two_segments_leaves_the_row_intact(tiny_onnx: Path) -> None:
    prompt, engine = random_ids(1, 150), open_batched(tiny_onnx)
    row = engine.allocate(200)
    assert row
    engine.prefill(row, prompt[:60])
    next(engine.prefill_by_segment(row, random_ids(2, 64)))
    engine.rewind(row, 60, uses_long_rope=False)
    logits = engine.prefill(row, prompt[60:])
    np.testing.assert_array_equal(logits, prefill(open_batched(tiny_onnx), prompt))


def test_other_requests_decode_between_the_segments_of_a_chunk(tiny_onnx: Path) -> None:
    """Decode steps are recorded as very short, so that a segment always uses up the time between two of them."""
    engine = open_batched(tiny_onnx)
    scheduler, calls = Scheduler(engine, BUDGET), list[str]()
    step, prefill_by_segment = engine.step, engine.prefill_by_segment

    def record_step(rows: Sequence[Any], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        calls.append("step")
        return step(rows, tokens, exact)

    def record_segments(row: Any, tokens: Sequence[int], wants_logits: bool = True) -> Generator[None, None, Logits]:
        segments = prefill_by_segment(row, tokens, wants_logits)
        while True:
            calls.append("segment")
            try:
                next(segments)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            yield

    decoding = scheduler.generate(make_request(random_ids(1, 40), 100))
    assert isinstance([next(decoding) for _ in range(3)][-1], Token)
    scheduler._pace.record_decode = lambda seconds: None  # type: ignore[method-assign]
    scheduler._pace._decode = 1e-9
    engine.step, engine.prefill_by_segment = record_step, record_segments  # type: ignore[method-assign]
    arriving = scheduler.generate(make_request(random_ids(2, 24), 1))
    assert len(get_token_ids(arriving)) == 1
    assert calls[calls.index("segment") :][:5] == ["segment", "step", "segment", "step", "segment"]


def test_steps_of_equal_shape_with_different_rows_use_their_own_inputs(tiny_onnx: Path) -> None:
    """Rows 0 and 3 share a step with row 1, then with row 2, so only the indexes differ."""
    engine, alone = open_batched(tiny_onnx), open_batched(tiny_onnx)
    rows, rows_alone = allocate_prefilled(engine, 4), allocate_prefilled(alone, 4)
    for token, active in enumerate(([0, 1, 3], [0, 2, 3], [0, 1, 3], [0, 2, 3]), 20):
        logits = engine.step([rows[number] for number in active], [token] * 3, exact=True)
        for number, row_logits in zip(active, logits, strict=True):
            np.testing.assert_array_equal(row_logits, alone.step([rows_alone[number]], [token], exact=True)[0])


def test_a_suspended_step_keeps_its_tensors(tiny_onnx: Path) -> None:
    """Meanwhile another row computes one token too, so both steps have the same shape."""
    engine = open_batched(tiny_onnx)
    first, second = allocate_prefilled(engine, 2)
    expected = [engine.step([row], [7], exact=True)[0] for row in (first, second)]
    for row in (first, second):
        engine.rewind(row, len(row.tokens) - 1, uses_long_rope=False)
    steps = [engine.prefill_by_segment(row, [7]) for row in (first, second)]
    for step in steps:
        next(step)
    for step, logits in zip(steps, expected, strict=True):
        with pytest.raises(StopIteration) as end:
            next(step)
        np.testing.assert_array_equal(end.value.value, logits)


def test_only_a_few_steps_keep_their_tensors(tiny_onnx: Path) -> None:
    """Each chunk has another length, and each row is prefilled by some of them."""
    engine = open_batched(tiny_onnx)
    for row in allocate_prefilled(engine, 6):
        for length in range(2, 12):
            engine.prefill(row, random_ids(length, length))
    runner = engine._runner
    bound = {id(binding.step) for segment in runner._segments for binding in segment.bindings.values()}
    assert bound <= {id(step) for step in runner._idle_steps}
    assert len(runner._idle_steps) == 4


def allocate_prefilled(engine: BatchedEngine, count: int) -> list[Row]:
    """Allocate rows with prompts of different lengths."""
    rows = [engine.allocate(200) for _ in range(count)]
    for number, row in enumerate(rows):
        assert row
        engine.prefill(row, random_ids(number, 30 + number))
    return [row for row in rows if row]
