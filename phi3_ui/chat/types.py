"""The values a turn is made of: frozen, without ids, storage or UI."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "timeout"]
Delivery = Literal["stream", "hooked", "whole"]
"""How text arrives: predict_stream; predict with its tokens tapped as they come; predict's whole answer at the end."""


@dataclass(frozen=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True)
class Usage:
    """Token counts as the model reports them; completion_tokens includes the end-of-turn token.

    cached_tokens are those of the prompt that the model had read before (OpenAI's prompt_tokens_details); None: unknown.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """The sum; what one of the two does not know of its cached tokens counts as none."""
        known = [usage.cached_tokens for usage in (self, other) if usage.cached_tokens is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(known) if known else None,
        )


@dataclass(frozen=True)
class Timings:
    """Seconds from the request's arrival at the model to its first token (None: there was none) and to its end.

    tokens_per_second is the decode rate: tokens after the first, over the time since the first (None below 2 tokens).
    """

    time_to_first_token: float | None
    seconds: float
    tokens_per_second: float | None


@dataclass(frozen=True)
class GenerationParams:
    """Sampling parameters; None leaves it to the model's own default. temperature 0 is greedy, top_k 0 means no limit.

    repetition_penalty divides (1 changes nothing); presence and frequency penalty are OpenAI's, from -2 to 2.
    `stop` ends the answer before any of these texts. seed (0 to 2³¹-1) makes the answer repeatable.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that are not left to the model, by name; `stop` as a list."""
        fields: dict[str, Any] = {**vars(self), "stop": list(self.stop) or None}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class ChatRequest:
    """`template` names the one of TEMPLATES to render with, for a model that declares none.

    `seconds` is how long the model may be at work for it, loading and waiting in line not counted; None: as long as it takes.
    """

    messages: tuple[Message, ...]
    params: GenerationParams = GenerationParams()
    template: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Loading:
    """The model is not loaded yet; the answer starts when it is."""


@dataclass(frozen=True)
class Queued:
    """The model is at work for others; `ahead` of them are before this answer, and it begins when they are done."""

    ahead: int


@dataclass(frozen=True)
class ContextUse:
    """How a request was made to fit the model's context, in tokens.

    `prompt_tokens` of `limit` are the prompt's; `left_out` are the oldest turns that did not fit and are not in it.
    `max_tokens` is what is left for the answer where that is less than was wanted; None: nothing was cut.
    """

    prompt_tokens: int
    limit: int
    left_out: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True)
class PromptProgress:
    """How many of the prompt's tokens the model has read, those that it had read before included."""

    processed: int
    total: int


@dataclass(frozen=True)
class CacheUse:
    """What a model keeps of the prompts that it has read: bytes, slots (one a chat), and how prompts were served.

    Hits are the prompts of which it had read some tokens before, misses the others.
    """

    budget_bytes: int
    used_bytes: int
    slots: int
    hits: int
    misses: int


@dataclass(frozen=True)
class TextDelta:
    text: str


@dataclass(frozen=True)
class Completed:
    """The end of an answer, once. `text` is the whole of it; `usage` None means unknown, not zero."""

    text: str
    usage: Usage | None
    timings: Timings
    finish_reason: FinishReason


Event = Loading | Queued | ContextUse | PromptProgress | TextDelta | CacheUse | Completed


class Cancel:
    """A request to stop one answer: set once, by anyone; whoever works on the answer looks, or is called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    def set(self) -> None:
        with self._lock:
            callbacks = [] if self._set else self._callbacks
            self._set = True
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        return self._set

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call `callback` when set; at once if it is already."""
        with self._lock:
            if not self._set:
                self._callbacks.append(callback)
                return
        callback()
