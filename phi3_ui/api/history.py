"""Records the API's answers as chats, and recognises the chats that requests continue.

A request contains the whole conversation, but no conversation id.
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
_MAX_BYTES = 100_000_000  # memory used by all of them
_OBJECT_BYTES = 500  # approximate overhead of a message or a turn


@dataclass(frozen=True)
class Question:
    """A request to answer."""

    model: str
    """Any name of the model."""
    messages: tuple[Message, ...]
    """The messages; the last one is the question."""
    values: Mapping[str, Any]
    """Sampling parameters by name."""
    response_id: str
    raw_prompt: str | None = None
    """See ChatRequest."""
    records: bool = True
    """Whether the answer is recorded as a trace."""
    field: str = "messages"
    """The field of the request with the question."""


@dataclass(frozen=True)
class Thread:
    """A chat of the API."""

    id: str
    """The id of the recorded conversation."""
    conversation: Conversation
    messages: tuple[Message, ...] = ()
    """Its messages, including the system prompt."""

    @property
    def size(self) -> int:
        """The approximate bytes of memory it uses. Texts shared by several chats are counted for each."""
        texts = [message.content for message in self.messages]
        for turn in self.conversation.tree:
            texts += (
                turn.question,
                turn.answer.text if turn.answer else "",
                turn.request.system if turn.request else "",
            )
        different = {id(text): text for text in texts}  # a message and its turn share the same string
        return sum(map(sys.getsizeof, different.values())) + _OBJECT_BYTES * (
            1 + len(self.messages) + len(self.conversation.tree)
        )


@dataclass(eq=False)
class _UserThreads:
    """The cached chats of one user."""

    threads: OrderedDict[str, tuple[Thread, str, int]] = field(default_factory=OrderedDict)
    """Chats by the id of the last response, each with the digest of its messages and its size; least recently used first."""
    by_digest: dict[str, str] = field(default_factory=dict)
    size: int = 0

    def drop_oldest(self) -> None:
        response_id, (_, digest, size) = self.threads.popitem(last=False)
        self.size -= size
        if self.by_digest[digest] == response_id:
            del self.by_digest[digest]


class ChatThreads:
    """An in-memory cache of recent chats: after a restart, a conversation continues as a new chat. Thread-safe.

    If there are too many, or they are too large, the least recently used chat of the user whose chats are largest is evicted.
    """

    def __init__(self, limit: int = _MAX_THREADS, max_bytes: int = _MAX_BYTES) -> None:
        self._limit, self._max_bytes = limit, max_bytes
        self._lock = threading.Lock()
        self._users = defaultdict[str, _UserThreads](_UserThreads)
        self._count = self._size = 0

    def find(self, person: Person, messages: Iterable[Message]) -> Thread:
        """Return the user's chat with exactly these messages, or else a new, empty one."""
        digest = _digest(messages)
        with self._lock:
            cached = self._users.get(person.user_id)
            found = self._use(cached, cached.by_digest.get(digest)) if cached else None
        return found or Thread(new_id(), Conversation())

    def find_response(self, person: Person, response_id: str) -> Thread | None:
        """Return the user's chat in its state after a response."""
        with self._lock:
            cached = self._users.get(person.user_id)
            return self._use(cached, response_id) if cached else None

    def add(self, person: Person, thread: Thread, response_id: str) -> None:
        """Cache a chat in its state after a response, whose id is new."""
        digest, size = _digest(thread.messages), thread.size
        if size > self._max_bytes:
            return
        with self._lock:
            cached = self._users[person.user_id]
            cached.threads[response_id] = thread, digest, size
            cached.by_digest[digest] = response_id
            cached.size += size
            self._size += size
            self._count += 1
            while self._count > self._limit or self._size > self._max_bytes:
                self._evict_one()

    def _evict_one(self) -> None:
        user_id, cached = max(self._users.items(), key=lambda item: item[1].size)
        self._size -= cached.size
        cached.drop_oldest()
        self._size += cached.size
        self._count -= 1
        if not cached.threads:
            del self._users[user_id]

    @staticmethod
    def _use(cached: _UserThreads, response_id: str | None) -> Thread | None:
        if response_id is None or response_id not in cached.threads:
            return None
        cached.threads.move_to_end(response_id)
        return cached.threads[response_id][0]


class ApiHistory:
    """The chats of the API. Thread-safe."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._threads = ChatThreads()

    def start_turn(self, caller: Caller, question: Question, label: str, request: TurnRequest) -> "RecordedTurn":
        """Record a question in the chat that it continues. `request` does not include the system prompt."""
        *before, last = question.messages
        system = before[0].content if before and before[0].role == "system" else ""
        thread = self._threads.find(caller.person, before)
        if self._store.history.is_deleted(caller.user_id, thread.id):
            thread = Thread(new_id(), Conversation())
        conversation = thread.conversation.with_question(last.content, replace(request, system=system))
        thread = Thread(thread.id, conversation, question.messages)
        writer = self._store.start_turn(caller.user_id, thread.id, conversation, label, question.messages)
        return RecordedTurn(self._threads, caller.person, question.response_id, thread, writer)

    def find_response(self, caller: Caller, response_id: str) -> Thread | None:
        """Return the caller's chat in its state after a response."""
        return self._threads.find_response(caller.person, response_id)


@dataclass(frozen=True)
class RecordedTurn:
    """One turn of an API chat while it is being answered."""

    threads: ChatThreads
    person: Person
    response_id: str
    thread: Thread
    """The chat, including the question."""
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
            self.threads.add(self.person, Thread(self.thread.id, conversation, messages), self.response_id)


def _digest(messages: Iterable[Message]) -> str:
    texts = [[message.role, message.content] for message in messages]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
