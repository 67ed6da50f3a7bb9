"""The adapter for third-party models: any text they return can be stored and shown."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, Message, TextDelta
from phi3_ui.contracts.base import PyfuncCall
from phi3_ui.contracts.parsing import parse_chunk
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter

_REQUEST = ChatRequest((Message("user", "Hi"),))


class Model:
    def __init__(self, *pieces: str) -> None:
        self._pieces = pieces

    def predict(self, _: Any, params: Any = None) -> str:
        return "".join(self._pieces)

    def predict_stream(self, _: Any, params: Any = None) -> Iterator[str]:
        yield from self._pieces


def said(*pieces: str, streams: bool = True, stop: str = "") -> str:
    """Return the answer's text, which must equal what was streamed."""
    chat = PyfuncAdapter(
        Model(*pieces),
        streams,
        lambda _: PyfuncCall({}, stop_strings=(stop,) if stop else ()),
        parse_chunk,
        parse_chunk,
    )
    *before, end = chat.answer(_REQUEST, CancelToken())
    assert isinstance(end, Completed)
    assert "".join(event.text for event in before if isinstance(event, TextDelta)) == end.text
    return end.text


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("stop", ["", "never"])
def test_surrogate_pairs_are_joined_and_lone_surrogates_replaced(streams: bool, stop: str) -> None:
    assert said("ok \ud83d", "\ude00 half \ud800 end", streams=streams, stop=stop) == "ok 😀 half \ufffd end"
    assert said("ok \ud83d", streams=streams, stop=stop) == "ok \ufffd"


@settings(deadline=None)
@given(st.lists(st.text(st.characters() | st.sampled_from("\ud83d\ude00\udfff"), max_size=4), max_size=6))
def test_any_output_can_be_encoded_as_utf_8(pieces: list[str]) -> None:
    whole = "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert said(*pieces).encode("utf-8").decode("utf-8") == whole.lstrip()
