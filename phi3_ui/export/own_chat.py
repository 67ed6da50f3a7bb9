"""Read chats in the format of archive.py."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import FailFast, TypeAdapter, ValidationError

from phi3_ui.chat.conversation import Answer, Conversation, Turn, new_id
from phi3_ui.chat.turn_json import StoredTurn
from phi3_ui.errors import error_from_record
from phi3_ui.export.importers.fields import MAX_TIMESTAMP
from phi3_ui.export.refusal import ImportRefusedError

FORMAT = 2
"""Increment with every change to the fields of a turn; StoredTurn reads older formats."""

TURNS: TypeAdapter[tuple[Turn, ...]] = TypeAdapter(Annotated[tuple[StoredTurn, ...], FailFast()])

_MAX_TOKENS = 2**63 - 1  # the largest integer of a store


def read_own_chat(value: dict[str, Any]) -> tuple[str, Conversation]:
    """Return title and conversation of a chat saved by this app. Every turn gets a new id. Raises ImportRefusedError."""
    title, own = value.get("title"), value["phi3_ui"]
    version = own.get("format") if isinstance(own, dict) else None
    if type(version) is int and version > FORMAT:
        raise ImportRefusedError("newer")
    if type(version) is not int or version < 1:
        raise ImportRefusedError("format")
    if not isinstance(title, str):
        raise ImportRefusedError("title")
    try:
        turns = TURNS.validate_python(own.get("turns"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, ("turns", *first["loc"])))
        raise ImportRefusedError("field", place=place) from error
    return title, _renew_ids(turns, own.get("leaf"))


def _renew_ids(turns: tuple[Turn, ...], leaf: Any) -> Conversation:
    """Return the tree with new ids. Raises ImportRefusedError unless each turn's parent precedes it, which excludes cycles."""
    ids, texts, renewed = dict[str | None, str | None]({None: None}), dict[str | None, int]({None: 0}), list[Turn]()
    for number, turn in enumerate(turns, 1):
        if turn.id in ids or turn.parent not in ids:
            raise ImportRefusedError("turn_order", turn=number)
        if turn.request and not 0 <= turn.request.asked_at < MAX_TIMESTAMP:
            raise ImportRefusedError("turn_time", turn=number)
        texts[turn.id] = texts[turn.parent] + bool(turn.answer and turn.answer.text)
        answer = turn.answer and _check_answer(turn.answer, texts[turn.id])
        ids[turn.id] = own = new_id()
        renewed.append(replace(turn, id=own, parent=ids[turn.parent], answer=answer))
    if not isinstance(leaf, str | None) or leaf not in ids:
        raise ImportRefusedError("leaf")
    return Conversation(tuple(renewed), ids[leaf])


def _check_answer(answer: Answer, texts: int) -> Answer:
    """Check the counts of an answer; `texts` is the number of answers with text on its branch, including itself."""
    if answer.context and not 0 <= answer.context.omitted_turns <= texts:
        raise ImportRefusedError("omitted")
    if answer.usage and answer.usage.total_tokens + (answer.usage.cached_tokens or 0) > _MAX_TOKENS:
        raise ImportRefusedError("usage")
    if answer.error is None:
        return answer
    error = error_from_record(*answer.error)
    return replace(answer, error=(error.code, error.values))
