"""Read files of chats: this app's, other programs', lists, JSON Lines, and zips of them."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.errors import UserError
from phi3_ui.export.importers.registry import is_chat, is_message, read_third_party_chat
from phi3_ui.export.json_stream import MAX_CHAT_BYTES, Element, iterate_elements
from phi3_ui.export.openai_messages import from_openai_messages
from phi3_ui.export.own_chat import read_own_chat
from phi3_ui.export.refusal import ChatPlace, ImportRefusedError
from phi3_ui.export.zip_members import is_zip, iterate_members

MAX_CHATS = 5_000
MAX_TURNS = 100_000
_MAX_CHAT_TURNS = 20_000
_MAX_CHARACTERS = 1_000_000  # of each text of a turn
_MAX_MESSAGES_BYTES = 4 * MAX_CHAT_BYTES  # of memory, for a list of messages


@dataclass(frozen=True)
class ReadChat:
    """A chat read from a file."""

    title: str
    conversation: Conversation
    place: ChatPlace


def read_chats(content: bytes, refuse: Callable[[str], None] | None = None) -> list[tuple[str, Conversation]]:
    """Return the titles and conversations of the chats in a file; see `iterate_chats`.

    Args:
        content: The content of the file.
        refuse: Called with the reason for each chat that cannot be read, if others can be. By default, all must be readable.

    Raises:
        UserError: invalid_chat_file, with the reason for the first chat that cannot be read.
    """
    chats, refusals = list[tuple[str, Conversation]](), list[ImportRefusedError]()
    for found in iterate_chats(io.BytesIO(content)):
        if isinstance(found, ReadChat):
            chats.append((found.title, found.conversation))
        else:
            refusals.append(found)
    if refusals and (refuse is None or not chats):
        raise UserError("invalid_chat_file", detail=str(refusals[0])[:300]) from refusals[0]
    for one in refusals:
        if refuse:
            refuse(str(one))
    return chats


def iterate_chats(file: BinaryIO) -> Iterator[ReadChat | ImportRefusedError]:
    """Yield each chat of a seekable file, or the reason why it cannot be read. At most one chat is in memory at a time.

    A file is this app's JSON, a chat of Open WebUI, ChatGPT, LM Studio or ShareGPT, OpenAI-style messages, a list of these, JSON
    Lines with one on each line, or a zip with such .json and .jsonl files. Every turn gets a new id. Of this app's JSON, only
    `phi3_ui` and `title` are read. A file without any chat is refused, and so are the chats after MAX_CHATS or MAX_TURNS.
    """
    chats = turns = 0
    for found in _iterate_files(file):
        chats += 1
        if isinstance(found, ReadChat):
            turns += len(found.conversation.tree)
        if chats > MAX_CHATS:
            yield ImportRefusedError("too_many_chats", count=MAX_CHATS)
            return
        if turns > MAX_TURNS:
            yield ImportRefusedError("too_many_turns", count=MAX_TURNS).at(found.place)
            return
        yield found
    if not chats:
        yield ImportRefusedError("no_messages")


def _iterate_files(file: BinaryIO) -> Iterator[ReadChat | ImportRefusedError]:
    if not is_zip(file):
        yield from _iterate_chats(file, "")
        return
    try:
        for name, member in iterate_members(file):
            yield from _iterate_chats(member, name)
    except ImportRefusedError as refusal:
        yield refusal


def _iterate_chats(file: BinaryIO, name: str) -> Iterator[ReadChat | ImportRefusedError]:
    place = ChatPlace(name)
    try:
        for value, number in _ChatGrouper().group(iterate_elements(file)):
            place = ChatPlace(name, number, _find_title(value))
            yield _try_read_chat(value, place)
    except ImportRefusedError as refusal:
        # The refusal concerns the value after the last chat; a zip's own refusal already names the file.
        named = "file" in refusal.values
        yield refusal.at(ChatPlace("" if named else name, place.number + 1 if place.number else 0))


class _ChatGrouper:
    """Groups the elements of a file into chats, each with its number; 0 if there is only one.

    A list may contain chats, or the messages of one chat; so may the lines of a file. The first element decides.
    """

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._size = 0  # memory of the messages, in bytes
        self._number = 0
        self._first: list[Any] = []  # the first document, which may be the only one

    def group(self, elements: Iterator[Element]) -> Iterator[tuple[Any, int]]:
        for element in elements:
            value = element.value
            if element.ends_list:
                yield from self._end_messages()
                continue
            yield from self._number_chats(self._first)
            if is_message(value) or (self._messages and not is_chat(value)):
                self._add_message(element)
                continue
            yield from self._number_chats(self._messages)  # they turned out not to be messages
            if element.in_list or self._number:
                yield from self._number_chats([value])
            else:
                self._first.append(value)
        yield from ((value, 0) for value in self._first)
        if len(self._messages) == 1:  # a single line that is not a chat
            self._messages = self._messages[0]
        yield from self._end_messages()

    def _add_message(self, element: Element) -> None:
        self._messages.append(element.value)
        self._size += element.size
        if self._size > _MAX_MESSAGES_BYTES:
            raise ImportRefusedError("too_large")

    def _end_messages(self) -> Iterator[tuple[Any, int]]:
        if self._messages:
            self._number += 1
            chat, self._messages, self._size = self._messages, [], 0
            yield chat, self._number if self._number > 1 else 0

    def _number_chats(self, values: list[Any]) -> Iterator[tuple[Any, int]]:
        for value in values:
            self._number += 1
            yield value, self._number
        values.clear()


def _find_title(chat: Any) -> str:
    title = chat.get("title") or chat.get("name") if isinstance(chat, dict) else None
    return title if isinstance(title, str) else ""


def _try_read_chat(value: Any, place: ChatPlace) -> ReadChat | ImportRefusedError:
    parts = value if isinstance(value, list) else [value]
    if beyond_bounds := next((one for one in parts if isinstance(one, ImportRefusedError)), None):
        return beyond_bounds.at(place)
    try:
        title, conversation = _read_chat(value)
        _check_size(conversation)
    except ImportRefusedError as refusal:
        return refusal.at(place)
    return ReadChat(title, conversation, replace(place, title=title))


def _read_chat(value: Any) -> tuple[str, Conversation]:
    fields = value if isinstance(value, dict) else {"messages": value}
    if "phi3_ui" in fields:
        return read_own_chat(fields)
    if third_party := read_third_party_chat(fields):
        given_title, conversation = third_party
        return given_title or conversation.title, conversation
    if "messages" not in fields:
        raise ImportRefusedError("no_list", fields=", ".join(fields)) if fields else ImportRefusedError("no_messages")
    title, model = fields.get("title") or fields.get("name"), fields.get("model")
    conversation = from_openai_messages(fields["messages"], model if isinstance(model, str) else "")
    return title if isinstance(title, str) else conversation.title, conversation


def _check_size(conversation: Conversation) -> None:
    if len(conversation.tree) > _MAX_CHAT_TURNS:
        raise ImportRefusedError("too_many_turns", count=_MAX_CHAT_TURNS)
    for turn in conversation.tree:
        if max(map(len, _iterate_texts(turn))) > _MAX_CHARACTERS:
            raise ImportRefusedError("message_too_long", count=_MAX_CHARACTERS)


def _iterate_texts(turn: Turn) -> Iterator[str]:
    """Yield the texts of a turn that an imported file can set."""
    yield turn.question
    if turn.request:
        yield from (turn.request.system, turn.request.prefix)
    if turn.feedback:
        yield turn.feedback.comment
    if answer := turn.answer:
        yield from (answer.text, answer.model)
        if answer.error:
            yield from map(str, answer.error[1].values())
