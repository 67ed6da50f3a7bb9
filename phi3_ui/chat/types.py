"""The values that make up a turn: immutable, without ids, storage or UI."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "timeout"]
StreamingMode = Literal["stream", "hooked", "whole"]
"""How text is delivered: by predict_stream, by a hook on predict's tokens, or whole when predict returns."""


BatchingReason = Literal["", "chosen", "device", "graph", "no_graph", "failed", "earlier_release", "pipeline"]
"""Why a model computes one answer at a time; empty: it decodes several in one step."""


@dataclass(frozen=True)
class Batching:
    """Whether a loaded model decodes several answers in one step."""

    reason: BatchingReason = ""
    detail: str = ""
    """Details of the reason, in English."""


@dataclass(frozen=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True)
class Usage:
    """Token counts as reported by the model."""

    prompt_tokens: int
    completion_tokens: int
    """Includes the end-of-turn token."""
    cached_tokens: int | None = None
    """Prompt tokens served from the KV cache (OpenAI's prompt_tokens_details); None if unknown."""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum; unknown cached tokens count as 0 unless both are unknown."""
        known = [usage.cached_tokens for usage in (self, other) if usage.cached_tokens is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(known) if known else None,
        )


@dataclass(frozen=True)
class Timings:
    """Durations of an answer, in seconds from the request's arrival at the model."""

    time_to_first_token: float | None
    """None if no token was generated."""
    seconds: float
    """Time to the end of the answer."""
    tokens_per_second: float | None
    """Decode rate: tokens after the first, divided by the time since the first; None with fewer than two tokens."""


@dataclass(frozen=True)
class GenerationParams:
    """Sampling parameters. None leaves a parameter to the model's own default; see sampling_params.py for the ranges."""

    max_tokens: int | None = None
    temperature: float | None = None
    """0 means greedy decoding."""
    top_p: float | None = None
    top_k: int | None = None
    """0 means no limit."""
    repetition_penalty: float | None = None
    """Divides the logits of tokens that occurred before; 1 has no effect."""
    presence_penalty: float | None = None
    """OpenAI's: subtracted from the logit of every token that the answer contains."""
    frequency_penalty: float | None = None
    """OpenAI's: subtracted from a token's logit once per occurrence in the answer."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first occurrence of any of these strings."""
    seed: int | None = None
    """Makes sampling repeatable; None draws a random seed."""

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters that are set, by name; `stop` as a list."""
        fields: dict[str, Any] = {**vars(self), "stop": list(self.stop) or None}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class ChatRequest:
    """One request to a ChatModel."""

    messages: tuple[Message, ...]
    params: GenerationParams = GenerationParams()
    template: str | None = None
    """Key of the prompt template to render with, for a model that declares none."""
    time_limit: float | None = None
    """Maximum compute time in seconds, excluding loading and queueing; None for no limit."""
    raw_prompt: str | None = None
    """The whole prompt with its control tokens, sent instead of the messages. Only models of the contract *prompt* accept it."""
    prefix: str = ""
    """The beginning of the answer, which the model continues; its events contain only what follows. Only models whose contract
    `can_continue` accept it."""
    gpu_token: str | None = field(default=None, repr=False)
    """On a ZeroGPU Space, identifies the user whose quota is charged. Short-lived, and never stored."""


@dataclass(frozen=True)
class ModelLoading:
    """The model is being loaded; the answer starts afterwards."""


@dataclass(frozen=True)
class QueuePosition:
    """The request is queued behind `ahead` other requests."""

    ahead: int


@dataclass(frozen=True)
class ContextUsage:
    """How a request was fitted to the model's context, in tokens."""

    prompt_tokens: int
    limit: int
    """Context length: the maximum of prompt and answer together."""
    omitted_turns: int = 0
    """Number of oldest turns dropped from the prompt because they did not fit."""
    max_tokens: int | None = None
    """Tokens left for the answer, where that is less than requested; None if the request was not reduced."""


@dataclass(frozen=True)
class PrefillProgress:
    """Prompt tokens processed so far, including those served from the KV cache, of the total."""

    processed: int
    total: int


@dataclass(frozen=True)
class Thinking:
    """The model is reasoning before it answers. The reasoning is not part of the answer."""


@dataclass(frozen=True)
class CacheStats:
    """State of a model's KV cache."""

    budget_bytes: int
    used_bytes: int
    slots: int
    """Number of cached chats."""
    hits: int
    """The number of prompts with at least one cached token."""
    misses: int


@dataclass(frozen=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class Completed:
    """The end of an answer, emitted exactly once."""

    text: str
    """The complete text."""
    usage: Usage | None
    """None means unknown, not zero."""
    timings: Timings
    finish_reason: FinishReason
    ended_model: bool = False
    """The model hung instead of ending the answer, so its process was killed. The next request loads it again."""


AnswerEvent = (
    ModelLoading | QueuePosition | ContextUsage | PrefillProgress | Thinking | TextDelta | CacheStats | Completed
)


class CancelToken:
    """A request to cancel one answer. Like threading.Event, but it cannot be cleared, and runs callbacks. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    def set(self) -> None:
        """Request cancellation, and run the callbacks if this is the first request."""
        with self._lock:
            callbacks = [] if self._set else self._callbacks
            self._set = True
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        """Return whether cancellation was requested."""
        return self._set

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the token is set; immediately if it already is."""
        with self._lock:
            if not self._set:
                self._callbacks.append(callback)
                return
        callback()
