"""The interface of an engine: rows of KV cache, in which prompts are prefilled and answers decoded."""

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
    """One sequence in the KV cache. Its engine changes it; others read it."""

    length: int
    """How many tokens fit."""
    tokens: list[int] = field(default_factory=list)
    """Those whose keys and values are cached."""
    reserved: int = 0
    """The tokens that the request in it may take; 0: no request has it. The slots set it, the engine reads it."""
    uses_long_rope: bool = False
    """The positions have LongRoPE's long factors (see SHORT_ROPE_LENGTH)."""


class Engine(Protocol):
    """Computes tokens in rows. Not thread-safe, but for `interrupt`. Its errors leave the rows as they were."""

    name: EngineName
    context_length: int
    """Tokens that a prompt and its answer may have together."""
    token_bytes: int
    """Memory of one token's keys and values."""
    switches_rope: bool
    """The model switches its LongRoPE factors past SHORT_ROPE_LENGTH tokens."""

    is_batched: bool
    """Rows are advanced together in one step, choose their RoPE factors, take memory as they fill, and can be copied.
    Otherwise `step` takes one row, and a row takes the memory of its whole length when it is allocated."""
    shared_piece: int
    """The most prompt tokens to prefill at a time while other rows decode."""
    segments: int
    """In how many segments tokens are computed; between those of a prefill, other rows can be stepped."""

    def allocate(self, length: int) -> Row | None:
        """Return an empty row for `length` tokens or more; None if all rows are taken."""
        ...

    def prefill(self, row: Row, tokens: Sequence[int], wants_logits: bool = True) -> Logits:
        """Compute the next tokens of a prompt; return the logits after the last one, which cost time of their own.

        What is returned if they are not wanted must not be read.
        """
        ...

    def prefill_by_segment(
        self, row: Row, tokens: Sequence[int], wants_logits: bool = True
    ) -> Generator[None, None, Logits]:
        """Compute as `prefill` does; suspended between segments. The row has the tokens at the end.

        Meanwhile other rows may be computed, and others allocated. One that is given up ends with a rewind or the row's end.
        """
        ...

    def step(self, rows: Sequence[Row], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        """Compute one more token in each row; return the logits after each.

        With `exact` they do not depend, bit for bit, on which rows share the step.
        """
        ...

    def rewind(self, row: Row, length: int, uses_long_rope: bool) -> None:
        """Keep the first `length` tokens, and forget an interrupt. Rows that change their RoPE factors keep none."""
        ...

    def copy_prefix(self, source: Row, target: Row, length: int) -> None:
        """Give an empty row the first `length` tokens of another."""
        ...

    def interrupt(self, row: Row) -> None:
        """Make a prefill in this row raise, now and until it is rewound. Thread-safe; not every engine can."""
        ...

    def free(self, row: Row) -> None:
        """Take the row back, and give its memory back to the system."""
        ...
