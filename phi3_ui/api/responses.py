"""The format of /responses: OpenAI's, with all fields that the specification *Open Responses* requires."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from phi3_ui.api.schemas import ResponseRequest
from phi3_ui.api.sse import write_event
from phi3_ui.chat.conversation import Answer


@dataclass
class ResponseEncoder:
    """Writes one answer; the events of a stream are numbered."""

    id: str
    request: ResponseRequest
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""
    _number: int = 0
    _pieces: list[str] = field(default_factory=list)
    """The pieces of the text so far."""

    def begin(self) -> Iterator[str]:
        """See Encoder."""
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))
        yield self._event("response.output_item.added", output_index=0, item=self._item("in_progress", []))
        yield self._event("response.content_part.added", **self._place, part=_part(""))

    def write(self, text: str) -> Iterator[str]:
        """See Encoder."""
        self._pieces.append(text)
        yield self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])

    def end(self, answer: Answer) -> Iterator[str]:
        """See Encoder."""
        yield self._event("response.output_text.done", **self._place, text=answer.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=_part(answer.text))
        whole = self.whole(answer)
        yield self._event("response.output_item.done", output_index=0, item=whole["output"][0])
        yield self._event(f"response.{whole['status']}", response=whole)

    def fail(self, body: dict[str, Any]) -> Iterator[str]:
        """See Encoder."""
        error = body["error"]
        failed = {"code": error["code"] or "server_error", "message": error["message"]}
        response = {
            **self._response("failed"),
            "error": failed,
            "output": [self._item("incomplete", [_part("".join(self._pieces))])],
        }
        yield self._event("response.failed", response=response)

    def whole(self, answer: Answer) -> dict[str, Any]:
        """See Encoder."""
        is_complete = answer.finish_reason in ("stop", "cancelled", None)
        status = "completed" if is_complete else "incomplete"
        usage = answer.usage
        return {
            **self._response(status),
            "incomplete_details": None if is_complete else {"reason": "max_output_tokens"},
            "output": [self._item(status, [_part(answer.text)])],
            "usage": usage
            and {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.total_tokens,
            },
        }

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    @property
    def _item_id(self) -> str:
        return self.id.replace("resp_", "msg_")

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item_id, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str) -> dict[str, Any]:
        """Return the response object. Sampling parameters that are not set get the format's defaults, since it does not allow null."""
        request = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": None,
            "metadata": request.metadata or {},
            "model": request.model,
            "output": [],
            "parallel_tool_calls": False,
            "presence_penalty": _either(request.presence_penalty, 0.0),
            "frequency_penalty": _either(request.frequency_penalty, 0.0),
            "previous_response_id": request.previous_response_id,
            "prompt_cache_key": None,
            "reasoning": None,
            "safety_identifier": None,
            "service_tier": "default",
            "store": request.store is not False,
            "temperature": _either(request.temperature, 1.0),
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_logprobs": 0,
            "top_p": _either(request.top_p, 1.0),
            "truncation": "auto",
            "usage": None,
        }

    def _event(self, name: str, **fields: Any) -> str:
        self._number += 1
        return write_event({"type": name, "sequence_number": self._number - 1, **fields}, name)


def _either(value: float | None, default: float) -> float:
    return default if value is None else value


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
