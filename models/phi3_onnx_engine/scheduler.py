"""Continuous batching: all requests of a model advance together, each in its own slot.

No worker thread: one waiting caller becomes the leader and steps every active request, so nothing is computed that no
caller waits for, and a single caller drives the engine without a thread switch.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from .engine import SHORT_ROPE_LENGTH, Engine, Logits
from .events import CacheStats, Event, PrefillProgress, QueuePosition, Token
from .pace import Pace
from .slots import Slot, Slots

_MAX_PENDING_EVENTS = 8  # per request; a request whose caller is slower than that is not stepped


@dataclass
class Chunk:
    """A chunk of a prompt that is being prefilled segment by segment."""

    start: int
    end: int
    """The chunk's tokens are those from `start` up to, not including, `end`."""
    segments: Generator[None, None, Logits]
    seconds: float = 0.0
    """Time spent on it so far, in seconds."""


@dataclass(eq=False)
class Request:
    """One answer: it waits for a slot, prefills its prompt there, then decodes."""

    prompt: list[int]
    max_tokens: int
    sample: Callable[[Logits], int]
    """Chooses a token from the logits of one position, which it may change in place."""
    stop_ids: frozenset[int]
    is_reproducible: bool
    """Whether the same prompt must always give the same logits, bit for bit; earlier answers in it are then prefilled again."""
    slot: Slot | None = field(default=None, init=False)
    generated: list[int] = field(default_factory=list, init=False)
    to_prefill: list[int] = field(default_factory=list, init=False)
    """The prompt; after a switch of RoPE factors, also the answer up to there."""
    chunk: Chunk | None = field(default=None, init=False)
    """The chunk in progress, which is suspended while others decode."""
    is_finished: bool = field(default=False, init=False)
    is_abandoned: bool = field(default=False, init=False)
    """Whether its caller has closed the iterator, or it was cancelled."""
    reported_position: int | None = field(default=None, init=False)
    events: deque[Event | Exception] = field(default_factory=deque, init=False)
    """Events that the caller has not fetched yet."""

    def __post_init__(self) -> None:
        self.to_prefill = self.prompt

    @property
    def remaining_prefill(self) -> int:
        """Number of tokens to prefill; 0 before the request has a slot."""
        return max(0, len(self.to_prefill) - len(self.slot.row.tokens)) if self.slot else 0

    @property
    def is_active(self) -> bool:
        """Whether the request is to be stepped."""
        return self.slot is not None and not self.is_finished and not self.is_abandoned


class Scheduler:
    """The requests of one model. Thread-safe."""

    def __init__(self, engine: Engine, budget: int) -> None:
        """Schedule requests on `engine`; `budget` is the memory for the KV cache, in bytes."""
        self._engine = engine
        self._slots = Slots(engine, budget)
        self._pace = Pace(engine.shared_chunk, engine.segments)
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._changed = threading.Condition()
        self._has_leader = False
        self._queue_changed = False

    def generate(self, request: Request) -> Generator[Event, None, None]:
        """Yield the events of one answer: QueuePosition while it waits, PrefillProgress, then a Token for each generated token.

        The last token is one of `stop_ids`, or the `max_tokens`th. Closing the iterator stops the computation, and so does
        `cancel`; the KV cache is kept for the next prompt with the same prefix. Errors of the engine are raised here.
        """
        with self._changed:
            self._waiting.append(request)
            self._queue_changed = True
        try:
            while (event := self._next_event(request)) is not None:
                yield event
        finally:
            self.cancel(request)

    def cancel(self, request: Request) -> None:
        """Cancel an answer from any thread; its events end in the middle of a step if the engine can be interrupted, else after it."""
        with self._changed:
            request.is_abandoned = True
            if request.slot and request.remaining_prefill:  # otherwise it shares its step with others
                self._engine.interrupt(request.slot.row)
            if not self._has_leader:
                self._remove_abandoned()
            self._changed.notify_all()

    def warm_up(self) -> None:
        """See Slots."""
        self._slots.warm_up()

    def prepare(self) -> None:
        """See Slots; do nothing while there are requests."""
        with self._changed:
            if self._has_leader or self._running or self._waiting:
                return
            self._has_leader = True
        try:
            self._slots.prepare()
        finally:
            with self._changed:
                self._has_leader = False
                self._changed.notify_all()

    def stats(self) -> CacheStats:
        """See Slots."""
        return self._slots.stats()

    def _next_event(self, request: Request) -> Event | None:
        """Return the request's next event, or None at its end. Step all requests until there is one, unless another caller leads."""
        while True:
            with self._changed:
                while not self._may_lead(request):
                    if request.is_abandoned:
                        return None
                    if request.events:
                        event = request.events.popleft()
                        if isinstance(event, Exception):
                            raise event
                        return event
                    if request.is_finished:
                        return None
                    if request in self._waiting:
                        ahead = len(self._running) + self._waiting.index(request)
                        if request.reported_position != ahead:
                            request.reported_position = ahead
                            return QueuePosition(ahead)
                    self._changed.wait()
                self._has_leader = True
            try:
                self._step_all()
            finally:
                with self._changed:
                    self._has_leader = False
                    self._remove_abandoned()
                    self._changed.notify_all()

    def _may_lead(self, request: Request) -> bool:
        if self._has_leader or request.events or request.is_finished or request.is_abandoned:
            return False
        return request.slot is not None or self._queue_changed

    def _remove_abandoned(self) -> None:
        """Remove abandoned requests and release their slots."""
        for request in [request for request in (*self._waiting, *self._running) if request.is_abandoned]:
            (self._waiting if request in self._waiting else self._running).remove(request)
            if request.slot:
                self._slots.release(request.slot)
                request.slot = None
            self._queue_changed = True

    def _step_all(self) -> None:
        """Step all requests: one token for those that decode, segments of a chunk for the one with the least left to prefill."""
        with self._changed:
            self._queue_changed = False
            running, waiting = list(self._running), list(self._waiting)
        for request in waiting:
            if request.is_abandoned or not self._admit(request):
                break  # first in, first out
        # Requests admitted now are first stepped next time, since a caller can only cancel after it has received an event.
        decoding = [request for request in running if request.is_active and not request.remaining_prefill]
        ready = [request for request in decoding if len(request.events) < _MAX_PENDING_EVENTS]
        for request in ready:
            self._switch_rope(request)
        ready = [request for request in ready if not request.remaining_prefill]
        for together in [ready] if self._engine.is_batched else [[request] for request in ready]:
            if together:
                self._decode(together)
        prefilling = [request for request in running if request.is_active and request.remaining_prefill]
        if prefilling:
            if ready:
                with self._changed:
                    self._changed.notify_all()  # the tokens are available
            request = min(prefilling, key=lambda request: request.remaining_prefill)
            self._prefill(request, is_shared=bool(decoding))

    def _admit(self, request: Request) -> bool:
        """Give the first request in the queue a slot; return False if none is free."""
        try:
            found = self._slots.acquire(
                request.prompt, len(request.prompt) + request.max_tokens, request.is_reproducible
            )
        except Exception as error:  # noqa: BLE001  # raised again in the thread of the caller
            with self._changed:
                self._waiting.remove(request)
            self._fail(request, error)
            return True
        if found is None:
            return False
        with self._changed:
            request.slot, cached = found
            self._waiting.remove(request)
            self._running.append(request)
            request.events.append(PrefillProgress(cached))
        return True

    def _switch_rope(self, request: Request) -> None:
        """Schedule another prefill of prompt and answer, with the long RoPE factors, once an answer passes the switch."""
        if not request.slot or not self._engine.switches_rope or not self._engine.is_batched:
            return
        row = request.slot.row
        if not row.uses_long_rope and len(row.tokens) >= SHORT_ROPE_LENGTH:
            request.to_prefill = request.prompt + request.generated
            self._slots.rewind(request.slot, 0, uses_long_rope=True)

    def _prefill(self, request: Request, is_shared: bool) -> None:
        """Start or continue a chunk of the prompt: to its end or, while others decode (`is_shared`), for a share of the time."""
        chunk = request.chunk = request.chunk or self._start_chunk(request, is_shared)
        started, done = time.perf_counter(), 0
        try:
            while True:
                next(chunk.segments)
                done, spent = done + 1, time.perf_counter() - started
                if is_shared and not self._pace.has_time(spent, done):
                    chunk.seconds += spent
                    return
        except StopIteration as end:
            logits = end.value
        except Exception as error:  # noqa: BLE001  # raised again in the thread of the caller
            if not request.is_abandoned:  # else it was interrupted
                self._fail(request, error)
            return
        request.chunk, slot = None, _get_slot(request)
        self._pace.record_prefill(chunk.end - chunk.start, chunk.seconds + time.perf_counter() - started)
        if slot.exact_prefix_len == chunk.start:
            slot.exact_prefix_len = chunk.end
        if not request.generated:
            request.events.append(PrefillProgress(chunk.end))
        if chunk.end == len(request.to_prefill):
            self._add_token(request, logits)

    def _start_chunk(self, request: Request, is_shared: bool) -> Chunk:
        row = _get_slot(request).row
        start = len(row.tokens)
        # If the engine chooses the factors for a whole step, the first chunk has to reach past the switch.
        least = SHORT_ROPE_LENGTH + 1 if row.uses_long_rope and not self._engine.is_batched else 0
        end = min(len(request.to_prefill), max(start + self._pace.choose_chunk_size(is_shared), least))
        if end == len(request.to_prefill) - 1:
            end += 1  # a single token uses another kernel than two or more
        tokens, is_last = request.to_prefill[start:end], end == len(request.to_prefill)
        return Chunk(start, end, self._engine.prefill_by_segment(row, tokens, is_last))

    def _decode(self, requests: Sequence[Request]) -> None:
        """Decode one token for each request. If that fails, step them one by one, so that only those with an error end."""
        rows, last = [_get_slot(request).row for request in requests], [request.generated[-1] for request in requests]
        started = time.perf_counter()
        try:
            logits = self._engine.step(rows, last, exact=any(request.is_reproducible for request in requests))
        except Exception as error:  # noqa: BLE001  # raised again in the thread of the caller
            if len(requests) == 1:
                self._fail(requests[0], error)
            else:
                for request in requests:
                    self._decode([request])
            return
        self._pace.record_decode(time.perf_counter() - started)
        for request, of_request in zip(requests, logits, strict=True):
            self._add_token(request, of_request)

    def _add_token(self, request: Request, logits: Logits) -> None:
        try:
            token = request.sample(logits)
        except Exception as error:  # noqa: BLE001  # raised again in the thread of the caller
            self._fail(request, error)
            return
        request.generated.append(token)
        request.is_finished = token in request.stop_ids or len(request.generated) == request.max_tokens
        self._slots.mark_used(_get_slot(request))
        request.events.append(Token(token))

    def _fail(self, request: Request, error: Exception) -> None:
        """End only this request. Its slot is discarded."""
        with self._changed:
            slot, request.slot, request.is_finished = request.slot, None, True
            request.events.append(error)
        if slot:
            self._slots.discard(slot)


def _get_slot(request: Request) -> Slot:
    """Return the slot of an admitted request; raise RuntimeError for any other."""
    if request.slot is None:
        raise RuntimeError("The request has no slot yet.")
    return request.slot
