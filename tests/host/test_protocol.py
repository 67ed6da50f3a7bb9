"""The protocol between the app and a model's process: round trips."""

import json
import math
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.one_line import write_on_one_line
from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.chat.types import (
    Batching,
    CacheStats,
    ChatRequest,
    Completed,
    ContextUsage,
    GenerationParams,
    Message,
    ModelLoading,
    PrefillProgress,
    QueuePosition,
    TextDelta,
    Timings,
    Usage,
)
from phi3_ui.host.protocol import (
    AnswerErrorCode,
    AnswerFailed,
    Heartbeat,
    TokenCounts,
    pack_batching,
    pack_count,
    pack_event,
    pack_request,
    unpack_count,
    unpack_event,
    unpack_ready,
    unpack_request,
)

# Includes lone surrogates: a token may contain half an emoji.
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(["\n", "\r\n", "\u2028", "\0", "\ud83d", '"]\\'])
_counts = st.integers(min_value=0, max_value=10**7)
_seconds = st.floats(min_value=0, max_value=1e6)
_timings = st.builds(Timings, st.none() | _seconds, _seconds, st.none() | _seconds)
_usages = st.none() | st.builds(Usage, _counts, _counts, st.none() | _counts)
EVENTS = st.one_of(
    st.just(ModelLoading()),
    st.just(Heartbeat()),
    st.builds(PrefillProgress, _counts, _counts),
    st.builds(QueuePosition, _counts),
    st.builds(ContextUsage, _counts, _counts, _counts, st.none() | _counts),
    st.builds(CacheStats, _counts, _counts, _counts, _counts, _counts),
    st.builds(TextDelta, TEXT),
    st.builds(Completed, TEXT, _usages, _timings, st.sampled_from(["stop", "length", "cancelled", "timeout"])),
    st.builds(AnswerFailed, st.sampled_from(get_args(AnswerErrorCode)), TEXT),
    st.builds(TokenCounts, st.none() | st.lists(_counts, max_size=3).map(tuple)),
)
_messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT)
_params = st.builds(
    GenerationParams,
    max_tokens=st.none() | _counts,
    temperature=st.none() | st.floats(min_value=0, max_value=2),
    top_p=st.none() | st.floats(min_value=0, max_value=1),
    top_k=st.none() | _counts,
    presence_penalty=st.none() | st.floats(min_value=-2, max_value=2),
    stop=st.lists(TEXT, max_size=3).map(tuple),
    seed=st.none() | _counts,
)
_templates = st.none() | st.sampled_from(["phi-3", "plain"])
_requests = st.builds(
    ChatRequest,
    st.lists(_messages, max_size=5).map(tuple),
    _params,
    _templates,
    st.none() | _seconds,
    gpu_token=st.none() | TEXT,
)


def _send_through_pipe(packed: Any) -> Any:
    line = json.dumps(packed)
    assert line.splitlines() == [line], "any text is sent as one line"
    return json.loads(line.encode("utf-8"))


@settings(deadline=None)
@given(EVENTS)
def test_every_event_survives_a_round_trip_except_for_lone_surrogates(event: Any) -> None:
    texts = {name: replace_surrogates(text) for name, text in vars(event).items() if isinstance(text, str)}
    if isinstance(event, AnswerFailed):
        texts["detail"] = write_on_one_line(texts["detail"])
    assert unpack_event(_send_through_pipe(pack_event(event))) == replace(event, **texts)


@settings(deadline=None)
@given(_requests, _counts)
def test_every_request_survives_a_round_trip(request: ChatRequest, number: int) -> None:
    line = _send_through_pipe(pack_request(number, request))

    assert line["answer"] == number
    assert unpack_request(line) == request


@settings(deadline=None)
@given(st.lists(st.lists(_messages, max_size=3), max_size=3), _templates, _counts)
def test_every_count_survives_a_round_trip(prompts: list[list[Message]], template: str | None, number: int) -> None:
    line = _send_through_pipe(pack_count(number, prompts, template))

    assert line["count"] == number
    assert unpack_count(line) == [ChatRequest(tuple(messages), template=template) for messages in prompts]


def test_unknown_usage_stays_unknown_and_zero_stays_zero() -> None:
    timings = Timings(None, 0.5, None)
    for usage in (None, Usage(0, 0)):
        event = Completed("", usage, timings, "cancelled")
        assert unpack_event(_send_through_pipe(pack_event(event))) == event


_SECONDS = {"time_to_first_token": 0.1, "seconds": 1, "tokens_per_second": None}
_TOKENS = {"prompt_tokens": 1, "completion_tokens": 1}


_INVALID_EVENTS: list[Any] = [
    *(None, 5, "text", {"text": 1}, [], ["nothing"], ["text"], ["text", "a", "b"], ["text", 5], ["text", None]),
    *(["prompt", 1], ["prompt", -1, 3], ["prompt", 1, math.inf], ["prompt", 1.5, 2], ["prompt", 1, 10**30]),
    *(["queued", True], ["queued", "2"], ["queued", []], ["counted", 5], ["counted", [1, -1]], ["counted", [None]]),
    *(["context", {}], ["context", 5], ["context", {"prompt_tokens": -1, "limit": 5}], ["cache", []]),
    ["cache", {"budget_bytes": math.nan, "used_bytes": 1, "slots": 1, "hits": 1, "misses": 1}],
    *(["failed", "tokens_used_up", "x"], ["failed", "no such error", "x"], ["failed", None, "x"], ["failed", [], "x"]),
    *(["failed", "refused", None], ["failed", "refused", 5], ["failed", "refused", ["x"]]),
]
_INVALID_ENDS: list[Any] = [
    *((5, _TOKENS, _SECONDS, "stop"), (None, _TOKENS, _SECONDS, "stop")),
    *(("", {**_TOKENS, name: -5}, _SECONDS, "stop") for name in (*_TOKENS, "cached_tokens")),
    *(("", {}, _SECONDS, "stop"), ("", [], _SECONDS, "stop"), ("", {"prompt_tokens": 10**30}, _SECONDS, "stop")),
    *(("", None, {**_SECONDS, "seconds": seconds}, "stop") for seconds in (None, -1, math.nan, math.inf)),
    *(("", None, _SECONDS, None), ("", None, _SECONDS, "exploded"), ("", None, _SECONDS, []), ("", None, _SECONDS, 1)),
]


@pytest.mark.parametrize("line", [*_INVALID_EVENTS, *(["completed", *end] for end in _INVALID_ENDS)])
def test_an_invalid_event_is_refused(line: Any) -> None:
    with pytest.raises(ValueError, match=r"not an event|not the detail|validation error"):
        unpack_event(line)


def test_the_detail_of_an_error_is_short() -> None:
    assert unpack_event(["failed", "refused", "x" * 10**6]) == AnswerFailed("refused", "x" * 300)


def test_the_detail_of_an_error_is_one_line_without_control_characters() -> None:
    detail = "\r\n\nA\x1b[31m\tred\x00\u2028line\u202eesrever\x85\ufeff\ud800\n"
    assert unpack_event(["failed", "refused", detail]) == AnswerFailed("refused", "A [31m red line esrever \ufffd")
    assert unpack_event(["failed", "refused", "\n" * 1000 + "x" * 1000]) == AnswerFailed("refused", "x" * 300)


@pytest.mark.parametrize("batching", [None, Batching(), Batching("graph", "its attention is another")])
def test_batching_of_a_loaded_model_survives_a_round_trip(batching: Batching | None) -> None:
    assert unpack_ready("stream", _send_through_pipe(pack_batching(batching))) == ("stream", batching)


@pytest.mark.parametrize("packed", [[], ["graph"], ["no such reason", ""], ["graph", 1], {}, "graph", [[], ""]])
def test_invalid_batching_is_refused(packed: Any) -> None:
    with pytest.raises(ValueError, match="batching"):
        unpack_ready("whole", packed)


@pytest.mark.parametrize("delivery", [None, 5, "", "smoke", ["stream"], {}])
def test_an_invalid_delivery_is_refused(delivery: Any) -> None:
    with pytest.raises(ValueError, match="deliver"):
        unpack_ready(delivery, None)
