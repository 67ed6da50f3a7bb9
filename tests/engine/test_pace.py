"""The size of prefill chunks while other requests decode."""

import pytest

from models.phi3_onnx_engine.pace import PREFILL_CHUNK, Pace


def settle(pace: Pace, fixed: float, per_token: float, decode: float) -> int:
    """Return the final chunk size if a chunk takes `fixed` seconds plus `per_token` per token, and a decode step `decode`."""
    for _ in range(100):
        tokens = pace.choose_chunk_size(is_shared=True)
        pace.record_prefill(tokens, fixed + per_token * tokens)
        pace.record_decode(decode)
    return pace.choose_chunk_size(is_shared=True)


def test_a_chunk_has_full_size_if_no_other_request_decodes() -> None:
    assert Pace(64).choose_chunk_size(is_shared=False) == PREFILL_CHUNK


def test_the_first_chunk_while_others_decode_is_small() -> None:
    assert Pace(64).choose_chunk_size(is_shared=True) == 8


@pytest.mark.parametrize(("fixed", "per_token"), [(0.006, 0.001), (0.008, 0.0013), (0.003, 0.0018)])
def test_a_chunk_takes_about_two_decode_steps_whatever_its_fixed_cost(fixed: float, per_token: float) -> None:
    tokens = settle(Pace(64), fixed, per_token, decode=0.0116)
    assert 2 * 0.0116 - 2 * per_token <= fixed + per_token * tokens <= 2 * 0.0116


def test_the_chunk_size_is_multiplied_by_the_number_of_segments() -> None:
    assert settle(Pace(64), 0.0, 0.001, decode=0.006) == 12
    assert settle(Pace(64, segments=4), 0.0, 0.001, decode=0.006) == 48


def test_as_many_segments_run_between_decode_steps_as_fit_into_two_of_them() -> None:
    pace = Pace(64, segments=6)
    assert not pace.has_time(0.001, 1), "no decode step has been measured yet"
    pace.record_decode(0.010)
    assert [pace.has_time(0.006 * done, done) for done in (1, 2, 3)] == [True, True, False]
    assert not pace.has_time(0.040, 1)


def test_the_chunk_size_stays_between_the_minimum_and_the_engines_maximum() -> None:
    assert settle(Pace(64), 1.0, 0.01, decode=0.01) == 8
    assert settle(Pace(64), 0.0, 0.0001, decode=0.1) == 64
    assert settle(Pace(8), 0.0, 0.0001, decode=0.1) == 8
    assert settle(Pace(64, segments=6), 0.0, 0.0001, decode=0.1) == 64
