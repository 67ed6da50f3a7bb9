"""The interface of an engine: rows of a KV cache, in which prompts are prefilled and answers decoded."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
"""(vocabulary,)"""

EngineName = Literal["genai", "batched"]

# LongRoPE models switch scaling factors past this many tokens, which invalidates keys and values cached before the switch.
SHORT_ROPE_LENGTH = 4096


@dataclass(eq=False)
class Row:
    """One sequence in the KV cache. Only its engine changes it, apart from `reserved`."""

    length: int
    """Capacity in tokens."""
    tokens: list[int] = field(default_factory=list)
    """The tokens whose keys and values are cached."""
    reserved: int = 0
    """Maximum number of tokens of the request in this row; 0 if there is none. Set by the slots, read by the engine."""
    uses_long_rope: bool = False
    """Whether the positions use LongRoPE's long factors (see SHORT_ROPE_LENGTH)."""


class Engine(Protocol):
    """Computes tokens in rows. Not thread-safe, except for `interrupt`. Errors leave the rows unchanged."""

    name: EngineName
    context_length: int
    """Maximum number of tokens of a prompt and its answer together."""
    token_bytes: int
    """Memory of one token's keys and values, in bytes."""
    switches_rope: bool
    """Whether the model switches its LongRoPE factors past SHORT_ROPE_LENGTH tokens."""

    is_batched: bool
    """Whether rows advance together in one step, choose their own RoPE factors, take memory as they fill, and can be copied.
    Otherwise `step` computes one row, and a row takes the memory of its full length when it is allocated."""
    shared_chunk: int
    """Maximum number of prompt tokens to prefill at a time while other rows decode."""
    segments: int
    """Number of segments in which tokens are computed; between the segments of a prefill, other rows can be stepped."""

    def allocate(self, length: int) -> Row | None:
        """Return an empty row for `length` tokens or more; None if all rows are in use."""
        ...

    def prefill(self, row: Row, tokens: Sequence[int], wants_logits: bool = True) -> Logits:
        """Compute the next tokens of a prompt; return the logits after the last one, whose computation takes extra time.

        If `wants_logits` is false, the return value must not be read.
        """
        ...

    def prefill_by_segment(
        self, row: Row, tokens: Sequence[int], wants_logits: bool = True
    ) -> Generator[None, None, Logits]:
        """Compute like `prefill`, but suspend between segments. The row has the tokens only after the last segment.

        While suspended, other rows may be computed and allocated. An unfinished computation ends when its row is rewound or freed.
        """
        ...

    def step(self, rows: Sequence[Row], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        """Compute one more token in each row; return the logits after each token.

        With `exact`, the logits do not depend, bit for bit, on which rows share the step.
        """
        ...

    def rewind(self, row: Row, length: int, uses_long_rope: bool) -> None:
        """Keep the first `length` tokens, and clear an interrupt. Rows that change their RoPE factors keep no tokens."""
        ...

    def copy_prefix(self, source: Row, target: Row, length: int) -> None:
        """Copy the first `length` tokens of a row to an empty one."""
        ...

    def interrupt(self, row: Row) -> None:
        """Make prefills in this row raise, until it is rewound. Thread-safe. Not every engine supports this."""
        ...

    def free(self, row: Row) -> None:
        """Free the row, and return its memory to the system."""
        ...
