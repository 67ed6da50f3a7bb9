"""The events of an answer while it is computed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QueuePosition:
    """The request waits for memory; `ahead` requests precede it."""

    ahead: int


@dataclass(frozen=True)
class PrefillProgress:
    """`count` tokens of the prompt are in the KV cache; in the first such event, they were served from the cache."""

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
    """Number of slots that hold a conversation."""
    hits: int
    """Number of prompts that reused cached tokens."""
    misses: int
    """Number of prompts that reused none."""
