"""A recorder whose writer the test can block, and long chats."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from phi3_ui.chat.conversation import Conversation, TurnRequest
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import Step, TurnRecord
from phi3_ui.store.conversations.recorder import JOURNAL_LIMIT, Recorder
from phi3_ui.store.conversations.trace_writer import TraceWriter
from phi3_ui.store.conversations.turn_writer import ConversationStore
from tests.store.conversations.chats import ME, make_answer
from tests.store.conversations.recording import TIMEOUT


def make_long(turns: int, size: int = 500) -> Conversation:
    conversation, tree, parent = Conversation(), [], None
    for number in range(turns):
        turn = Conversation().with_question(f"{number} " + "q" * size, TurnRequest(1000.0 + number, "", "Be brief."))
        [answered] = turn.with_answer(make_answer("a" * size)).tree
        tree.append(type(answered)(answered.question, answered.answer, answered.id, parent, answered.request))
        parent = answered.id
    return Conversation((*conversation.tree, *tree), parent)


def wait_for(event: threading.Event) -> None:
    assert event.wait(TIMEOUT)


class Writer:
    """Accepts the recorder's writes while the test allows it."""

    def __init__(self) -> None:
        self.written: list[Step] = []
        self.on_write: Callable[[Step], None] = lambda _: None

    def write(self, operation: Step) -> None:
        self.on_write(operation)
        self.written.append(operation)

    def find_obstacle(self) -> UserError | None:
        return None

    def list_turns(self, visitor_id: str = ME) -> list[str]:
        return [step.turn.id for step in self.written if isinstance(step, TurnRecord) and step.visitor_id == visitor_id]


def replace_writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Make every recorder write to a Writer."""
    writer = Writer()
    for name in ("write", "find_obstacle"):
        monkeypatch.setattr(TraceWriter, name, lambda _, *arguments, name=name: getattr(writer, name)(*arguments))
    return writer


def open_store(folder: Path, limit: int = JOURNAL_LIMIT) -> ConversationStore:
    def locate() -> ChatLocation:
        raise UserError("store_unreachable", uri="none", detail="not needed")

    recorder = Recorder(locate, folder / "journal", limit)
    return ConversationStore(recorder, History(locate, recorder), "0")
