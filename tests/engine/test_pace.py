"""The size of a prompt's pieces while others decode."""

import pytest

from models.phi3_onnx_engine.pace import PREFILL_CHUNK, Pace


def settle(pace: Pace, fixed: float, per_token: float, decode: float) -> int:
    """The piece that is left when a piece takes `fixed` and so much for each token, and a step of the others `decode` seconds."""
    for _ in range(100):
        tokens = pace.choose_chunk_size(is_shared=True)
        pace.record_prefill(tokens, fixed + per_token * tokens)
        pace.record_decode(decode)
    return pace.choose_chunk_size(is_shared=True)


def test_alone_a_piece_is_as_large_as_it_gets_faster() -> None:
    assert Pace(64).choose_chunk_size(is_shared=False) == PREFILL_CHUNK


def test_the_first_piece_beside_others_is_small() -> None:
    assert Pace(64).choose_chunk_size(is_shared=True) == 8


@pytest.mark.parametrize(("fixed", "per_token"), [(0.006, 0.001), (0.008, 0.0013), (0.003, 0.0018)])
def test_a_piece_takes_two_steps_of_the_others_whatever_it_costs_besides(fixed: float, per_token: float) -> None:
    tokens = settle(Pace(64), fixed, per_token, decode=0.0116)
    assert 2 * 0.0116 - 2 * per_token <= fixed + per_token * tokens <= 2 * 0.0116


def test_a_piece_in_segments_is_so_many_times_as_long() -> None:
    assert settle(Pace(64), 0.0, 0.001, decode=0.006) == 12
    assert settle(Pace(64, segments=4), 0.0, 0.001, decode=0.006) == 48


def test_others_wait_for_as_many_segments_as_fit_into_two_of_their_steps() -> None:
    pace = Pace(64, segments=6)
    assert not pace.has_time(0.001, 1), "nothing is known of their steps yet"
    pace.record_decode(0.010)
    assert [pace.has_time(0.006 * done, done) for done in (1, 2, 3)] == [True, True, False]
    assert not pace.has_time(0.040, 1)


def test_a_piece_is_never_smaller_than_the_least_or_larger_than_the_engine_allows() -> None:
    assert settle(Pace(64), 1.0, 0.01, decode=0.01) == 8
    assert settle(Pace(64), 0.0, 0.0001, decode=0.1) == 64
    assert settle(Pace(8), 0.0, 0.0001, decode=0.1) == 8
    assert settle(Pace(64, segments=6), 0.0, 0.0001, decode=0.1) == 64
