"""The body of a request to another server."""

from dataclasses import dataclass, replace
from typing import Any

from phi3_ui.chat.types import ChatRequest, Message
from phi3_ui.remote_servers import RemoteServer

_NEUTRAL = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Values that have no effect: left out, since some models refuse the fields."""


@dataclass(frozen=True)
class Habits:
    """What a model was found to refuse."""

    asks_usage: bool = True
    """It takes `stream_options`. Without them, an answer's usage is known only if the server sends it unasked."""
    limit_name: str = "max_tokens"
    """What it calls the limit of the answer; OpenAI's reasoning models take `max_completion_tokens` alone."""

    def learn(self, refusal: str) -> "Habits | None":
        """The habits to try after a refusal with this text; None if it is about something else."""
        if self.asks_usage and "stream_options" in refusal:
            return replace(self, asks_usage=False)
        if self.limit_name == "max_tokens" and "max_completion_tokens" in refusal:
            return replace(self, limit_name="max_completion_tokens")
        return None


def build_body(
    server: RemoteServer, model: str, request: ChatRequest, habits: Habits, opening: tuple[Message, ...] = ()
) -> dict[str, Any]:
    """The body that asks for a streamed answer. `opening` are messages that come before those of the request."""
    messages = [{"role": message.role, "content": message.content} for message in (*opening, *request.messages)]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    for name, value in request.params.as_dict().items():
        if name in server.supported_params and _NEUTRAL.get(name) != value:
            key = habits.limit_name if name == "max_tokens" else server.dialect.params[name]
            body[key] = value
    if habits.asks_usage:
        body["stream_options"] = {"include_usage": True}
    return body
