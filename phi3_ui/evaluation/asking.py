"""Send requests to a model in sequence, like any other client of the pool."""

import time
from collections.abc import Callable

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, ModelLoading
from phi3_ui.errors import UserError

LOAD_ERRORS = ("load_failed", "model_not_trusted", "model_unreadable", "model_gone")
"""Errors that every further question would get, too."""
_BUSY = ("too_many_models", "queue_full")
_RETRY_SECONDS = 1.0


def answer_question(model: ChatModel, name: str, request: ChatRequest, cancel: CancelToken | None = None) -> Answer:
    """Ask one question. Errors become part of the answer, except LOAD_ERRORS and those of a busy pool.

    Raises:
        UserError: load_failed, model_not_trusted, model_unreadable, model_gone, too_many_models, queue_full.
    """
    loading_since: float | None = None
    load_seconds: float | None = None
    try:
        for event in model.answer(request, cancel or CancelToken()):
            if isinstance(event, ModelLoading):
                loading_since = time.monotonic()
            elif loading_since is not None and load_seconds is None:
                load_seconds = time.monotonic() - loading_since
            if isinstance(event, Completed):
                return Answer(
                    name,
                    event.text,
                    event.usage,
                    event.timings,
                    event.finish_reason,
                    load_seconds=load_seconds,
                    ended_model=event.ended_model,
                )
    except UserError as error:
        if error.code in (*LOAD_ERRORS, *_BUSY):
            raise
        return Answer(name, "", error=(error.code, error.values))
    raise RuntimeError("the model sent no Completed event")


def ask_with_retry(
    get_model: Callable[[], ChatModel],
    name: str,
    request: ChatRequest,
    cancel: CancelToken,
    wait: Callable[[float], bool],
) -> Answer | None:
    """Like `answer_question`, but retry while the pool is busy; return None if cancelled.

    Args:
        get_model: Returns the model, loading it if necessary.
        name: The model's name.
        request: The request to send.
        cancel: Stops the answer.
        wait: Waits for a number of seconds; returns whether the evaluation was cancelled meanwhile.
    """
    while not cancel.is_set():
        try:
            answer = answer_question(get_model(), name, request, cancel)
        except UserError as error:
            if error.code not in _BUSY:
                raise
            if wait(_RETRY_SECONDS):
                return None
            continue
        return None if answer.finish_reason == "cancelled" else answer
    return None
