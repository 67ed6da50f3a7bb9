"""Records the API's answers as chats, and recognises the chats that requests go on with.

A request brings the whole conversation, but no id of it.
"""

import hashlib
import json
import sys
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from phi3_ui.accounts.quotas import Person
from phi3_ui.api.callers import Caller
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest, new_id
from phi3_ui.chat.types import Message
from phi3_ui.store.conversations.turn_writer import ConversationStore, TurnWriter

_MAX_THREADS = 2000
_MAX_BYTES = 100_000_000  # of memory, of all of them
_OBJECT_BYTES = 500  # about what a message or a turn takes besides its texts


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

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes. What several chats share counts for each."""
        texts = [message.content for message in self.messages]
        for turn in self.conversation.tree:
            texts += (
                turn.question,
                turn.answer.text if turn.answer else "",
                turn.request.system if turn.request else "",
            )
        different = {id(text): text for text in texts}  # a message is the same text as its turn's
        return sum(map(sys.getsizeof, different.values())) + _OBJECT_BYTES * (
            1 + len(self.messages) + len(self.conversation.tree)
        )


@dataclass(eq=False)
class _Kept:
    """The chats of one person."""

    threads: OrderedDict[str, tuple[Thread, str, int]] = field(default_factory=OrderedDict)
    """By the id of the last response, with a digest of its messages and its size; the one used last is at the end."""
    by_digest: dict[str, str] = field(default_factory=dict)
    size: int = 0

    def drop_oldest(self) -> None:
        response_id, (_, digest, size) = self.threads.popitem(last=False)
        self.size -= size
        if self.by_digest[digest] == response_id:
            del self.by_digest[digest]


class ChatThreads:
    """The chats that were answered lately. Kept in memory: after a restart, a conversation goes on as a new chat. Thread-safe.

    Where they are too many, or too large, the person whose chats take most loses the one not used for the longest time.
    """

    def __init__(self, limit: int = _MAX_THREADS, max_bytes: int = _MAX_BYTES) -> None:
        self._limit, self._max_bytes = limit, max_bytes
        self._lock = threading.Lock()
        self._people = defaultdict[str, _Kept](_Kept)
        self._count = self._size = 0

    def find(self, person: Person, messages: Iterable[Message]) -> Thread:
        """The person's chat that holds exactly these messages, or else a new one, which holds none."""
        digest = _digest(messages)
        with self._lock:
            kept = self._people.get(person.user_id)
            found = self._use(kept, kept.by_digest.get(digest)) if kept else None
        return found or Thread(new_id(), Conversation())

    def find_response(self, person: Person, response_id: str) -> Thread | None:
        """The person's chat as it was after a response."""
        with self._lock:
            kept = self._people.get(person.user_id)
            return self._use(kept, response_id) if kept else None

    def keep(self, person: Person, thread: Thread, response_id: str) -> None:
        """Remember a chat after a response, whose id is new."""
        digest, size = _digest(thread.messages), thread.size
        if size > self._max_bytes:
            return
        with self._lock:
            kept = self._people[person.user_id]
            kept.threads[response_id] = thread, digest, size
            kept.by_digest[digest] = response_id
            kept.size += size
            self._size += size
            self._count += 1
            while self._count > self._limit or self._size > self._max_bytes:
                self._drop_one()

    def _drop_one(self) -> None:
        user_id, kept = max(self._people.items(), key=lambda item: item[1].size)
        self._size -= kept.size
        kept.drop_oldest()
        self._size += kept.size
        self._count -= 1
        if not kept.threads:
            del self._people[user_id]

    @staticmethod
    def _use(kept: _Kept, response_id: str | None) -> Thread | None:
        if response_id is None or response_id not in kept.threads:
            return None
        kept.threads.move_to_end(response_id)
        return kept.threads[response_id][0]


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
