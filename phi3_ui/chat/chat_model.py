"""The one interface between the app and a model: one request in, a stream of events out."""

from collections.abc import Iterator
from typing import Protocol

from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest


class ChatModel(Protocol):
    """A model that can answer, wherever it runs. Thread-safe."""

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """Stream the events of one answer, ending with exactly one Completed, even when cancelled.

        Cancelling, or closing the iterator, stops the computation within one token.

        Raises:
            UserError: The model could not be loaded, rejected the request, or failed.
        """
        ...
