"""The end of the app while the API answers, with a model in this process."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from phi3_ui.accounts.quotas import Quotas
from phi3_ui.api.answering import Answering
from phi3_ui.api.application import create_api
from phi3_ui.api.callers import Callers
from phi3_ui.api.metrics import Metrics
from phi3_ui.api.models import Models
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, TextDelta, Timings
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.registry.cards import ModelEntry
from tests.support.cards import ENTRY


class SlowModel:
    """Says one word, then nothing until it is stopped, or if it is stuck, released."""

    def __init__(self, is_stuck: bool) -> None:
        self.started = threading.Semaphore(0)
        self.released = threading.Event()
        self._is_stuck = is_stuck

    def find(self, _: str) -> ModelEntry:
        return ENTRY

    def open(self, _: ModelEntry) -> ChatModel:
        return cast(ChatModel, self)

    def answer(self, _: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        yield TextDelta("Once")
        if not self._is_stuck:
            cancel.on_set(self.released.set)
        self.started.release()
        assert self.released.wait(60)
        yield Completed("Once", None, Timings(None, 0.0, None), "cancelled")


@pytest.mark.parametrize("is_stuck", [False, True], ids=["model-stops", "model-is-stuck"])
def test_answers_under_way_end_with_one_error_when_the_app_does(is_stuck: bool) -> None:
    settings, model = Settings.read({}), SlowModel(is_stuck)
    models, no_store = cast(Models, model), cast(ConversationStore, None)  # nothing is recorded
    answering = Answering(settings, models, model, no_store, Quotas(settings), Metrics())
    asked = {"model": "m", "store": False, "messages": [{"role": "user", "content": "Tell."}]}

    with start_blocking_portal() as portal:
        app = create_api(Callers(settings), models, answering)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

        async def ask(body: dict[str, Any]) -> httpx.Response:
            return await client.post("/chat/completions", json=body)

        whole, stream = (portal.start_task_soon(ask, {**asked, "stream": stream}) for stream in (False, True))
        for _ in range(2):
            assert model.started.acquire(timeout=60)
        answering.stop_all(0 if is_stuck else 60)
        answers = [whole.result(60), portal.call(ask, asked)]
        events = stream.result(60).text
        model.released.set()
        portal.call(client.aclose)

    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        assert answer.headers["Retry-After"]
    assert '"content":"Once"' in events
    assert '"code":"shutting_down"' in events
    assert events.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": "Too long."}]}, "messages"),
        ("/completions", {"prompt": "Too long."}, "prompt"),
        ("/responses", {"input": "Too long."}, "input"),
    ],
)
def test_the_field_of_a_question_that_is_too_long_is_named(path: str, asked: dict[str, Any], field: str) -> None:
    settings, model = Settings.read({"PHI3_UI_MAX_MESSAGE_CHARACTERS": "5"}), SlowModel(is_stuck=False)
    models, no_store = cast(Models, model), cast(ConversationStore, None)
    answering = Answering(settings, models, model, no_store, Quotas(settings), Metrics())
    with start_blocking_portal() as portal:
        app = create_api(Callers(settings), models, answering)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        response = portal.call(lambda: client.post(path, json={"model": "m", **asked}))
        portal.call(client.aclose)
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)
