"""Generators in slots: an answer takes the slot that has read most of its prompt already, and all answers are stepped in turn.

It goes into the artifact beside phi3_onnx.py. Knows token ids and the engine; no text, no MLflow.

There is no thread: of those who wait for an event, one leads a round, in which every answer gets a step. So nothing is
computed that nobody waits for, and whoever asks alone drives the engine without a hand between.
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

# Appending a prompt holds the GIL and cannot be interrupted: in pieces it costs the same and can be stopped between
# them. While others write, the pieces are small, at a tenth of the speed, so that nobody's text halts.
PIECE, SHARED_PIECE = 64, 8
# A Phi-3 of a longer context turns all positions another way once there are more tokens than these, so a prompt of more
# must begin with a piece of more: what was read before the turn would not fit what is read after it.
SHORT_CONTEXT = 4096
_LENGTH_STEP = 1024  # tokens by which the length of a slot grows
_SHARES = 4  # into which the budget is divided, where the context allows it
_AHEAD = 8  # events that may wait for a reader who is slow


@dataclass(frozen=True)
class Ahead:
    """There is no memory for this answer until others are done: so many are before it."""

    count: int


@dataclass(frozen=True)
class Read:
    """So many tokens of the prompt are read; those of the first event were so before."""

    count: int


@dataclass(frozen=True)
class Token:
    id: int


Event = Ahead | Read | Token


@dataclass(frozen=True)
class CacheUse:
    """What the slots hold and how they served: bytes, prompts that found some of their tokens (hits) or none (misses).

    `slots` are those that hold a chat; `used_bytes` are of the empty ones too.
    """

    budget_bytes: int
    used_bytes: int
    slots: int
    hits: int
    misses: int


@dataclass(eq=False)
class _Slot:
    """A generator, and the tokens that it has computed. `long` are positions turned the long way (see SHORT_CONTEXT).

    The first `exact` of them were read in pieces, from the start: another reading gives the same to the last bit. Not so
    what was written, a token at a time: quantized models compute one token by another kernel than two or more.
    """

    generator: Any
    length: int
    long: bool
    tokens: list[int] = field(default_factory=list)
    exact: int = 0
    last_used: int = 0


@dataclass(eq=False)
class _Run:
    """One answer under way: it waits for a slot, reads its prompt there, then writes."""

    prompt: list[int]
    max_tokens: int
    pick: Callable[[Logits], int]
    ends: frozenset[int]
    exact: bool
    slot: _Slot | None = None
    read: int = 0
    written: int = 0
    pending: int | None = None  # written, but not yet computed
    finished: bool = False
    left: bool = False
    told: int | None = None  # how many were ahead when that was last said
    inbox: deque[Event | Exception] = field(default_factory=deque)

    @property
    def length(self) -> int:
        return len(self.prompt) + self.max_tokens

    @property
    def reading(self) -> bool:
        return self.read < len(self.prompt)


class Slots:
    """The generators of one model, within a budget of memory.

    `token_bytes` is what the keys and values of one token take. One answer is always possible, whatever the budget.
    """

    def __init__(self, model: Any, context_length: int, token_bytes: int, budget: int, turns: bool = False) -> None:
        self._model = model
        self._context_length = context_length
        self._token_bytes = token_bytes
        self._budget = budget
        self._turns = turns
        self._slots: list[_Slot] = []
        self._waiting: list[_Run] = []
        self._running: list[_Run] = []
        self._changed = threading.Condition()
        self._leading = False
        self._line_moved = False
        self._clock = self._hits = self._misses = 0

    def answer(
        self, prompt: list[int], max_tokens: int, pick: Callable[[Logits], int], ends: frozenset[int], exact: bool
    ) -> Generator[Event, None, None]:
        """The events of one answer: Ahead while it waits, Read, then a Token each, the last of `ends` or the `max_tokens`th.

        `pick` chooses a token by the logits of one position, which it may change. `exact`: the logits must be those of a
        fresh reading to the last bit, so that the same question has the same answer; earlier answers in the prompt are then
        read once more. Closing the iterator ends the computing; what was computed stays for the next prompt that begins alike.
        """
        run = _Run(prompt, max_tokens, pick, ends, exact)
        with self._changed:
            self._waiting.append(run)
            self._line_moved = True
        try:
            while (event := self._next(run)) is not None:
                yield event
        finally:
            with self._changed:
                run.left = True
                if not self._leading:
                    self._clear()
                self._changed.notify_all()

    def warm(self) -> None:
        """Make a slot, and run the engine once in it, before anybody asks: the first question then waits for neither."""
        slot = self._new(self._length(1), long=False)
        slot.generator.append_tokens([0])
        slot.generator.rewind_to(0)

    def prepare(self) -> None:
        """Make the slot that the next new chat will take, if the budget has room for one and nobody waits for anything.

        Memory for thousands of tokens takes tenths of a second to get, in which nothing else runs.
        """
        length = self._length(1)
        with self._changed:
            if self._leading or self._running or self._waiting or not self._fits(length):
                return
            if any(not slot.tokens and slot.length >= length for slot in self._slots):
                return
            self._leading = True
        try:
            self._new(length, long=False)
        finally:
            with self._changed:
                self._leading = False
                self._changed.notify_all()

    def use(self) -> CacheUse:
        with self._changed:
            used = sum(slot.length for slot in self._slots) * self._token_bytes
            filled = sum(bool(slot.tokens) for slot in self._slots)
            return CacheUse(self._budget, used, filled, self._hits, self._misses)

    def _next(self, run: _Run) -> Event | None:
        """The run's next event; leads rounds until there is one, unless somebody else does."""
        while True:
            with self._changed:
                while not self._may_lead(run):
                    if run.inbox:
                        event = run.inbox.popleft()
                        if isinstance(event, Exception):
                            raise event
                        return event
                    if run.finished:
                        return None
                    if run in self._waiting and run.told != (ahead := len(self._running) + self._waiting.index(run)):
                        run.told = ahead
                        return Ahead(ahead)
                    self._changed.wait()
                self._leading = True
            try:
                self._round()
            finally:
                with self._changed:
                    self._leading = False
                    self._clear()
                    self._changed.notify_all()

    def _may_lead(self, run: _Run) -> bool:
        if self._leading or run.inbox or run.finished:
            return False
        return run.slot is not None or self._line_moved

    def _clear(self) -> None:
        """Free the slots of the answers that were left."""
        for run in [run for run in (*self._waiting, *self._running) if run.left]:
            (self._waiting if run in self._waiting else self._running).remove(run)
            self._line_moved = True

    def _round(self) -> None:
        """A step for each answer: a token for those that write, a piece of its prompt for the one with the least to read."""
        with self._changed:
            self._line_moved = False
            running, waiting = list(self._running), list(self._waiting)
        for run in waiting:
            if run.left or not self._try(run, self._admit):
                break  # nobody overtakes
            running.append(run)
        writing = [run for run in running if run.slot and not run.reading and not run.finished and not run.left]
        for run in writing:
            if len(run.inbox) < _AHEAD:
                self._try(run, self._write)
        reading = [run for run in running if run.slot and run.reading and not run.finished and not run.left]
        if reading:
            run = min(reading, key=lambda run: len(run.prompt) - run.read)
            self._try(run, lambda run: self._read(run, SHARED_PIECE if writing else PIECE))

    def _try(self, run: _Run, step: Callable[[_Run], bool]) -> bool:
        """Do a step; if the engine fails, that is this answer's end alone, and its slot is not used again."""
        try:
            return step(run)
        except Exception as error:
            with self._changed:
                if run.slot in self._slots:
                    self._slots.remove(run.slot)
                run.slot, run.finished = None, True
                if run in self._waiting:
                    self._waiting.remove(run)
                run.inbox.append(error)
            return True

    def _admit(self, run: _Run) -> bool:
        """Give a slot to the first in line, if there is one to give."""
        long = self._turns and len(run.prompt) > SHORT_CONTEXT
        found = self._find(run, long)
        if found is None:
            return False
        slot, common = found
        if common < len(slot.tokens):
            slot.generator.rewind_to(common)
            del slot.tokens[common:]
            slot.exact = min(slot.exact, common)
        run.slot, run.read = slot, common
        self._touch(slot)
        with self._changed:
            self._hits, self._misses = self._hits + (common > 0), self._misses + (common == 0)
            self._waiting.remove(run)
            self._running.append(run)
            run.inbox.append(Read(common))
        return True

    def _find(self, run: _Run, long: bool) -> tuple[_Slot, int] | None:
        """A free slot and how many of the prompt's tokens it has; a new one where that is better; None: all are taken."""
        taken = {other.slot for other in self._running}
        free = [slot for slot in self._slots if slot not in taken]
        commons = {slot: _alike(slot.tokens, run.prompt) if slot.long == long else 0 for slot in free}
        best = max(free, key=lambda slot: commons[slot], default=None)
        # What parts from the prompt is lost to whoever may come back to it: not where that is far more than what is won.
        if best and 3 * commons[best] >= len(best.tokens) > 0 and commons[best]:
            if best.length >= run.length:
                return best, self._usable(best, run, commons[best])
            self._drop(best)  # its conversation goes on in a longer one
            free.remove(best)
        length = self._length(run.length)
        # What is there already is taken, empty before full: see prepare.
        for slot in sorted(free, key=lambda slot: (len(slot.tokens) > 0, slot.last_used)):
            if slot.length >= run.length and (not slot.tokens or not self._fits(length)):
                slot.long = long
                return slot, 0
            if self._fits(length):
                break
            self._drop(slot)
        if not self._fits(length):
            length = min(self._context_length, run.length)
            if not self._fits(length) and self._slots:
                return None
        return self._new(length, long), 0

    @staticmethod
    def _usable(slot: _Slot, run: _Run, common: int) -> int:
        """How many of the `common` tokens need not be read; two are left to be, since one alone is computed otherwise."""
        usable = min(common, max(0, len(run.prompt) - 2))
        if run.exact:
            usable = min(usable, slot.exact)
            if slot.long and usable <= SHORT_CONTEXT:
                usable = 0  # its first piece is one, and no part of one
        return usable

    def _new(self, length: int, long: bool) -> _Slot:
        params = og.GeneratorParams(self._model)
        # What comes next is picked here: the engine's own search would draw by one setting and seed for all its life.
        params.set_search_options(max_length=length, do_sample=False)
        slot = _Slot(og.Generator(self._model, params), length, long)
        self._slots.append(slot)
        return slot

    def _length(self, needed: int) -> int:
        """How many tokens a new slot should hold: a share of the budget, so that the chat can go on in it."""
        share = self._budget // self._token_bytes // _SHARES
        steps = -(-needed // _LENGTH_STEP) * _LENGTH_STEP
        return min(self._context_length, max(steps, share))

    def _fits(self, length: int) -> bool:
        return (sum(slot.length for slot in self._slots) + length) * self._token_bytes <= self._budget

    def _drop(self, slot: _Slot) -> None:
        with self._changed:
            self._slots.remove(slot)

    def _touch(self, slot: _Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock

    def _read(self, run: _Run, piece: int) -> bool:
        assert run.slot is not None
        end = min(len(run.prompt), max(run.read + piece, SHORT_CONTEXT + 1 if run.slot.long else 0))
        if end == len(run.prompt) - 1:
            end += 1  # see _usable
        self._compute(run.slot, run.prompt[run.read : end])
        if run.slot.exact == run.read:
            run.slot.exact = end
        run.read = end
        run.inbox.append(Read(end))
        return True

    def _write(self, run: _Run) -> bool:
        assert run.slot is not None
        if run.pending is not None:
            self._compute(run.slot, [run.pending])
        run.pending = run.pick(np.array(run.slot.generator.get_logits(), dtype=np.float32).reshape(-1))
        run.written += 1
        run.finished = run.pending in run.ends or run.written == run.max_tokens
        self._touch(run.slot)
        run.inbox.append(Token(run.pending))
        return True

    @staticmethod
    def _compute(slot: _Slot, tokens: list[int]) -> None:
        slot.generator.append_tokens(tokens)
        slot.tokens += tokens


def _alike(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(at for at in range(shorter) if one[at] != other[at])


def memory_budget() -> int:
    """An eighth of this machine's memory, or of what its control group allows; 2 GiB where neither can be read."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limits.append(int(file.read()))
    except (AttributeError, OSError, ValueError):
        pass  # no such system, or no limit ("max")
    return (min(limits) if limits else 16 << 30) // 8
