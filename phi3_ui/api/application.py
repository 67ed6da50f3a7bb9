"""The API as a separate application, which the page's application mounts under /v1."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from typing_extensions import override

from phi3_ui.api.answering import Answering
from phi3_ui.api.callers import Caller, Callers
from phi3_ui.api.completions import CompletionEncoder
from phi3_ui.api.errors import (
    ApiError,
    answer_api_error,
    answer_invalid_request,
    answer_unexpected_error,
    answer_unknown_route,
)
from phi3_ui.api.history import Question
from phi3_ui.api.metrics import CONTENT_TYPE
from phi3_ui.api.models import Models, no_such_model
from phi3_ui.api.responses import ResponseEncoder
from phi3_ui.api.schemas import ChatCompletionRequest, CompletionRequest, ResponseRequest, Sampling, parse_json
from phi3_ui.api.sse import Encoder, find_error, stream_answer
from phi3_ui.api.streams import AnswerStream, stop_on_disconnect
from phi3_ui.chat.conversation import Answer, new_id
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry

_FIRST_EVENT_SECONDS = 5.0
"""A stream whose answer fails within this time can still get an error status. It starts after this time at the latest."""


def create_api(callers: Callers, models: Models, answering: Answering) -> FastAPI:
    """Create the routes /models, /chat/completions, /completions and /responses, with their schema at /openapi.json."""
    api = FastAPI(title="Phi-3 Chat on MLflow", docs_url=None, redoc_url=None, redirect_slashes=False)
    _add_error_handlers(api)
    api.router.route_class = _create_route_class(callers, answering)
    identified = Annotated[Caller, Depends(_get_caller)]

    @api.head("/models", include_in_schema=False)
    @api.get("/models")
    def list_models(_: identified) -> JSONResponse:
        return JSONResponse({"object": "list", "data": models.list()})

    @api.head("/models/{name:path}", include_in_schema=False)
    @api.get("/models/{name:path}")
    def get_model(name: str, _: identified) -> JSONResponse:
        found = next((one for one in models.list() if one["id"] == name), None)
        if found is None:
            raise no_such_model(name)
        return JSONResponse(found)

    @api.post("/chat/completions")
    async def complete_chat(body: ChatCompletionRequest, request: Request, caller: identified) -> Response:
        answer_id = f"chatcmpl-{new_id()}"
        messages = tuple(message.to_message() for message in body.messages)
        question = Question(body.model, messages, body.values(), answer_id, records=_records(caller, body))
        includes_usage = bool(body.stream_options and body.stream_options.include_usage)

        def encode(entry: ModelEntry) -> Encoder:
            return CompletionEncoder("chat.completion", answer_id, body.model, entry.model_id, includes_usage)

        return await _answer(answering, caller, question, encode, request, is_streamed=bool(body.stream))

    @api.post("/completions")
    async def complete(body: CompletionRequest, request: Request, caller: identified) -> Response:
        answer_id = f"cmpl-{new_id()}"
        messages = (Message("user", body.prompt),)
        question = Question(
            body.model, messages, body.values(), answer_id, body.prompt, _records(caller, body), "prompt"
        )
        includes_usage = bool(body.stream_options and body.stream_options.include_usage)

        def encode(entry: ModelEntry) -> Encoder:
            return CompletionEncoder("text_completion", answer_id, body.model, entry.model_id, includes_usage)

        return await _answer(answering, caller, question, encode, request, is_streamed=bool(body.stream))

    @api.post("/responses")
    async def respond(body: ResponseRequest, request: Request, caller: identified) -> Response:
        answer_id = f"resp_{new_id()}"
        messages = _collect_input(answering, caller, body)
        records = _records(caller, body)
        question = Question(body.model, messages, body.values(), answer_id, records=records, field="input")
        encoder = ResponseEncoder(answer_id, body)
        return await _answer(answering, caller, question, lambda _: encoder, request, is_streamed=bool(body.stream))

    return api


def mount_api(
    app: FastAPI, callers: Callers, models: Models, answering: Answering, count_loaded: Callable[[], int]
) -> None:
    """Mount the API under /v1, and the route /metrics for the same callers.

    `count_loaded` returns the number of models that are ready to answer.
    """
    app.mount("/v1", create_api(callers, models, answering))

    @app.get("/metrics")
    def write_metrics(request: Request) -> Response:
        try:
            callers.identify(request)
        except ApiError as error:
            return error.respond()
        return Response(answering.metrics.write(count_loaded()), media_type=CONTENT_TYPE)


def _create_route_class(callers: Callers, answering: Answering) -> type[APIRoute]:
    class Route(APIRoute):
        """Rejects a caller before the body is read; FastAPI reads and parses the body before it resolves dependencies."""

        @override
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def admit(request: Request) -> Response:
                caller = request.state.caller = await run_in_threadpool(callers.identify, request)
                if request.method == "POST":
                    answering.check_limits(caller)
                return await handle(_Request(request.scope, request.receive))

            return admit

    return Route


class _Request(Request):
    """Parses its body in a thread, so that the event loop is not blocked."""

    @override
    async def json(self) -> Any:
        return await asyncio.to_thread(parse_json, await self.body())


def _get_caller(request: Request) -> Caller:
    return request.state.caller  # type: ignore[no-any-return]


def _add_error_handlers(api: FastAPI) -> None:
    api.add_exception_handler(RequestValidationError, answer_invalid_request)
    api.add_exception_handler(ApiError, answer_api_error)
    api.add_exception_handler(UserError, answer_api_error)
    api.add_exception_handler(HTTPException, answer_unknown_route)
    api.add_exception_handler(Exception, answer_unexpected_error)


def _records(caller: Caller, body: Sampling) -> bool:
    return caller.records and body.store is not False


def _collect_input(answering: Answering, caller: Caller, body: ResponseRequest) -> tuple[Message, ...]:
    """Return the messages of a response: the instructions, those up to the previous response, and the input."""
    before: tuple[Message, ...] = ()
    if previous := body.previous_response_id:
        thread = answering.history.find_response(caller, previous)
        if thread is None:
            sentence = "This response no longer exists. Send the whole conversation as input."
            raise ApiError(400, sentence, "previous_response_id", "previous_response_not_found")
        before = tuple(message for message in thread.messages if message.role != "system")
    system = (Message("system", body.instructions),) if body.instructions else ()
    return (*system, *before, *(item.to_message() for item in body.input))


async def _answer(  # noqa: PLR0913  # the parts of one request
    answering: Answering,
    caller: Caller,
    question: Question,
    create_encoder: Callable[[ModelEntry], Encoder],
    request: Request,
    *,
    is_streamed: bool,
) -> Response:
    """Run the model, and send its answer, streamed or whole."""
    stream = AnswerStream()
    entry, turn = await asyncio.to_thread(answering.start, caller, question, stream.put)
    encoder: Encoder = create_encoder(entry)
    if is_streamed:
        async with stop_on_disconnect(request.receive, turn, at_end=False):
            first = await stream.get(_FIRST_EVENT_SECONDS)
        if isinstance(first, Answer) and (error := find_error(first, question.field)):
            raise error
        return stream_answer(encoder, first, stream, turn, request.receive, question.field)
    async with stop_on_disconnect(request.receive, turn):
        answer = await stream.wait()
    if error := find_error(answer, question.field):
        raise error
    return JSONResponse(encoder.whole(answer))
