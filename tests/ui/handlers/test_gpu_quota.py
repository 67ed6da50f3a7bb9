"""On a ZeroGPU Space, an answer is charged to the quota of the user who asks."""

import gradio as gr
from starlette.datastructures import Headers
from starlette.requests import Request

from phi3_ui.ui.handlers.chat import ChatController
from tests.ui.handlers.doubles import App


def _request(headers: dict[str, str]) -> gr.Request:
    scope = {"type": "http", "headers": Headers(headers).raw, "client": ("127.0.0.1", 1)}
    return gr.Request(Request(scope), session_hash="page")


def test_a_question_carries_the_latest_token_from_its_pages_events() -> None:
    app = App()
    controller = ChatController(app.page, app.services)
    for headers in ({"x-ip-token": "old"}, {"x-ip-token": "secret"}, {}):  # unqueued events carry none
        assert controller.session(_request(headers)) is app.session
    app.send()
    (request,) = app.model.requests
    assert request.gpu_token == "secret"
    assert "secret" not in repr([request, app.session.current.conversation, app.store.answers])
