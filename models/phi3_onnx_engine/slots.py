"""KV-cache slots: assign conversations to rows, within a memory budget.

A prompt gets the slot that shares the longest prefix with it or, if the engine can copy, a copy of that prefix. This module deals
with token ids and the engine only, not with text or MLflow.
"""

import threading
from dataclasses import dataclass

from .engine import SHORT_ROPE_LENGTH, Engine, Row
from .events import CacheStats

_LENGTH_STEP = 1024  # tokens; if rows reserve their memory, their lengths are multiples of this
_SLOT_SHARES = 4  # number of slots that the memory budget is then divided into, if the context length allows it
_MIN_COPY = 16  # tokens; prefilling fewer is about as fast as copying them


@dataclass(eq=False)
class Slot:
    """A row with information about its tokens."""

    row: Row
    exact_prefix_len: int = 0
    """Number of leading tokens that were prefilled in chunks from the start, which a fresh prefill reproduces bit for bit. Tokens
    decoded one at a time differ: quantised models use another kernel for one token than for two or more."""
    last_used: int = 0


@dataclass(frozen=True)
class SlotRequirements:
    """The requirements of a request for its slot."""

    prompt: list[int]
    length: int
    """Maximum number of tokens of prompt and answer together."""
    is_reproducible: bool
    """Whether the logits must equal those of a fresh prefill, bit for bit."""
    uses_long_rope: bool


class Slots:
    """The slots of one engine, within a memory budget. `release` and `stats` are thread-safe; the rest needs one thread at a time.

    A single request is always possible, whatever the budget.
    """

    def __init__(self, engine: Engine, budget: int) -> None:
        """Create no slot yet; `budget` is the memory for all slots, in bytes."""
        self._engine = engine
        self._budget = budget
        self._slots: list[Slot] = []
        self._lock = threading.Lock()  # protects _slots and the counters, which `stats` reads
        self._clock = self._hits = self._misses = 0

    def acquire(self, prompt: list[int], length: int, is_reproducible: bool) -> tuple[Slot, int] | None:
        """Return a slot for a request, and the number of prompt tokens cached in it; None while there is no memory.

        The slot belongs to the request until it is released or discarded.
        """
        uses_long_rope = self._engine.switches_rope and len(prompt) > SHORT_ROPE_LENGTH
        wanted = SlotRequirements(prompt, length, is_reproducible, uses_long_rope)
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
        """Release a slot. Its content is kept for the next prompt with the same prefix."""
        slot.row.reserved = 0

    def discard(self, slot: Slot) -> None:
        """Remove a slot, and free its memory."""
        with self._lock:
            if slot not in self._slots:
                return
            self._slots.remove(slot)
        self._engine.free(slot.row)

    def mark_used(self, slot: Slot) -> None:
        """Mark a slot as the most recently used one."""
        self._clock += 1
        slot.last_used = self._clock

    def warm_up(self) -> None:
        """Run the engine once, so that the first question is not delayed. A row that reserves its memory is kept."""
        slot = self._create(self._choose_row_length(1))
        if slot is None:
            raise MemoryError("The engine has no row.")
        self._engine.prefill(slot.row, [0, 0])
        if self._engine.is_batched:
            self.discard(slot)
        else:
            self._engine.rewind(slot.row, 0, uses_long_rope=False)

    def prepare(self) -> None:
        """Create the slot for the next new chat, if the budget has room for it and rows reserve their memory.

        Reserving takes tenths of a second for thousands of tokens, during which nothing else runs.
        """
        length = self._choose_row_length(1)
        if self._engine.is_batched or not self._fits(length):
            return
        if not any(not slot.row.tokens and slot.row.length >= length for slot in self._slots):
            self._create(length)

    def stats(self) -> CacheStats:
        """Return usage and hits of the KV cache. Empty slots that reserve memory count as used."""
        with self._lock:
            used = sum(map(self._count_held, self._slots)) * self._engine.token_bytes
            filled = sum(bool(slot.row.tokens) for slot in self._slots)
            return CacheStats(self._budget, used, filled, self._hits, self._misses)

    def _acquire_reserved(self, wanted: SlotRequirements) -> tuple[Slot, int] | None:
        """Acquire a free slot, or a new one if that is better. Existing slots are preferred, because creating one is slow."""
        free = [slot for slot in self._slots if not slot.row.reserved]
        best = self._find_continued(free, wanted)
        if best:
            if best.row.length >= wanted.length:
                cached = self._count_reusable(best, wanted)
                self.rewind(best, cached, wanted.uses_long_rope)
                return best, cached
            self.discard(best)  # the conversation continues in a longer slot
            free.remove(best)
        length = self._choose_row_length(wanted.length)
        # Prefer empty slots to full ones, see `prepare`.
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

    def _acquire_batched(self, wanted: SlotRequirements) -> tuple[Slot, int] | None:
        """Acquire the slot to continue in, or an empty one; either may get a longer prefix from another slot, even a busy one."""
        busy = sum(self._count_held(slot) for slot in self._slots if slot.row.reserved)
        if busy and (busy + wanted.length) * self._engine.token_bytes > self._budget:
            return None
        free = [slot for slot in self._slots if not slot.row.reserved]
        donor = max(self._slots, key=lambda slot: self._count_reusable(slot, wanted), default=None)
        slot = self._find_continued(free, wanted)
        if slot is None or slot.row.length < wanted.length or not self._make_room(wanted.length, slot):
            slot = self._create_empty(wanted.length, donor) or self._create_empty(wanted.length, None)
        if slot is None:
            return None
        cached = self._count_reusable(slot, wanted)
        copied = self._count_reusable(donor, wanted) if donor in self._slots and donor is not slot else 0
        if donor and copied >= cached + _MIN_COPY:
            self.rewind(slot, 0, wanted.uses_long_rope)
            self._engine.copy_prefix(donor.row, slot.row, copied)
            slot.exact_prefix_len = min(donor.exact_prefix_len, copied)
            return slot, copied
        self.rewind(slot, cached, wanted.uses_long_rope)
        return slot, cached

    def _find_continued(self, free: list[Slot], wanted: SlotRequirements) -> Slot | None:
        """Return the slot with the conversation that this prompt continues, if any."""
        commons = {slot: _count_common_prefix(slot, wanted) for slot in free}
        best = max(free, key=lambda slot: commons[slot], default=None)
        # Reuse drops the tokens after the common prefix, which does not pay off if they far outnumber the prefix.
        return best if best and commons[best] and 3 * commons[best] >= len(best.row.tokens) else None

    def _create_empty(self, length: int, donor: Slot | None) -> Slot | None:
        """Create an empty slot, evicting the least recently used idle slots, but not the donor, if necessary."""
        idle = [slot for slot in self._slots if not slot.row.reserved and slot is not donor]
        for slot in (None, *sorted(idle, key=lambda slot: slot.last_used)):
            if slot:
                self.discard(slot)
            if (self._fits(length) or not self._slots) and (created := self._create(length)):
                return created
        return None

    def _make_room(self, length: int, slot: Slot) -> bool:
        """Evict other idle slots, least recently used first, until this one may take `length` tokens."""
        idle = [other for other in self._slots if not other.row.reserved and other is not slot]
        for other in (None, *sorted(idle, key=lambda other: other.last_used)):
            if other:
                self.discard(other)
            if self._fits(length - self._count_held(slot)):
                return True
        return self._slots == [slot]

    def _count_reusable(self, slot: Slot, wanted: SlotRequirements) -> int:
        """Count the prompt tokens that need no prefill. Two are left for it, since a single token uses another kernel."""
        usable = min(_count_common_prefix(slot, wanted), max(0, len(wanted.prompt) - 2))
        if wanted.is_reproducible:
            usable = min(usable, slot.exact_prefix_len)
            if wanted.uses_long_rope and usable <= SHORT_ROPE_LENGTH and not self._engine.is_batched:
                usable = 0  # the first chunk, which reaches past the switch, is computed as a whole
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

    def _choose_row_length(self, needed: int) -> int:
        """Return the length of a new row: if rows reserve memory, a share of the budget, so that the chat can continue in it."""
        if self._engine.is_batched:
            return needed
        share = self._budget // self._engine.token_bytes // _SLOT_SHARES
        steps = -(-needed // _LENGTH_STEP) * _LENGTH_STEP
        return min(self._engine.context_length, max(steps, share))

    def _count_held(self, slot: Slot) -> int:
        """Return the number of tokens for which a slot uses memory, or may use it."""
        return max(slot.row.reserved, len(slot.row.tokens)) if self._engine.is_batched else slot.row.length

    def _fits(self, length: int) -> bool:
        """Whether the budget has room for `length` more tokens."""
        return (sum(map(self._count_held, self._slots)) + length) * self._engine.token_bytes <= self._budget


def _count_common_prefix(slot: Slot, wanted: SlotRequirements) -> int:
    """Return the length of the common prefix of slot and prompt, in tokens; 0 if their RoPE factors differ."""
    if slot.row.uses_long_rope != wanted.uses_long_rope:
        return 0
    one, other = slot.row.tokens, wanted.prompt
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(at for at in range(shorter) if one[at] != other[at])
