"""Incremental detokenisation: token ids to text."""

from typing import Any


class Detokenizer:
    """Returns text as soon as it is complete; bytes that belong to no character become U+FFFD.

    All pieces together equal the text of all ids decoded at once, except where a lone byte follows a character that was
    encoded as bytes: decoded at once, that character is lost too. (The tokenizers library's own DecodeStream raises there.)
    The ONNX wrapper has its own copy, because its file must stand alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a tokenizers.Tokenizer."""
        self._tokenizer = tokenizer
        # The ids of the last piece, which decide whether the next one begins with a space, then those held back.
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
        # A byte that belongs to no character damages its neighbours when they are decoded together.
        return str(self._tokenizer.decode(self._ids[self._emitted :]))
