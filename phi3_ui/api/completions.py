"""The formats of /chat/completions and /completions."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from phi3_ui.api.sse import write_event
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import Usage

_DONE = "data: [DONE]\n\n"
_FINISH_REASONS = {"stop": "stop", "cancelled": "stop", "length": "length", "timeout": "length"}
"""OpenAI has no finish reason for a time limit, so it is reported as reaching the maximum length."""


@dataclass(frozen=True)
class CompletionEncoder:
    """Writes one answer."""

    kind: Literal["chat.completion", "text_completion"]
    id: str
    model: str
    """The model's name in the request."""
    fingerprint: str
    """Id of the logged model, which identifies the weights and settings that answered."""
    includes_usage: bool = False
    """Whether a stream ends with the usage."""
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""

    def begin(self) -> Iterator[str]:
        """See Encoder."""
        if self.kind == "chat.completion":
            yield self._chunk({"role": "assistant", "content": ""})

    def write(self, text: str) -> Iterator[str]:
        """See Encoder."""
        yield self._chunk({"content": text} if self.kind == "chat.completion" else text)

    def end(self, answer: Answer) -> Iterator[str]:
        """See Encoder."""
        reason = _FINISH_REASONS[answer.finish_reason or "stop"]
        yield self._chunk({} if self.kind == "chat.completion" else "", reason)
        if self.includes_usage:
            yield write_event({**self._head(is_chunk=True), "choices": [], "usage": describe_usage(answer.usage)})
        yield _DONE

    def fail(self, body: dict[str, Any]) -> Iterator[str]:
        """See Encoder."""
        yield write_event(body)
        yield _DONE

    def whole(self, answer: Answer) -> dict[str, Any]:
        """See Encoder."""
        content: dict[str, Any] = (
            {"message": {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}}
            if self.kind == "chat.completion"
            else {"text": answer.text}
        )
        reason = _FINISH_REASONS[answer.finish_reason or "stop"]
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
        return {**self._head(is_chunk=False), "choices": [choice], "usage": describe_usage(answer.usage)}

    def _head(self, is_chunk: bool) -> dict[str, Any]:
        kind = f"{self.kind}.chunk" if is_chunk and self.kind == "chat.completion" else self.kind
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _chunk(self, content: dict[str, str] | str, reason: str | None = None) -> str:
        part = {"delta": content} if isinstance(content, dict) else {"text": content}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.includes_usage else {}
        return write_event({**self._head(is_chunk=True), "choices": [choice], **usage})


def describe_usage(usage: Usage | None) -> dict[str, Any] | None:
    """Return token counts in OpenAI's format; None if the model does not report them."""
    if usage is None:
        return None
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return counts
