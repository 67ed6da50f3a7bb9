"""The tokens of sent files: counted once, by the model that was asked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from phi3_ui.chat.conversation import Conversation, TurnRequest, split_files
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.sources.model_source import ModelSource
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.file_tokens import FileTokens
from tests.ui.handlers.doubles import ENTRY

_QUESTION = "File: a.md\n```md\none two\n```\n\nFile: b.md\n```md\nthree\n```\n\nWhat is it?"


class Models:
    """Counts words plus three tokens per prompt, unless the model is busy; one model is missing from the store."""

    def __init__(self) -> None:
        self.calls, self.is_busy = 0, True

    def list_ready(self) -> list[str]:
        return ["m-1", "gone"]

    def find(self, name: str) -> ModelEntry:
        if name == "gone":
            raise UserError("model_gone")
        return replace(ENTRY, model_id=name)

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        assert entry.model_id == "m-1"
        self.calls += 1
        return None if self.is_busy else tuple(len(prompt[0].content.split()) + 3 for prompt in prompts)


def test_files_are_counted_once_when_their_model_is_free() -> None:
    models = Models()
    tokens = FileTokens(cast(ModelSource, models))
    (turn,) = Conversation().with_question(_QUESTION, TurnRequest(1.0, "m-1")).turns
    assert tokens.count(turn) is None
    models.is_busy = False
    assert [tokens.count(turn) for _ in range(2)] == [[6, 5]] * 2
    assert models.calls == 2
    tokens.note("m-2", None, [block for _, block in split_files(_QUESTION)[0]], [7, 0])  # as counted in the composer
    assert tokens.count(Conversation().with_question(_QUESTION, TurnRequest(1.0, "m-2")).turns[0]) == [7, 0]
    for other in (
        Conversation().with_question("Hi", TurnRequest(1.0, "m-1")),
        Conversation().with_question(_QUESTION, TurnRequest(1.0, "gone")),
        Conversation().with_question(_QUESTION, TurnRequest(1.0, "unloaded")),
        Conversation().with_question(_QUESTION),
    ):
        assert tokens.count(other.turns[0]) is None
