"""The tokens of files that were sent: counted once, by the model that was asked."""

from collections.abc import Sequence
from typing import cast

from phi3_ui.chat.conversation import Conversation, TurnRequest
from phi3_ui.chat.types import Message
from phi3_ui.host.pool import Pool
from phi3_ui.ui.handlers.file_tokens import FileTokens

_QUESTION = "File: a.md\n```md\none two\n```\n\nFile: b.md\n```md\nthree\n```\n\nWhat is it?"


class Model:
    """Counts words and three tokens of every prompt, unless it is busy."""

    def __init__(self) -> None:
        self.calls, self.is_busy = 0, True

    def count_tokens(self, prompts: Sequence[Sequence[Message]], template: str | None) -> tuple[int, ...] | None:
        self.calls += 1
        return None if self.is_busy else tuple(len(one[0].content.split()) + 3 for one in prompts)

    def peek(self, model_id: str) -> "Model | None":
        return self if model_id == "m-1" else None


def test_files_are_counted_once_when_their_model_is_free() -> None:
    model = Model()
    tokens = FileTokens(cast(Pool, model))
    (turn,) = Conversation().with_question(_QUESTION, TurnRequest(1.0, "m-1")).turns
    assert tokens.count(turn) is None
    model.is_busy = False
    assert [tokens.count(turn) for _ in range(2)] == [[6, 5]] * 2
    assert model.calls == 2
    for other in (
        Conversation().with_question("Hi", TurnRequest(1.0, "m-1")),
        Conversation().with_question(_QUESTION, TurnRequest(1.0, "gone")),
        Conversation().with_question(_QUESTION),
    ):
        assert tokens.count(other.turns[0]) is None
