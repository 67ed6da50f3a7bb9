"""Records the API's answers as chats, and recognises the chats that requests go on with.

A request brings the whole conversation, but no id of it.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from phi3_ui.accounts.quotas import Person
from phi3_ui.api.callers import Caller
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest, new_id
from phi3_ui.chat.types import Message
from phi3_ui.store.conversations.turn_writer import ConversationStore, TurnWriter

_MAX_THREADS = 2000


@dataclass(frozen=True)
class Question:
    """What to ask."""

    model: str
    """Any name of the model."""
    messages: tuple[Message, ...]
    """The last one is the question."""
    values: Mapping[str, Any]
    """Sampling parameters by name."""
    response_id: str
    raw_prompt: str | None = None
    """See ChatRequest."""
    records: bool = True
    """Whether the answer becomes a trace."""
    field: str = "messages"
    """Which field of the request holds the question."""


@dataclass(frozen=True)
class Thread:
    """A chat of the API."""

    id: str
    """Of the recorded conversation."""
    conversation: Conversation
    messages: tuple[Message, ...] = ()
    """Those that are in it, with the system prompt."""


class ChatThreads:
    """The chats that were answered lately. Kept in memory: after a restart, a conversation goes on as a new chat. Thread-safe."""

    def __init__(self, limit: int = _MAX_THREADS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._threads = OrderedDict[tuple[str, str], Thread]()

    def find(self, person: Person, messages: Iterable[Message]) -> Thread:
        """The person's chat that holds exactly these messages, or else a new one, which holds none."""
        return self._get(person, _digest(messages)) or Thread(new_id(), Conversation())

    def find_response(self, person: Person, response_id: str) -> Thread | None:
        """The person's chat as it was after a response."""
        return self._get(person, response_id)

    def keep(self, person: Person, thread: Thread, response_id: str) -> None:
        """Remember a chat after a response."""
        with self._lock:
            for key in (_digest(thread.messages), response_id):
                self._threads[person.user_id, key] = thread
                self._threads.move_to_end((person.user_id, key))
            while len(self._threads) > 2 * self._limit:
                self._threads.popitem(last=False)

    def _get(self, person: Person, key: str) -> Thread | None:
        with self._lock:
            if thread := self._threads.get((person.user_id, key)):
                self._threads.move_to_end((person.user_id, key))
            return thread


class ApiHistory:
    """The chats of the API. Thread-safe."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._threads = ChatThreads()

    def start_turn(self, caller: Caller, question: Question, label: str, request: TurnRequest) -> "RecordedTurn":
        """Record that a question was asked, in the chat that it goes on with. `request` is without the system prompt."""
        *before, asked = question.messages
        system = before[0].content if before and before[0].role == "system" else ""
        thread = self._threads.find(caller.person, before)
        if self._store.history.is_deleted(caller.user_id, thread.id):
            thread = Thread(new_id(), Conversation())
        conversation = thread.conversation.with_question(asked.content, replace(request, system=system))
        thread = Thread(thread.id, conversation, question.messages)
        writer = self._store.start_turn(caller.user_id, thread.id, conversation, label, question.messages)
        return RecordedTurn(self._threads, caller.person, question.response_id, thread, writer)

    def find_response(self, caller: Caller, response_id: str) -> Thread | None:
        """The caller's chat as it was after a response."""
        return self._threads.find_response(caller.person, response_id)


@dataclass(frozen=True)
class RecordedTurn:
    """One turn of a chat of the API, while it is answered."""

    threads: ChatThreads
    person: Person
    response_id: str
    thread: Thread
    """With the question."""
    writer: TurnWriter

    def append_text(self, text: str) -> None:
        """Record a piece of the answer."""
        self.writer.append_text(text)

    def finish(self, answer: Answer) -> None:
        """Record the answer."""
        self.writer.finish(answer)
        if answer.error is None:
            conversation = self.thread.conversation.with_answer(answer)
            messages = (*self.thread.messages, Message("assistant", answer.text))
            self.threads.keep(self.person, Thread(self.thread.id, conversation, messages), self.response_id)


def _digest(messages: Iterable[Message]) -> str:
    texts = [[message.role, message.content] for message in messages]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
