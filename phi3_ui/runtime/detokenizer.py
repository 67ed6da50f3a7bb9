"""Token ids → text, piece by piece."""

from typing import Any


class Detokenizer:
    """Text as soon as it is whole; a character's lone bytes come as U+FFFD.

    All pieces together are what decoding all ids at once gives, but where a lone byte follows a character that was
    written in bytes: decoded at once, that character is lost too. (tokenizers' own DecodeStream raises there.)
    The ONNX wrapper has a copy of its own, because its file must stand alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # those of the last piece, by which the next one's spaces are told, and what is held
        self._given = 0

    def push(self, token: int) -> str:
        self._ids.append(token)
        piece = self.flush()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._given :]
        self._given = len(self._ids)
        return piece

    def flush(self) -> str:
        """What is still held: half a character, which nothing will complete now."""
        before, text = self._tokenizer.decode(self._ids[: self._given]), self._tokenizer.decode(self._ids)
        # A byte that belongs to no character takes its neighbours along when they are decoded together.
        return str(text[len(before) :] if text.startswith(before) else self._tokenizer.decode(self._ids[self._given :]))
