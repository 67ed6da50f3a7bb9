"""Running a graph by segments: suspended prefills, rows that move meanwhile, and tensors reused by later steps."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.phi3_onnx_engine import Scheduler, Token
from models.phi3_onnx_engine.batched import BatchedEngine
from models.phi3_onnx_engine.engine import Logits, Row
from tests.engine.engines import BUDGET, numbers, open_batched, request, tokens_of


def test_between_two_segments_other_rows_can_be_computed_and_moved(tiny_onnx: Path) -> None:
    prompt = numbers(1, 150)
    expected = prefill(open_batched(tiny_onnx), prompt)
    engine = open_batched(tiny_onnx, budget=2_400_000)
    leaving, row = engine.allocate(100), engine.allocate(200)
    assert leaving
    assert row
    engine.prefill(row, prompt[:60])
    suspended = engine.prefill_by_segment(row, prompt[60:])
    next(suspended)
    assert engine.segments == 2
    engine.prefill(leaving, numbers(2, 90))
    engine.step([leaving], [7], exact=True)
    engine.free(leaving)
    longer = engine.allocate(2000)  # all rows move
    assert longer
    assert row.tokens == prompt[:60]
    assert row.index == 0, "it was the second"  # type: ignore[attr-defined]
    engine.prefill(longer, numbers(3, 90))
    with pytest.raises(StopIteration) as end:
        next(suspended)
    np.testing.assert_array_equal(end.value.value, expected)
    assert row.tokens == prompt


def prefill(engine: BatchedEngine, prompt: list[int]) -> Logits:
    """The logits after a prompt, prefilled in the pieces of the test above."""
    row = engine.allocate(200)
    assert row
    engine.prefill(row, prompt[:60])
    return engine.prefill(row, prompt[60:])


def test_a_prefill_that_is_given_up_between_two_segments_leaves_the_row_as_it_was(tiny_onnx: Path) -> None:
    prompt, engine = numbers(1, 150), open_batched(tiny_onnx)
    row = engine.allocate(200)
    assert row
    engine.prefill(row, prompt[:60])
    next(engine.prefill_by_segment(row, numbers(2, 64)))
    engine.rewind(row, 60, uses_long_rope=False)
    logits = engine.prefill(row, prompt[60:])
    np.testing.assert_array_equal(logits, prefill(open_batched(tiny_onnx), prompt))


def test_others_decode_between_the_segments_of_a_piece(tiny_onnx: Path) -> None:
    """Their steps are made to seem short, so that a segment always takes its share of the time."""
    engine = open_batched(tiny_onnx)
    scheduler, calls = Scheduler(engine, BUDGET), list[str]()
    step, by_segment = engine.step, engine.prefill_by_segment

    def note_step(rows: Sequence[Any], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        calls.append("step")
        return step(rows, tokens, exact)

    def note_segments(row: Any, tokens: Sequence[int], wants_logits: bool = True) -> Generator[None, None, Logits]:
        segments = by_segment(row, tokens, wants_logits)
        while True:
            calls.append("segment")
            try:
                next(segments)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            yield

    decoding = scheduler.generate(request(numbers(1, 40), 100))
    assert isinstance([next(decoding) for _ in range(3)][-1], Token)
    scheduler._pace.record_decode = lambda seconds: None  # type: ignore[method-assign]
    scheduler._pace._decode = 1e-9
    engine.step, engine.prefill_by_segment = note_step, note_segments  # type: ignore[method-assign]
    arriving = scheduler.generate(request(numbers(2, 24), 1))
    assert len(tokens_of(arriving)) == 1
    assert calls[calls.index("segment") :][:5] == ["segment", "step", "segment", "step", "segment"]


def test_steps_of_equal_shape_with_different_rows_use_their_own_inputs(tiny_onnx: Path) -> None:
    """Rows 0 and 3 share a step with row 1, then with row 2, so only the indexes differ."""
    engine, alone = open_batched(tiny_onnx), open_batched(tiny_onnx)
    rows, rows_alone = allocate_prefilled(engine, 4), allocate_prefilled(alone, 4)
    for token, active in enumerate(([0, 1, 3], [0, 2, 3], [0, 1, 3], [0, 2, 3]), 20):
        logits = engine.step([rows[at] for at in active], [token] * 3, exact=True)
        for at, of_row in zip(active, logits, strict=True):
            np.testing.assert_array_equal(of_row, alone.step([rows_alone[at]], [token], exact=True)[0])


def test_a_suspended_step_keeps_its_tensors(tiny_onnx: Path) -> None:
    """Other rows compute one token each, as the suspended one does."""
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


def allocate_prefilled(engine: BatchedEngine, count: int) -> list[Row]:
    """Allocate rows with prompts of different lengths."""
    rows = [engine.allocate(200) for _ in range(count)]
    for number, row in enumerate(rows):
        assert row
        engine.prefill(row, numbers(number, 30 + number))
    return [row for row in rows if row]
