"""Stop strings: the output is the text before the first one, however it is split. Both copies of the class."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import phi3_onnx_engine
from phi3_ui.runtime.stop_strings import StopStrings

COPIES = [StopStrings, phi3_onnx_engine.StopStrings]
# Few letters, so that stop strings occur, overlap, and start again within themselves.
_letters = st.text("ab\n", max_size=12)
_stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4).map(tuple)


@pytest.mark.parametrize("copy", COPIES)
@settings(deadline=None)
@given(st.lists(_letters | st.text(max_size=5), max_size=8), _stops)
@example(["abc", "x", "d"], ("abcX", "bc"))
@example(["abc", "X"], ("abcX", "bc"))
@example(["aa", "ab"], ("aab",))
@example(["abc"], ("abcX", "bc"))
def test_any_text_however_split_is_cut_before_the_first_stop_string(
    copy: Callable[[tuple[str, ...]], Any], pieces: list[str], stops: tuple[str, ...]
) -> None:
    whole = "".join(pieces)
    found = [whole.find(stop) for stop in stops if stop in whole]
    expected = whole[: min(found)] if found else whole

    filter_ = copy(stops)
    shown = ""
    for piece in pieces:
        shown += filter_.push(piece)
        assert expected.startswith(shown), "nothing of a stop string is ever shown"
    shown += filter_.flush()

    assert shown == expected
    assert filter_.hit == bool(found)


@pytest.mark.parametrize("copy", COPIES)
def test_text_is_held_back_only_while_it_may_become_a_stop_string(copy: Callable[[tuple[str, ...]], Any]) -> None:
    filter_ = copy(("<end>",))
    assert filter_.push("one <e") == "one "
    assert filter_.push("n") == ""
    assert filter_.push("emy") == "<enemy"
    assert not filter_.hit
    assert filter_.push("!<end> more") == "!"
    assert filter_.hit
    assert filter_.push("after") == filter_.flush() == ""
