"""KV-cache slots: which conversation is in which row, within a memory budget.

A prompt gets the slot that shares the longest prefix with it, or a copy of the prefix where the engine can copy. It knows
token ids and the engine; no text, no MLflow.
"""

import threading
from dataclasses import dataclass

from .engine import SHORT_ROPE_LENGTH, Engine, Row
from .events import CacheStats

_LENGTH_STEP = 1024  # tokens; where rows reserve their memory, their lengths are multiples of it
_SLOT_SHARES = 4  # slots the memory budget is divided into there, where the context allows it
_MIN_COPY = 16  # tokens; fewer are prefilled about as fast as they are copied


@dataclass(eq=False)
class Slot:
    """A row, and what is known of the tokens in it."""

    row: Row
    exact_prefix_len: int = 0
    """The first tokens were prefilled in pieces from the start, which a fresh prefill reproduces bit for bit. Tokens decoded one
    at a time differ: quantised models compute one token with another kernel than two or more."""
    last_used: int = 0


@dataclass(frozen=True)
class Wanted:
    """What a request needs of a slot."""

    prompt: list[int]
    length: int
    """The tokens that prompt and answer may take."""
    is_reproducible: bool
    """The logits must be those of a fresh prefill, bit for bit."""
    uses_long_rope: bool


class Slots:
    """The slots of one engine, within a memory budget. Thread-safe for `release` and `stats`; one thread at a time for the rest.

    One request is always possible, whatever the budget.
    """

    def __init__(self, engine: Engine, budget: int) -> None:
        """`budget` is the memory for all slots, in bytes."""
        self._engine = engine
        self._budget = budget
        self._slots: list[Slot] = []
        self._lock = threading.Lock()  # of _slots and the counters, which `stats` reads
        self._clock = self._hits = self._misses = 0

    def acquire(self, prompt: list[int], length: int, is_reproducible: bool) -> tuple[Slot, int] | None:
        """A slot for a request, and how many tokens of its prompt are in it already; None while there is no memory.

        The slot is the request's until it is released or discarded.
        """
        uses_long_rope = self._engine.switches_rope and len(prompt) > SHORT_ROPE_LENGTH
        wanted = Wanted(prompt, length, is_reproducible, uses_long_rope)
        found = self._acquire_batched(wanted) if self._engine.is_batched else self._acquire_reserved(wanted)
        if found is None:
            return None
        slot, cached = found
        slot.row.reserved = length
        self.mark_used(slot)
        with self._lock:
            self._hits, self._misses = self._hits + (cached > 0), self._misses + (cached == 0)
        return slot, cached

    def release(self, slot: Slot) -> None:
        """Take a slot back. What is in it stays for the next prompt with the same prefix."""
        slot.row.reserved = 0

    def discard(self, slot: Slot) -> None:
        """Give up a slot, and its memory."""
        with self._lock:
            if slot not in self._slots:
                return
            self._slots.remove(slot)
        self._engine.free(slot.row)

    def mark_used(self, slot: Slot) -> None:
        """Note that a slot was used just now."""
        self._clock += 1
        slot.last_used = self._clock

    def warm_up(self) -> None:
        """Run the engine once, so that the first question waits for nothing. Rows that reserve memory are kept."""
        slot = self._create(self._row_length(1))
        if slot is None:
            raise MemoryError("The engine has no row.")
        self._engine.prefill(slot.row, [0, 0])
        if self._engine.is_batched:
            self.discard(slot)
        else:
            self._engine.rewind(slot.row, 0, uses_long_rope=False)

    def prepare(self) -> None:
        """Create the slot that the next new chat will take, if the budget has room for it.

        Where rows reserve their memory, that takes tenths of a second for thousands of tokens, in which nothing else runs.
        """
        length = self._row_length(1)
        if self._engine.is_batched or not self._fits(length):
            return
        if not any(not slot.row.tokens and slot.row.length >= length for slot in self._slots):
            self._create(length)

    def stats(self) -> CacheStats:
        """How full the KV cache is, and how often it was hit. Empty slots that reserve memory count as used."""
        with self._lock:
            used = sum(map(self._held, self._slots)) * self._engine.token_bytes
            filled = sum(bool(slot.row.tokens) for slot in self._slots)
            return CacheStats(self._budget, used, filled, self._hits, self._misses)

    def _acquire_reserved(self, wanted: Wanted) -> tuple[Slot, int] | None:
        """A free slot; a new one where that is better. Creating one is slow, so that existing ones come first."""
        free = [slot for slot in self._slots if not slot.row.reserved]
        best = self._continued(free, wanted)
        if best:
            if best.row.length >= wanted.length:
                cached = self._reusable_len(best, wanted)
                self.rewind(best, cached, wanted.uses_long_rope)
                return best, cached
            self.discard(best)  # the conversation continues in a longer slot
            free.remove(best)
        length = self._row_length(wanted.length)
        # Empty slots before full ones: see prepare.
        for slot in sorted(free, key=lambda slot: (len(slot.row.tokens) > 0, slot.last_used)):
            if slot.row.length >= wanted.length and (not slot.row.tokens or not self._fits(length)):
                self.rewind(slot, 0, wanted.uses_long_rope)
                return slot, 0
            if self._fits(length):
                break
            self.discard(slot)
        if not self._fits(length):
            length = min(self._engine.context_length, wanted.length)
            if not self._fits(length) and self._slots:
                return None
        created = self._create(length)
        if created:
            self.rewind(created, 0, wanted.uses_long_rope)
        return (created, 0) if created else None

    def _acquire_batched(self, wanted: Wanted) -> tuple[Slot, int] | None:
        """A slot to continue in, or an empty one; either may get a longer prefix from another slot, even one that is in use."""
        busy = sum(self._held(slot) for slot in self._slots if slot.row.reserved)
        if busy and (busy + wanted.length) * self._engine.token_bytes > self._budget:
            return None
        free = [slot for slot in self._slots if not slot.row.reserved]
        donor = max(self._slots, key=lambda slot: self._reusable_len(slot, wanted), default=None)
        slot = self._continued(free, wanted)
        if slot is None or slot.row.length < wanted.length or not self._make_room(wanted.length, slot):
            slot = self._begin(wanted.length, donor) or self._begin(wanted.length, None)
        if slot is None:
            return None
        cached = self._reusable_len(slot, wanted)
        copied = self._reusable_len(donor, wanted) if donor in self._slots and donor is not slot else 0
        if donor and copied >= cached + _MIN_COPY:
            self.rewind(slot, 0, wanted.uses_long_rope)
            self._engine.copy_prefix(donor.row, slot.row, copied)
            slot.exact_prefix_len = min(donor.exact_prefix_len, copied)
            return slot, copied
        self.rewind(slot, cached, wanted.uses_long_rope)
        return slot, cached

    def _continued(self, free: list[Slot], wanted: Wanted) -> Slot | None:
        """The slot with the conversation that this prompt continues."""
        commons = {slot: _common_prefix_len(slot, wanted) for slot in free}
        best = max(free, key=lambda slot: commons[slot], default=None)
        # Reuse drops the tokens past the common prefix: not worth it if they are many more than the prefix.
        return best if best and commons[best] and 3 * commons[best] >= len(best.row.tokens) else None

    def _begin(self, length: int, donor: Slot | None) -> Slot | None:
        """An empty slot; the least recently used are given up for it, but not the donor."""
        idle = [slot for slot in self._slots if not slot.row.reserved and slot is not donor]
        for slot in (None, *sorted(idle, key=lambda slot: slot.last_used)):
            if slot:
                self.discard(slot)
            if (self._fits(length) or not self._slots) and (created := self._create(length)):
                return created
        return None

    def _make_room(self, length: int, slot: Slot) -> bool:
        """Give up other slots, the least recently used first, until this one may take `length` tokens."""
        idle = [other for other in self._slots if not other.row.reserved and other is not slot]
        for other in (None, *sorted(idle, key=lambda other: other.last_used)):
            if other:
                self.discard(other)
            if self._fits(length - self._held(slot)):
                return True
        return self._slots == [slot]

    def _reusable_len(self, slot: Slot, wanted: Wanted) -> int:
        """How many of the prompt's tokens need no prefill. Two are left for it, since one alone takes another kernel."""
        usable = min(_common_prefix_len(slot, wanted), max(0, len(wanted.prompt) - 2))
        if wanted.is_reproducible:
            usable = min(usable, slot.exact_prefix_len)
            if wanted.uses_long_rope and usable <= SHORT_ROPE_LENGTH and not self._engine.is_batched:
                usable = 0  # the first piece is computed as one
        return usable

    def rewind(self, slot: Slot, length: int, uses_long_rope: bool) -> None:
        """Keep the first `length` tokens of a slot."""
        self._engine.rewind(slot.row, length, uses_long_rope)
        slot.exact_prefix_len = min(slot.exact_prefix_len, length)

    def _create(self, length: int) -> Slot | None:
        row = self._engine.allocate(length)
        if row is None:
            return None
        slot = Slot(row)
        with self._lock:
            self._slots.append(slot)
        return slot

    def _row_length(self, needed: int) -> int:
        """How many tokens a new row should hold: where it reserves memory, a share of the budget, to continue the chat in it."""
        if self._engine.is_batched:
            return needed
        share = self._budget // self._engine.token_bytes // _SLOT_SHARES
        steps = -(-needed // _LENGTH_STEP) * _LENGTH_STEP
        return min(self._engine.context_length, max(steps, share))

    def _held(self, slot: Slot) -> int:
        """How many tokens' memory a slot takes, or may take."""
        return max(slot.row.reserved, len(slot.row.tokens)) if self._engine.is_batched else slot.row.length

    def _fits(self, length: int) -> bool:
        """Whether the budget has room for so many more tokens."""
        return (sum(map(self._held, self._slots)) + length) * self._engine.token_bytes <= self._budget


def _common_prefix_len(slot: Slot, wanted: Wanted) -> int:
    """How many tokens the slot's and the prompt's begin with alike; 0 where their RoPE factors differ."""
    if slot.row.uses_long_rope != wanted.uses_long_rope:
        return 0
    one, other = slot.row.tokens, wanted.prompt
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(at for at in range(shorter) if one[at] != other[at])
