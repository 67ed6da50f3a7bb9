"""The one interface through which the app talks to a model: one request in, a stream of events out."""

from collections.abc import Iterator
from typing import Protocol

from phi3_ui.chat.types import Cancel, ChatRequest, Event


class ChatModel(Protocol):
    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        """The events of one answer, ending with exactly one Completed, also when `cancel` stops it.

        Stopping ends the compute within one token. Closing the iterator stops it too. Raises UserError.
        """
        ...
