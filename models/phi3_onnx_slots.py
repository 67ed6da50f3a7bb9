"""KV-cache slots: each request reuses the slot that shares the longest prefix with its prompt; all requests advance in turn.

It goes into the artifact beside phi3_onnx.py. Knows token ids and the engine; no text, no MLflow.

No worker thread: one waiting caller becomes the leader and steps every active request, so nothing is computed that no
caller waits for, and a single caller drives the engine without a thread switch.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime_genai as og

Logits = npt.NDArray[np.float32]
"""(vocabulary,)"""

# Prefill holds the GIL and cannot be interrupted: in chunks it costs the same and can be stopped between them. While
# other requests decode, the chunks are small, at a tenth of the speed, so that nobody's text stalls.
PREFILL_CHUNK, SHARED_PREFILL_CHUNK = 64, 8
# LongRoPE models switch scaling factors past this many tokens, which invalidates keys and values cached before the switch.
# So the first chunk of a longer prompt must reach past it.
SHORT_ROPE_LENGTH = 4096
_LENGTH_STEP = 1024  # tokens; the lengths of slots are multiples of it
_SLOT_SHARES = 4  # slots the memory budget is divided into, where the context allows it
_MAX_PENDING_EVENTS = 8  # of a request whose caller is slow; then it is not stepped


@dataclass(frozen=True)
class QueuePosition:
    """The request waits for memory: `ahead` requests are before it."""

    ahead: int


@dataclass(frozen=True)
class PrefillProgress:
    """`count` tokens of the prompt are in the KV cache; those of the first such event were served from it."""

    count: int


@dataclass(frozen=True)
class Token:
    """A generated token."""

    id: int


Event = QueuePosition | PrefillProgress | Token


@dataclass(frozen=True)
class CacheStats:
    """A snapshot of the KV cache."""

    budget_bytes: int
    used_bytes: int
    """Of all slots, empty ones included."""
    slots: int
    """Slots that hold a conversation."""
    hits: int
    """Prompts that reused cached tokens."""
    misses: int
    """Prompts that reused none."""


@dataclass(eq=False)
class _Slot:
    """A generator and the tokens in its KV cache."""

    generator: Any
    length: int
    """How many tokens fit."""
    uses_long_rope: bool
    """The positions have LongRoPE's long factors (see SHORT_ROPE_LENGTH)."""
    tokens: list[int] = field(default_factory=list)
    exact_prefix_len: int = 0
    """The first tokens were prefilled in chunks from the start, which a fresh prefill reproduces bit for bit. Tokens decoded one
    at a time differ: quantised models compute one token with another kernel than two or more."""
    last_used: int = 0


@dataclass(eq=False)
class _Request:
    """One answer: waits for a slot, prefills its prompt there, then decodes."""

    prompt: list[int]
    max_tokens: int
    sample: Callable[[Logits], int]
    stop_ids: frozenset[int]
    is_reproducible: bool
    """The logits must be those of a fresh prefill, bit for bit."""
    slot: _Slot | None = None
    prefilled: int = 0
    """Tokens of the prompt in the KV cache."""
    generated: int = 0
    pending: int | None = None
    """The last generated token, while it is not in the KV cache."""
    is_finished: bool = False
    is_abandoned: bool = False
    """Its caller has closed the iterator."""
    reported_position: int | None = None
    events: deque[Event | Exception] = field(default_factory=deque)
    """Not yet fetched by the caller."""

    @property
    def length(self) -> int:
        """The tokens that prompt and answer may take."""
        return len(self.prompt) + self.max_tokens

    @property
    def is_prefilling(self) -> bool:
        return self.prefilled < len(self.prompt)

    @property
    def is_active(self) -> bool:
        return self.slot is not None and not self.is_finished and not self.is_abandoned


class Slots:
    """The generators of one model, within a memory budget. Thread-safe.

    One request is always possible, whatever the budget.
    """

    def __init__(
        self, model: Any, context_length: int, token_bytes: int, budget: int, switches_rope: bool = False
    ) -> None:
        """`token_bytes` is the KV cache of one token, `budget` the memory for all slots, in bytes.

        `switches_rope`: the model switches its LongRoPE factors past SHORT_ROPE_LENGTH tokens.
        """
        self._model = model
        self._context_length = context_length
        self._token_bytes = token_bytes
        self._budget = budget
        self._switches_rope = switches_rope
        self._slots: list[_Slot] = []
        self._waiting: list[_Request] = []
        self._running: list[_Request] = []
        self._changed = threading.Condition()
        self._has_leader = False
        self._queue_changed = False
        self._clock = self._hits = self._misses = 0

    def generate(
        self,
        prompt: list[int],
        max_tokens: int,
        sample: Callable[[Logits], int],
        stop_ids: frozenset[int],
        is_reproducible: bool,
    ) -> Generator[Event, None, None]:
        """The events of one answer: QueuePosition while it waits, PrefillProgress, then one Token each.

        The last token is one of `stop_ids`, or the `max_tokens`th. `sample` chooses a token by the logits of one position,
        which it may change. With `is_reproducible` the same prompt always gives the same logits, bit for bit; earlier
        answers in the prompt are then prefilled again. Closing the iterator stops the computation; the KV cache stays for
        the next prompt with the same prefix. Errors of the engine are raised here.
        """
        request = _Request(prompt, max_tokens, sample, stop_ids, is_reproducible)
        with self._changed:
            self._waiting.append(request)
            self._queue_changed = True
        try:
            while (event := self._next_event(request)) is not None:
                yield event
        finally:
            with self._changed:
                request.is_abandoned = True
                if not self._has_leader:
                    self._remove_abandoned()
                self._changed.notify_all()

    def warm_up(self) -> None:
        """Create a slot and run the engine in it once, so that the first question waits for neither."""
        slot = self._create_slot(self._slot_length(1), uses_long_rope=False)
        slot.generator.append_tokens([0])
        slot.generator.rewind_to(0)

    def prepare(self) -> None:
        """Create the slot that the next new chat will take, if the budget has room for it and no request is active.

        Allocating memory for thousands of tokens takes tenths of a second, in which nothing else runs.
        """
        length = self._slot_length(1)
        with self._changed:
            if self._has_leader or self._running or self._waiting or not self._fits(length):
                return
            if any(not slot.tokens and slot.length >= length for slot in self._slots):
                return
            self._has_leader = True
        try:
            self._create_slot(length, uses_long_rope=False)
        finally:
            with self._changed:
                self._has_leader = False
                self._changed.notify_all()

    def stats(self) -> CacheStats:
        """How full the KV cache is, and how often it was hit."""
        with self._changed:
            used = sum(slot.length for slot in self._slots) * self._token_bytes
            filled = sum(bool(slot.tokens) for slot in self._slots)
            return CacheStats(self._budget, used, filled, self._hits, self._misses)

    def _next_event(self, request: _Request) -> Event | None:
        """The request's next event, None at its end. Steps all requests until there is one, unless another caller leads."""
        while True:
            with self._changed:
                while not self._may_lead(request):
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

    def _may_lead(self, request: _Request) -> bool:
        if self._has_leader or request.events or request.is_finished:
            return False
        return request.slot is not None or self._queue_changed

    def _remove_abandoned(self) -> None:
        """Free the slots of requests whose caller has left."""
        for request in [request for request in (*self._waiting, *self._running) if request.is_abandoned]:
            (self._waiting if request in self._waiting else self._running).remove(request)
            self._queue_changed = True

    def _step_all(self) -> None:
        """One step for all requests: a token for those that decode, a chunk of prompt for the one with the least left to prefill."""
        with self._changed:
            self._queue_changed = False
            running, waiting = list(self._running), list(self._waiting)
        for request in waiting:
            if request.is_abandoned or not self._guard(request, self._admit):
                break  # first in, first out
            running.append(request)
        decoding = [request for request in running if request.is_active and not request.is_prefilling]
        for request in decoding:
            if len(request.events) < _MAX_PENDING_EVENTS:
                self._guard(request, self._decode)
        prefilling = [request for request in running if request.is_active and request.is_prefilling]
        if prefilling:
            request = min(prefilling, key=lambda request: len(request.prompt) - request.prefilled)
            chunk = SHARED_PREFILL_CHUNK if decoding else PREFILL_CHUNK
            self._guard(request, lambda request: self._prefill(request, chunk))

    def _guard(self, request: _Request, step: Callable[[_Request], bool]) -> bool:
        """Run a step. An error of the engine ends this request alone, and its slot is not used again."""
        try:
            return step(request)
        except Exception as error:  # noqa: BLE001  # raised again in the request's own thread
            with self._changed:
                if request.slot in self._slots:
                    self._slots.remove(request.slot)
                request.slot, request.is_finished = None, True
                if request in self._waiting:
                    self._waiting.remove(request)
                request.events.append(error)
            return True

    def _admit(self, request: _Request) -> bool:
        """Give the first request in the queue a slot. False if none is free."""
        uses_long_rope = self._switches_rope and len(request.prompt) > SHORT_ROPE_LENGTH
        found = self._choose_slot(request, uses_long_rope)
        if found is None:
            return False
        slot, common = found
        if common < len(slot.tokens):
            slot.generator.rewind_to(common)
            del slot.tokens[common:]
            slot.exact_prefix_len = min(slot.exact_prefix_len, common)
        request.slot, request.prefilled = slot, common
        self._mark_used(slot)
        with self._changed:
            self._hits, self._misses = self._hits + (common > 0), self._misses + (common == 0)
            self._waiting.remove(request)
            self._running.append(request)
            request.events.append(PrefillProgress(common))
        return True

    def _choose_slot(self, request: _Request, uses_long_rope: bool) -> tuple[_Slot, int] | None:
        """A free slot and how many of the prompt's tokens it serves; a new slot where that is better; None if all are taken."""
        taken = {other.slot for other in self._running}
        free = [slot for slot in self._slots if slot not in taken]
        commons = {
            slot: _common_prefix_len(slot.tokens, request.prompt) if slot.uses_long_rope == uses_long_rope else 0
            for slot in free
        }
        best = max(free, key=lambda slot: commons[slot], default=None)
        # Reuse drops the tokens past the common prefix: not worth it if they are many more than the prefix.
        if best and 3 * commons[best] >= len(best.tokens) > 0 and commons[best]:
            if best.length >= request.length:
                return best, self._reusable_len(best, request, commons[best])
            self._drop(best)  # the conversation continues in a longer slot
            free.remove(best)
        length = self._slot_length(request.length)
        # Existing slots first, empty ones before full ones: see prepare.
        for slot in sorted(free, key=lambda slot: (len(slot.tokens) > 0, slot.last_used)):
            if slot.length >= request.length and (not slot.tokens or not self._fits(length)):
                slot.uses_long_rope = uses_long_rope
                return slot, 0
            if self._fits(length):
                break
            self._drop(slot)
        if not self._fits(length):
            length = min(self._context_length, request.length)
            if not self._fits(length) and self._slots:
                return None
        return self._create_slot(length, uses_long_rope), 0

    @staticmethod
    def _reusable_len(slot: _Slot, request: _Request, common: int) -> int:
        """How many of the `common` tokens need no prefill. Two are left for it, since one alone takes another kernel."""
        usable = min(common, max(0, len(request.prompt) - 2))
        if request.is_reproducible:
            usable = min(usable, slot.exact_prefix_len)
            if slot.uses_long_rope and usable <= SHORT_ROPE_LENGTH:
                usable = 0  # the first chunk is computed as one
        return usable

    def _create_slot(self, length: int, uses_long_rope: bool) -> _Slot:
        params = og.GeneratorParams(self._model)
        # Sampling happens here: the engine's own would keep one setting and one seed for the generator's whole life.
        params.set_search_options(max_length=length, do_sample=False)
        slot = _Slot(og.Generator(self._model, params), length, uses_long_rope)
        self._slots.append(slot)
        return slot

    def _slot_length(self, needed: int) -> int:
        """How many tokens a new slot should hold: a share of the budget, so that the conversation can continue in it."""
        share = self._budget // self._token_bytes // _SLOT_SHARES
        steps = -(-needed // _LENGTH_STEP) * _LENGTH_STEP
        return min(self._context_length, max(steps, share))

    def _fits(self, length: int) -> bool:
        """Whether the budget has room for another slot of this length."""
        return (sum(slot.length for slot in self._slots) + length) * self._token_bytes <= self._budget

    def _drop(self, slot: _Slot) -> None:
        with self._changed:
            self._slots.remove(slot)

    def _mark_used(self, slot: _Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock

    def _prefill(self, request: _Request, chunk: int) -> bool:
        slot = _slot_of(request)
        end = min(
            len(request.prompt), max(request.prefilled + chunk, SHORT_ROPE_LENGTH + 1 if slot.uses_long_rope else 0)
        )
        if end == len(request.prompt) - 1:
            end += 1  # see _reusable_len
        self._compute(slot, request.prompt[request.prefilled : end])
        if slot.exact_prefix_len == request.prefilled:
            slot.exact_prefix_len = end
        request.prefilled = end
        request.events.append(PrefillProgress(end))
        return True

    def _decode(self, request: _Request) -> bool:
        slot = _slot_of(request)
        if request.pending is not None:
            self._compute(slot, [request.pending])
        request.pending = request.sample(np.array(slot.generator.get_logits(), dtype=np.float32).reshape(-1))
        request.generated += 1
        request.is_finished = request.pending in request.stop_ids or request.generated == request.max_tokens
        self._mark_used(slot)
        request.events.append(Token(request.pending))
        return True

    @staticmethod
    def _compute(slot: _Slot, tokens: list[int]) -> None:
        slot.generator.append_tokens(tokens)
        slot.tokens += tokens


def _slot_of(request: _Request) -> _Slot:
    """The slot of an admitted request. RuntimeError for any other."""
    if request.slot is None:
        raise RuntimeError("The request has no slot yet.")
    return request.slot


def _common_prefix_len(one: list[int], other: list[int]) -> int:
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(at for at in range(shorter) if one[at] != other[at])


def memory_budget() -> int:
    """An eighth of the machine's memory or of the control group's limit, in bytes; 2 GiB where neither can be read."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limits.append(int(file.read()))
    except (AttributeError, OSError, ValueError):
        pass  # another operating system, or no limit ("max")
    return (min(limits) if limits else 16 << 30) // 8
