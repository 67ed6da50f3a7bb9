"""The ONNX wrapper's adapter over a fake pyfunc model: the call, the events, cancelling."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.chat_template import TemplateError
from phi3_ui.chat.context import PromptTooLongError
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    PrefillProgress,
    TextDelta,
    Usage,
)
from phi3_ui.contracts.onnx_prompt import OnnxPromptAdapter, OnnxPromptContract
from phi3_ui.prompts.tokenization import PromptFormat

_FORMAT = PromptFormat("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}", ("<|end|>",))
_REQUEST = ChatRequest((Message("system", "Be brief."), Message("user", "Hi")))

Chunk = dict[str, Any]


def _progress(processed: int, total: int) -> Chunk:
    return {**_token(""), "prompt_progress": {"processed": processed, "total": total}}


def _token(text: str) -> Chunk:
    delta = {"content": text} if text else {}
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def _last(text: str, reason: str, prompt: int, completion: int) -> Chunk:
    chunk = _token(text)
    chunk["choices"][0]["finish_reason"] = reason
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**chunk, "usage": usage}


class Pyfunc:
    """Yields the given chunks, then raises `error` if given; records its calls and whether it was closed."""

    def __init__(self, *chunks: Chunk, error: Exception | None = None) -> None:
        self.asked: list[tuple[Any, Any]] = []
        self.yielded = 0
        self.closed = False
        self._chunks = chunks
        self._error = error

    def predict_stream(self, data: Any, params: dict[str, Any] | None = None) -> Iterator[Chunk]:
        self.asked.append((data, params))
        # Keep a reference, so that only an explicit close ends it.
        self._held = self._stream()
        return self._held

    def _stream(self) -> Iterator[Chunk]:
        try:
            for chunk in self._chunks:
                self.yielded += 1
                yield chunk
            if self._error:
                raise self._error
        finally:
            self.closed = True


def _answer(model: Pyfunc, request: ChatRequest = _REQUEST, cancel: CancelToken | None = None) -> Iterator[AnswerEvent]:
    return OnnxPromptAdapter(model, _FORMAT).answer(request, cancel or CancelToken())


def _completed(events: list[AnswerEvent]) -> Completed:
    """Return the only Completed, which must be the last event."""
    assert [event for event in events if isinstance(event, Completed)] == events[-1:]
    assert isinstance(events[-1], Completed)
    return events[-1]


def _text(events: list[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_the_model_gets_the_rendered_prompt() -> None:
    model = Pyfunc(_last("", "stop", 9, 1))

    list(_answer(model, ChatRequest((Message("user", "a<|end|>"),))))

    [(data, _)] = model.asked
    assert data == {"prompt": "<|user|>a<\u2063|end|><|end|>"}


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        (GenerationParams(), {}),
        (GenerationParams(temperature=0.0), {"temperature": 0.0}),
        (GenerationParams(64, 0.7, 0.9), {"max_tokens": 64, "temperature": 0.7, "top_p": 0.9}),
        (
            GenerationParams(
                top_k=0, repetition_penalty=1.1, presence_penalty=0.0, frequency_penalty=-2.0, stop=("a", "b"), seed=0
            ),
            {
                "top_k": 0,
                "repetition_penalty": 1.1,
                "presence_penalty": 0.0,
                "frequency_penalty": -2.0,
                "stop": ["a", "b"],
                "seed": 0,
            },
        ),
    ],
)
def test_only_the_parameters_that_are_set_are_sent(params: GenerationParams, sent: dict[str, Any]) -> None:
    model = Pyfunc(_last("", "stop", 9, 1))

    list(_answer(model, ChatRequest(_REQUEST.messages, params)))

    assert model.asked[0][1] == sent


def test_chunks_become_events_with_the_models_own_usage() -> None:
    model = Pyfunc(
        _progress(0, 70), _progress(64, 70), _token("Hel"), _token(""), _token("lo"), _last("!", "stop", 70, 4)
    )

    events = list(_answer(model))

    assert events[:-1] == [
        PrefillProgress(0, 70),
        PrefillProgress(64, 70),
        TextDelta("Hel"),
        TextDelta("lo"),
        TextDelta("!"),
    ]
    completed = _completed(events)
    assert (completed.text, completed.usage, completed.finish_reason) == ("Hello!", Usage(70, 4, 0), "stop")
    assert completed.timings.time_to_first_token is not None
    assert model.closed


def test_an_answer_cut_at_its_limit_has_finish_reason_length() -> None:
    completed = _completed(list(_answer(Pyfunc(_progress(0, 5), _token("a"), _last("b", "length", 5, 2)))))

    assert (completed.text, completed.usage, completed.finish_reason) == ("ab", Usage(5, 2, 0), "length")


@settings(deadline=None)
@given(st.lists(st.text(max_size=6)), st.text(max_size=6))
def test_the_streamed_text_is_the_completed_text(pieces: list[str], end: str) -> None:
    model = Pyfunc(_progress(0, 3), *map(_token, pieces), _last(end, "stop", 3, len(pieces) + 1))

    events = list(_answer(model))

    assert _text(events) == _completed(events).text == "".join(pieces) + end


def test_cancelled_between_tokens_it_stops_the_model_and_counts_what_came() -> None:
    model = Pyfunc(
        _progress(0, 70), _progress(64, 70), _token("a"), _token("b"), _token("c"), _last("d", "stop", 70, 4)
    )
    cancel = CancelToken()
    events = []
    for event in _answer(model, cancel=cancel):
        events.append(event)
        if event == TextDelta("b"):
            cancel.set()

    completed = _completed(events)
    assert (completed.text, completed.usage, completed.finish_reason) == ("ab", Usage(70, 2, 0), "cancelled")
    assert _text(events) == "ab"
    assert model.closed
    assert model.yielded == 4, "no token was asked for after the one that was there"


def test_cancelled_during_prefill_it_has_no_completion_tokens() -> None:
    model = Pyfunc(_progress(0, 200), _progress(64, 200), _progress(128, 200), _last("d", "stop", 200, 1))
    cancel = CancelToken()
    events = []
    for event in _answer(model, cancel=cancel):
        events.append(event)
        cancel.set()

    completed = _completed(events)
    assert (completed.text, completed.usage, completed.finish_reason) == ("", Usage(200, 0, 0), "cancelled")
    assert completed.timings.time_to_first_token is None
    assert model.closed
    assert model.yielded == 1


def test_cancelled_before_the_prompts_length_is_known_usage_is_unknown() -> None:
    cancel = CancelToken()
    cancel.set()
    model = Pyfunc(_token("a"), _last("b", "stop", 3, 2))

    completed = _completed(list(_answer(model, cancel=cancel)))

    assert (completed.text, completed.usage, completed.finish_reason) == ("a", None, "cancelled")
    assert model.closed


def test_an_answer_that_ended_by_itself_is_not_called_cancelled() -> None:
    cancel = CancelToken()
    cancel.set()

    completed = _completed(list(_answer(Pyfunc(_last("all", "stop", 3, 1)), cancel=cancel)))

    assert (completed.usage, completed.finish_reason) == (Usage(3, 1), "stop")


def test_closing_the_events_closes_the_model() -> None:
    model = Pyfunc(_progress(0, 70), _token("a"), _token("b"), _last("", "stop", 70, 3))
    events = _answer(model)
    assert next(events) == PrefillProgress(0, 70)
    assert next(events) == TextDelta("a")

    events.close()  # type: ignore[attr-defined]  # a generator

    assert model.closed
    assert model.yielded == 2


def test_an_error_of_the_model_follows_the_text_before_it() -> None:
    model = Pyfunc(_progress(0, 3), _token("a"), error=RuntimeError("out of memory"))
    events = _answer(model)

    assert [next(events), next(events)] == [PrefillProgress(0, 3), TextDelta("a")]
    with pytest.raises(RuntimeError, match="out of memory"):
        next(events)
    assert model.closed


def test_a_raw_prompt_that_fills_the_context_never_reaches_the_model() -> None:
    model = Pyfunc(_last("", "stop", 9, 1))
    adapter = OnnxPromptAdapter(model, _FORMAT, encode=lambda prompt: [*range(len(prompt))], context_length=5)

    with pytest.raises(PromptTooLongError, match="has 5 tokens"):
        list(adapter.answer(ChatRequest((), raw_prompt="12345"), CancelToken()))
    assert not model.asked
    assert _completed(list(adapter.answer(ChatRequest((), raw_prompt="1234"), CancelToken())))


def test_a_conversation_that_the_template_rejects_never_reaches_the_model() -> None:
    model = Pyfunc(_last("", "stop", 1, 1))
    contract = OnnxPromptAdapter(model, PromptFormat("{{ raise_exception('no') }}"))

    with pytest.raises(TemplateError, match="no"):
        list(contract.answer(_REQUEST, CancelToken()))

    assert model.asked == []


class Cancellable:
    """A wrapper whose answer ends when it is cancelled, as the batched engine's does."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def predict_stream(self, data: Any, params: dict[str, Any] | None = None) -> Iterator[Chunk]:
        for _ in range(3):
            if self.cancelled:
                return
            yield {**_progress(0, 70), "id": "chatcmpl-1"}

    def cancel(self, answer_id: str) -> None:
        self.cancelled.append(answer_id)


def test_a_stop_reaches_the_wrapper_at_once_and_by_the_answers_id() -> None:
    model, cancel = Cancellable(), CancelToken()
    events = OnnxPromptAdapter(model, _FORMAT, cancel=model.cancel).answer(_REQUEST, cancel)
    assert next(events) == PrefillProgress(0, 70)
    assert model.cancelled == []

    cancel.set()

    assert model.cancelled == ["chatcmpl-1"], "before the next chunk"
    completed = _completed(list(events))
    assert completed.finish_reason == "cancelled"
    assert completed.usage == Usage(70, 0, 0)


def test_the_app_asks_for_the_batched_engine_and_its_programs_for_the_same() -> None:
    contract = OnnxPromptContract()
    assert contract.model_config(0) == {"engine": "batched"}
    assert contract.model_config(500) == {"engine": "batched", "cache_mb": 500}
