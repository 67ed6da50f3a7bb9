"""Chats as files, and back: Markdown for people, JSON that holds all of a chat, a zip of many; OpenAI's messages are read too."""

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import FailFast, TypeAdapter, ValidationError

from phi3_ui.chat.conversation import Answer, Conversation, Turn, new_id
from phi3_ui.chat.turn_json import StoredTurn
from phi3_ui.errors import UserError, error_from_record
from phi3_ui.export.file_names import safe_file_name
from phi3_ui.export.markdown import to_markdown
from phi3_ui.export.openai_messages import from_openai_messages, to_openai_messages

__all__ = ["create_archive", "read_chats", "to_json", "to_markdown"]

FORMAT = 2  # increase with every change of a turn's fields; older formats are read through StoredTurn

_CHAT_BYTES = 20_000_000  # JSON of one chat; being read, it takes up to thirty times that much memory
_ALL_BYTES = 200_000_000
_CHATS = 5_000
_YEAR_5138 = 1e11  # seconds since 1970; what comes much later, no calendar can show
_TURNS: TypeAdapter[tuple[Turn, ...]] = TypeAdapter(Annotated[tuple[StoredTurn, ...], FailFast()])


def to_json(conversation: Conversation, title: str) -> str:
    """`title`, `messages` (OpenAI's, of the shown branch), and `phi3_ui`: the whole tree, from which it is read again.

    What no UTF-8 text can hold, a lone surrogate, is "?".
    """
    own = {"format": FORMAT, "leaf": conversation.leaf, "turns": _TURNS.dump_python(conversation.tree, mode="json")}
    whole = {"title": title, "messages": to_openai_messages(conversation), "phi3_ui": own}
    return json.dumps(whole, ensure_ascii=False, indent=2).encode(errors="replace").decode() + "\n"


def create_archive(chats: Iterable[tuple[str, Conversation]]) -> bytes:
    """A zip with a .json and a .md for each of these titles and conversations, called after its title."""
    packed = io.BytesIO()
    taken = dict[str, int]()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        for title, conversation in chats:
            name = safe_file_name(title, taken)
            files.writestr(f"{name}.json", to_json(conversation, title))
            files.writestr(f"{name}.md", to_markdown(conversation, title))
    return packed.getvalue()


def read_chats(content: bytes) -> list[tuple[str, Conversation]]:
    """The titles and conversations of a file: our JSON, our archive (its .json files), or OpenAI's messages.

    Every turn has a new id. In our JSON only `phi3_ui` and `title` count. UserError("invalid_chat_file") for anything else, and
    for what is too large: more than 20 MB a chat, 200 MB or 5,000 chats in all.
    """
    try:
        if content.startswith(b"PK"):
            return [_chat(data, f"{name}: ") for name, data in _unpacked(content)]
        return [_chat(content)]
    except ValueError as error:
        raise UserError("invalid_chat_file", detail=str(error)[:300]) from error


def _unpacked(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of every .json of a zip, in its order. ValueError says what is in the way."""
    try:
        # Counted before zipfile reads them all.
        if len(content) > _ALL_BYTES or content.count(b"PK\1\2") > 4 * _CHATS:
            raise ValueError("it is too large")
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            files = [file for file in packed.infolist() if re.search(r"(^|/)[^./][^/]*\.json$", file.filename, re.I)]
            if not files:
                raise ValueError("there is no .json in it")
            if len(files) > _CHATS:
                raise ValueError(f"it holds more than {_CHATS:,} chats")
            left = _ALL_BYTES
            for file in files:
                yield file.filename, (data := _member(packed, file, min(left, _CHAT_BYTES)))
                left -= len(data)
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        OverflowError,
        RuntimeError,
        UnicodeError,
    ) as error:
        raise ValueError("the zip is damaged") from error


def _member(packed: zipfile.ZipFile, file: zipfile.ZipInfo, limit: int) -> bytes:
    if file.flag_bits & 1:
        raise ValueError(f"{file.filename} is encrypted")
    if file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without a bound
        raise ValueError(f"{file.filename} is packed in another way than deflated")
    with packed.open(file) as opened:
        data = opened.read(limit + 1)  # what the zip says of its size may be a lie
    if len(data) > limit:
        raise ValueError(f"{file.filename} is too large")
    return data


def _chat(content: bytes, where: str = "") -> tuple[str, Conversation]:
    try:
        value = _parsed(content)
        if isinstance(value, dict) and "phi3_ui" in value:
            return _own(value)
        fields = value if isinstance(value, dict) else {"messages": value}
        title, model = fields.get("title"), fields.get("model")
        conversation = from_openai_messages(fields.get("messages"), model if isinstance(model, str) else "")
        return title if isinstance(title, str) else conversation.title, conversation
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, ("turns", *first["loc"])))
        raise ValueError(f"{where}{place}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def _parsed(content: bytes) -> Any:
    if len(content) > _CHAT_BYTES:
        raise ValueError("it is too large")
    try:
        # Written once more, as JSON can spell lone surrogates, which no store can hold.
        text = json.dumps(
            json.loads(content, parse_int=_int, parse_float=_float, parse_constant=_float), ensure_ascii=False
        )
        return json.loads(text.encode(errors="replace"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError("it is no JSON") from error


def _int(digits: str) -> int:
    if len(digits) > 18:  # what a store's 64 bits surely hold
        raise ValueError("it holds a number that is too large")
    return int(digits)


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError("it holds a number that is too large, or none")
    return number


def _own(value: dict[str, Any]) -> tuple[str, Conversation]:
    title, own = value.get("title"), value["phi3_ui"]
    version = own.get("format") if isinstance(own, dict) else None
    if type(version) is int and version > FORMAT:
        raise ValueError("a newer version of this app wrote it; update the app to read it")
    if type(version) is not int or version < 1:
        raise ValueError("its format is unknown")
    if not isinstance(title, str):
        raise ValueError("its title is no text")
    return title, _renewed(_TURNS.validate_python(own.get("turns")), own.get("leaf"))


def _renewed(turns: tuple[Turn, ...], leaf: Any) -> Conversation:
    """The tree with new ids. ValueError where it is none: each turn's parent must come before it, which no ring does."""
    ids, texts, renewed = dict[str | None, str | None]({None: None}), dict[str | None, int]({None: 0}), list[Turn]()
    for number, turn in enumerate(turns, 1):
        if turn.id in ids or turn.parent not in ids:
            raise ValueError(f"turn {number} is there twice, or follows one that is not before it")
        if turn.request and not 0 <= turn.request.asked_at < _YEAR_5138:
            raise ValueError(f"turn {number} was asked at no time")
        texts[turn.id] = texts[turn.parent] + bool(turn.answer and turn.answer.text)
        answer = turn.answer and _sound(turn.answer, texts[turn.id])
        ids[turn.id] = own = new_id()
        renewed.append(replace(turn, id=own, parent=ids[turn.parent], answer=answer))
    if not isinstance(leaf, str | None) or leaf not in ids:
        raise ValueError("the turn that it shows is not there")
    return Conversation(tuple(renewed), ids[leaf])


def _sound(answer: Answer, texts: int) -> Answer:
    """The answer, if what it says of itself can be shown; `texts` are the answers with text up to it."""
    if answer.context and not 0 <= answer.context.omitted_turns <= texts:
        raise ValueError("it leaves out more turns than there are")
    if answer.error is None:
        return answer
    error = error_from_record(*answer.error)
    return replace(answer, error=(error.code, error.values))
