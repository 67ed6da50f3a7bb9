"""Chats as files, and back: Markdown, JSON with the whole chat, a zip of many; chats of other programs can be read too."""

import io
import itertools
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import FailFast, TypeAdapter, ValidationError

from phi3_ui.chat.conversation import Answer, Conversation, Turn, new_id
from phi3_ui.chat.turn_json import StoredTurn
from phi3_ui.errors import UserError, error_from_record
from phi3_ui.export.file_names import safe_file_name
from phi3_ui.export.importers.fields import MAX_TIMESTAMP
from phi3_ui.export.importers.registry import is_list_of_chats, read_foreign_chat
from phi3_ui.export.large_lists import split_list
from phi3_ui.export.markdown import to_markdown
from phi3_ui.export.openai_messages import from_openai_messages, to_openai_messages

__all__ = ["create_archive", "read_chats", "to_json", "to_markdown"]

FORMAT = 2
"""Increase it with every change of a turn's fields; older formats are read through StoredTurn."""

_MAX_CHAT_BYTES = 20_000_000  # of JSON; parsing takes up to thirty times that much memory
_MAX_TOTAL_BYTES = 200_000_000
_MAX_CHATS = 5_000
_MAX_TOKENS = 2**63 - 1  # what a store can hold
_TURNS: TypeAdapter[tuple[Turn, ...]] = TypeAdapter(Annotated[tuple[StoredTurn, ...], FailFast()])


def to_json(conversation: Conversation, title: str) -> str:
    """Return JSON with `title`, `messages` (OpenAI-style, the shown branch) and `phi3_ui` (the whole tree, for import).

    Lone surrogates, which UTF-8 cannot encode, become "?".
    """
    own = {"format": FORMAT, "leaf": conversation.leaf, "turns": _TURNS.dump_python(conversation.tree, mode="json")}
    whole = {"title": title, "messages": to_openai_messages(conversation), "phi3_ui": own}
    return json.dumps(whole, ensure_ascii=False, indent=2).encode(errors="replace").decode() + "\n"


def create_archive(chats: Iterable[tuple[str, Conversation]]) -> bytes:
    """Return a zip with a .json and a .md file for each title and conversation, named after the title."""
    packed = io.BytesIO()
    taken = dict[str, int]()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        for title, conversation in chats:
            name = safe_file_name(title, taken)
            files.writestr(f"{name}.json", to_json(conversation, title))
            files.writestr(f"{name}.md", to_markdown(conversation, title))
    return packed.getvalue()


def read_chats(content: bytes, refuse: Callable[[str], None] | None = None) -> list[tuple[str, Conversation]]:
    """Return the titles and conversations in a file.

    It is our JSON, a chat of Open WebUI, ChatGPT, LM Studio or ShareGPT, OpenAI-style messages, a list of these, JSON Lines
    with one on each line, or a zip with such .json and .jsonl files. Every turn gets a new id. Of our JSON only `phi3_ui` and `title` are read.

    Args:
        content: Of the file.
        refuse: Called with the reason for each chat that cannot be read, if others can be. By default none may be left out.

    Raises:
        UserError: invalid_chat_file, with the field that is not understood; also above 20 MB per chat, 200 MB or 5,000 chats.
    """
    chats, reasons = list[tuple[str, Conversation]](), list[str]()
    try:
        for chat in _read_each(content):
            if not isinstance(chat, ValueError):
                chats.append(chat)
            elif refuse:
                reasons.append(str(chat))
            else:
                raise chat
            if len(chats) + len(reasons) > _MAX_CHATS:
                raise ValueError(f"it contains more than {_MAX_CHATS:,} chats")
        if not chats:
            raise ValueError(reasons[0])
    except ValueError as error:
        raise UserError("invalid_chat_file", detail=str(error)[:300]) from error
    for reason in reasons:
        if refuse:
            refuse(reason)
    return chats


def _read_each(content: bytes) -> Iterator[tuple[str, Conversation] | ValueError]:
    """Each chat of a file with its title, or the reason why it cannot be read."""
    if len(content) > _MAX_TOTAL_BYTES:
        raise ValueError("it is too large")
    files = ((f"{name}: ", data) for name, data in _unpack(content)) if content.startswith(b"PK") else [("", content)]
    for where, data in files:
        if len(data) > _MAX_CHAT_BYTES:
            yield from _read_large_list(data, where)
            continue
        try:
            value = _parse(data)
        except ValueError as error:
            yield ValueError(f"{where}{error}")
            continue
        if not is_list_of_chats(value):
            yield _try_parse_chat(value, where)
            continue
        for number, chat in enumerate(value, 1):
            yield _try_parse_chat(chat, f"{where}chat {number}{_quote_title(chat)}: ")


def _read_large_list(data: bytes, where: str) -> Iterator[tuple[str, Conversation] | ValueError]:
    """Each chat of a list that is too large to be parsed at once."""
    elements = split_list(data, _MAX_CHAT_BYTES)
    for number in itertools.count(1):
        place = where
        try:
            if (element := next(elements, None)) is None:
                return
            place = f"{where}chat {number}: "
            if len(element) > _MAX_CHAT_BYTES:
                raise ValueError("it is too large")
            value = _parse_json(element)
        except ValueError as error:
            yield ValueError(f"{place}{error}")
            continue  # after an error of its own, `elements` has ended
        yield _try_parse_chat(value, f"{where}chat {number}{_quote_title(value)}: ")


def _quote_title(chat: Any) -> str:
    title = chat.get("title") or chat.get("name") if isinstance(chat, dict) else None
    return f" “{title[:50]}”" if isinstance(title, str) else ""


def _unpack(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every .json and .jsonl file of a zip, in its order. Raises ValueError with the reason."""
    try:
        # Count the entries before zipfile reads them all.
        if content.count(b"PK\1\2") > 4 * _MAX_CHATS:
            raise ValueError("it is too large")
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            files = [file for file in packed.infolist() if re.search(r"(^|/)[^./][^/]*\.jsonl?$", file.filename, re.I)]
            if any(re.search(r"(^|/)chat\.html$", file.filename) for file in packed.infolist()):
                # ChatGPT's export: its other files hold the account, not chats.
                files = [file for file in files if re.search(r"(^|/)conversations[^/]*\.json$", file.filename)]
            if not files:
                raise ValueError("it contains no .json or .jsonl file of chats")
            if len(files) > _MAX_CHATS:
                raise ValueError(f"it contains more than {_MAX_CHATS:,} chats")
            left = _MAX_TOTAL_BYTES
            for file in files:
                yield file.filename, (data := _read_member(packed, file, left))
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


def _read_member(packed: zipfile.ZipFile, file: zipfile.ZipInfo, limit: int) -> bytes:
    if file.flag_bits & 1:
        raise ValueError(f"{file.filename} is encrypted")
    # zipfile decompresses other methods without a limit.
    if file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{file.filename} is not compressed with deflate")
    with packed.open(file) as opened:
        data = opened.read(limit + 1)  # the size that the zip declares may be wrong
    if len(data) > limit:
        raise ValueError(f"{file.filename} is too large")
    return data


def _try_parse_chat(value: Any, where: str) -> tuple[str, Conversation] | ValueError:
    try:
        return _parse_chat(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, ("turns", *first["loc"])))
        return ValueError(f"{where}{place}: {first['msg']}")
    except ValueError as error:
        return ValueError(f"{where}{error}")


def _parse_chat(value: Any) -> tuple[str, Conversation]:
    fields = value if isinstance(value, dict) else {"messages": value}
    if "phi3_ui" in fields:
        return _parse_own(fields)
    if foreign := read_foreign_chat(fields):
        return foreign[0] or foreign[1].title, foreign[1]
    if "messages" not in fields:
        raise ValueError(f"it contains no list of messages, but the fields {', '.join(fields) or 'of an empty object'}")
    title, model = fields.get("title") or fields.get("name"), fields.get("model")
    conversation = from_openai_messages(fields["messages"], model if isinstance(model, str) else "")
    return title if isinstance(title, str) else conversation.title, conversation


def _parse(content: bytes) -> Any:
    """The value of JSON, or the list of those of JSON Lines."""
    if len(content) > _MAX_CHAT_BYTES:
        raise ValueError("it is too large")
    lines = {number: line for number, line in enumerate(content.splitlines(), 1) if line.strip()}
    try:
        return _parse_json(content)
    except json.JSONDecodeError as error:
        # One of several values, and not one that is broken over lines.
        if error.msg != "Extra data" or len(lines) < 2:
            raise ValueError("it is not JSON") from error
    values = list[Any]()
    for number, line in lines.items():
        try:
            values.append(_parse_json(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON") from error
    return values


def _parse_json(content: bytes) -> Any:
    """A JSON value. JSONDecodeError for other text, ValueError for what is not text, or numbers that no store accepts."""
    try:
        # Serialised again, because JSON can spell lone surrogates, which no store accepts.
        text = json.dumps(
            json.loads(content, parse_int=_int, parse_float=_float, parse_constant=_float), ensure_ascii=False
        )
        return json.loads(text.encode(errors="replace"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not JSON") from error


def _int(digits: str) -> int | float:
    # Longer ones are times in nanoseconds, and ids that are not read.
    return int(digits) if len(digits) <= 18 else _float(digits)


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError("it contains a number that is too large or not finite")
    return number


def _parse_own(value: dict[str, Any]) -> tuple[str, Conversation]:
    title, own = value.get("title"), value["phi3_ui"]
    version = own.get("format") if isinstance(own, dict) else None
    if type(version) is int and version > FORMAT:
        raise ValueError("a newer version of this app wrote it; update the app to read it")
    if type(version) is not int or version < 1:
        raise ValueError("its format is unknown")
    if not isinstance(title, str):
        raise ValueError("its title is not text")
    return title, _renew_ids(_TURNS.validate_python(own.get("turns")), own.get("leaf"))


def _renew_ids(turns: tuple[Turn, ...], leaf: Any) -> Conversation:
    """Return the tree with new ids. ValueError unless each turn's parent precedes it, which excludes cycles."""
    ids, texts, renewed = dict[str | None, str | None]({None: None}), dict[str | None, int]({None: 0}), list[Turn]()
    for number, turn in enumerate(turns, 1):
        if turn.id in ids or turn.parent not in ids:
            raise ValueError(f"turn {number} is a duplicate, or its parent does not precede it")
        if turn.request and not 0 <= turn.request.asked_at < MAX_TIMESTAMP:
            raise ValueError(f"turn {number} has an invalid timestamp")
        texts[turn.id] = texts[turn.parent] + bool(turn.answer and turn.answer.text)
        answer = turn.answer and _check_answer(turn.answer, texts[turn.id])
        ids[turn.id] = own = new_id()
        renewed.append(replace(turn, id=own, parent=ids[turn.parent], answer=answer))
    if not isinstance(leaf, str | None) or leaf not in ids:
        raise ValueError("its current turn is missing")
    return Conversation(tuple(renewed), ids[leaf])


def _check_answer(answer: Answer, texts: int) -> Answer:
    """Check what an answer claims; `texts` is the number of answers with text on its branch, itself included."""
    if answer.context and not 0 <= answer.context.omitted_turns <= texts:
        raise ValueError("it leaves out more turns than there are")
    if answer.usage and answer.usage.total_tokens + (answer.usage.cached_tokens or 0) > _MAX_TOKENS:
        raise ValueError("its usage is too large")
    if answer.error is None:
        return answer
    error = error_from_record(*answer.error)
    return replace(answer, error=(error.code, error.values))
