"""The protocol between the app and a model's process: round trips."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Alive,
    AnswerFailed,
    TokenCounts,
    pack_batching,
    pack_count,
    pack_event,
    pack_request,
    unpack_batching,
    unpack_count,
    unpack_event,
    unpack_request,
)

# Also lone surrogates: half an emoji may be all that a token holds.
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(["\n", "\r\n", "\u2028", "\0", "\ud83d", '"]\\'])
_counts = st.integers(min_value=0, max_value=10**7)
_seconds = st.floats(min_value=0, max_value=1e6)
_timings = st.builds(Timings, st.none() | _seconds, _seconds, st.none() | _seconds)
_usages = st.none() | st.builds(Usage, _counts, _counts, st.none() | _counts)
EVENTS = st.one_of(
    st.just(ModelLoading()),
    st.just(Alive()),
    st.builds(PrefillProgress, _counts, _counts),
    st.builds(QueuePosition, _counts),
    st.builds(ContextUsage, _counts, _counts, _counts, st.none() | _counts),
    st.builds(CacheStats, _counts, _counts, _counts, _counts, _counts),
    st.builds(TextDelta, TEXT),
    st.builds(Completed, TEXT, _usages, _timings, st.sampled_from(["stop", "length", "cancelled", "timeout"])),
    st.builds(AnswerFailed, TEXT, TEXT),
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
    ChatRequest, st.lists(_messages, max_size=5).map(tuple), _params, _templates, st.none() | _seconds
)


def _over_the_pipe(packed: Any) -> Any:
    line = json.dumps(packed)
    assert line.splitlines() == [line], "one line, whatever is in the text"
    return json.loads(line.encode("utf-8"))


@settings(deadline=None)
@given(EVENTS)
def test_every_event_survives_a_round_trip(event: Any) -> None:
    assert unpack_event(_over_the_pipe(pack_event(event))) == event


@settings(deadline=None)
@given(_requests, _counts)
def test_every_request_survives_a_round_trip(request: ChatRequest, number: int) -> None:
    line = _over_the_pipe(pack_request(number, request))

    assert line["answer"] == number
    assert unpack_request(line) == request


@settings(deadline=None)
@given(st.lists(st.lists(_messages, max_size=3), max_size=3), _templates, _counts)
def test_every_count_survives_a_round_trip(prompts: list[list[Message]], template: str | None, number: int) -> None:
    line = _over_the_pipe(pack_count(number, prompts, template))

    assert line["count"] == number
    assert unpack_count(line) == [ChatRequest(tuple(messages), template=template) for messages in prompts]


def test_unknown_usage_stays_unknown_and_zero_stays_zero() -> None:
    timings = Timings(None, 0.5, None)
    for usage in (None, Usage(0, 0)):
        event = Completed("", usage, timings, "cancelled")
        assert unpack_event(_over_the_pipe(pack_event(event))) == event


@pytest.mark.parametrize("line", [[], ["nothing"], ["text"], ["text", "a", "b"], ["prompt", 1]])
def test_an_invalid_event_is_refused(line: list[Any]) -> None:
    with pytest.raises(ValueError, match="not an event"):
        unpack_event(line)


@pytest.mark.parametrize("batching", [None, Batching(), Batching("graph", "its attention is another")])
def test_what_is_known_of_batching_survives_a_round_trip(batching: Batching | None) -> None:
    assert unpack_batching(_over_the_pipe(pack_batching(batching))) == batching


@pytest.mark.parametrize("packed", [[], ["graph"], ["no such reason", ""], ["graph", 1], {}, "graph"])
def test_what_is_no_word_on_batching_is_refused(packed: Any) -> None:
    with pytest.raises(ValueError, match="batching"):
        unpack_batching(packed)
