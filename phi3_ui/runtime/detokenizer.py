"""Incremental detokenisation: turns token ids into text."""

from typing import Any


class Detokenizer:
    """Returns text as soon as it is complete; bytes that belong to no character become U+FFFD.

    The concatenated pieces equal the text of all ids decoded together, except where a lone byte follows a character that was
    encoded as bytes: decoded together, that character is lost too. (The tokenizers library's own DecodeStream raises there.)
    The ONNX wrapper has its own copy, because its file must be self-contained.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a tokenizers.Tokenizer."""
        self._tokenizer = tokenizer
        # The ids of the last piece, which decide whether the next one begins with a space, followed by those held back.
        self._ids: list[int] = []
        self._emitted = 0

    def start_after(self, token: int) -> None:
        """Continue a text whose last token this is."""
        self._ids, self._emitted = [token], 1

    def push(self, token: int) -> str:
        """Return the text that `token` completes; empty while a character is incomplete."""
        self._ids.append(token)
        piece = self.flush()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._emitted :]
        self._emitted = len(self._ids)
        return piece

    def flush(self) -> str:
        """Return the text still held back: an incomplete character, when no more tokens follow."""
        before, text = self._tokenizer.decode(self._ids[: self._emitted]), self._tokenizer.decode(self._ids)
        if text.startswith(before):
            return str(text[len(before) :])
        # A byte that belongs to no character corrupts its neighbours when they are decoded together.
        return str(self._tokenizer.decode(self._ids[self._emitted :]))
