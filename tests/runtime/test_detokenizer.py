"""Incremental detokenisation with a byte-fallback tokenizer like Phi-3's."""

from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import WordLevel

from models import phi3_onnx_engine
from phi3_ui.runtime.detokenizer import Detokenizer


class Stream(Protocol):
    def push(self, token: int) -> str: ...
    def flush(self) -> str: ...


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))


def pieces_of(
    kind: type[Detokenizer] | type[phi3_onnx_engine.TextStream], tokenizer: Tokenizer, ids: list[int]
) -> list[str]:
    stream: Stream = kind(tokenizer)
    return [*(stream.push(token) for token in ids), stream.flush()]


KINDS = pytest.mark.parametrize("kind", [Detokenizer, phi3_onnx_engine.TextStream], ids=["app", "wrapper"])
_text = st.text() | st.text("a é€😀 \n\t<|end|>", max_size=40)
_ids = st.lists(st.integers(0, 600) | st.sampled_from([0xC3 + 3, 0xA9 + 3, 0xF0 + 3, 0x41 + 3]), max_size=40)


@KINDS
@given(text=_text)
def test_the_pieces_together_equal_the_text(kind: type[Detokenizer], tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert "".join(pieces_of(kind, tokenizer, ids)) == tokenizer.decode(ids)


@KINDS
def test_a_character_is_emitted_with_its_last_byte(kind: type[Detokenizer], tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("x€😀", add_special_tokens=False).ids
    assert pieces_of(kind, tokenizer, ids)[-8:] == ["", "", "€", "", "", "", "😀", ""]


@KINDS
@given(ids=_ids)
def test_any_ids_can_be_decoded(kind: type[Detokenizer], tokenizer: Tokenizer, ids: list[int]) -> None:
    text, whole = "".join(pieces_of(kind, tokenizer, ids)), tokenizer.decode(ids)
    assert text.isascii() == whole.isascii()
    assert text == whole or "\ufffd" in whole


@KINDS
def test_a_lone_byte_does_not_damage_the_character_before_it(kind: type[Detokenizer], tokenizer: Tokenizer) -> None:
    ids = [byte + 3 for byte in ("é".encode() + b"\xa9!")]
    assert tokenizer.decode(ids) == 4 * "\ufffd"
    assert "".join(pieces_of(kind, tokenizer, ids)).startswith("é\ufffd")


@KINDS
def test_a_text_that_is_continued_keeps_the_space_of_its_first_word(
    kind: type[Detokenizer] | type[phi3_onnx_engine.TextStream],
) -> None:
    words = Tokenizer(WordLevel({"▁Hello": 0, "▁world": 1}))
    words.decoder = Metaspace()
    stream = kind(words)
    stream.start_after(0)
    assert stream.push(1) == " world"
