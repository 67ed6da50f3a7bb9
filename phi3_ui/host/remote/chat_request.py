"""The body of a request to a remote server."""

from dataclasses import dataclass, replace
from typing import Any

from phi3_ui.chat.types import ChatRequest, Message
from phi3_ui.remote_servers import RemoteServer

_NEUTRAL = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Values that have no effect, so they are omitted: some models reject the fields."""


@dataclass(frozen=True)
class Quirks:
    """Which optional fields a model accepts, as learned from its rejections."""

    asks_usage: bool = True
    """Whether it accepts `stream_options`. Without them, an answer's usage is known only if the server sends it anyway."""
    limit_name: str = "max_tokens"
    """Its name for the limit of the answer; OpenAI's reasoning models accept only `max_completion_tokens`."""

    def adapt(self, refusal: str) -> "Quirks | None":
        """Return the quirks to try after a rejection with this text; None if it is about something else."""
        if self.asks_usage and "stream_options" in refusal:
            return replace(self, asks_usage=False)
        if self.limit_name == "max_tokens" and "max_completion_tokens" in refusal:
            return replace(self, limit_name="max_completion_tokens")
        return None


def build_body(
    server: RemoteServer, model: str, request: ChatRequest, quirks: Quirks, opening: tuple[Message, ...] = ()
) -> dict[str, Any]:
    """Return the body that requests a streamed answer. `opening`: messages that precede those of the request."""
    messages = [{"role": message.role, "content": message.content} for message in (*opening, *request.messages)]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    for name, value in request.params.as_dict().items():
        if name in server.supported_params and _NEUTRAL.get(name) != value:
            key = quirks.limit_name if name == "max_tokens" else server.dialect.params[name]
            body[key] = value
    if quirks.asks_usage:
        body["stream_options"] = {"include_usage": True}
    return body
