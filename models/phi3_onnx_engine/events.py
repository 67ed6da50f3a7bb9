"""What happens to an answer while it is computed."""

from dataclasses import dataclass


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
    slots: int
    """Slots that hold a conversation."""
    hits: int
    """Prompts that reused cached tokens."""
    misses: int
    """Prompts that reused none."""
