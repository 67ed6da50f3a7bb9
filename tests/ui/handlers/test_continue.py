"""Continue: a cut-off answer continues in its turn, or by a question if the model's contract does not support a prefix."""

from dataclasses import replace

import pytest

from phi3_ui.contracts.registry import get_contract
from phi3_ui.store.registry.cards import ModelEntry
from tests.ui.handlers.doubles import ENTRY, App


@pytest.mark.parametrize("contract", ["chat", "prompt", "completions", "text", "chat_agent", "chat_model", "responses"])
def test_an_answer_is_continued(contract: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    app.send("Hi")

    def find(_: str | None) -> ModelEntry:
        return replace(ENTRY, contract=contract, can_continue=get_contract(contract).can_continue)

    monkeypatch.setattr(app.catalogue, "find", find)
    chat = app.session.current
    [turn] = chat.conversation.turns
    list(app.answers.continue_answer(app.session, turn.id, "m-1", {}))

    *_, last = chat.conversation.turns
    assert last.answer
    assert last.request
    if contract.startswith(("chat_", "responses")):
        assert (len(chat.conversation.turns), last.answer.text, last.request.continues) == (2, "Hello", True)
        return
    assert (len(chat.conversation.turns), last.question) == (1, "Hi")
    assert (last.request.prefix, last.answer.text) == ("Hello", "HelloHello")
    assert len(chat.conversation.variant_ids(last.id)) == 2, "the cut-off answer is kept"
