"""Turns as JSON and back, also as written by earlier versions."""

from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from phi3_ui.chat.conversation import Turn


def _upgrade_turn(data: Any) -> Any:
    """Rename the fields of a turn that was written before they had their current names."""
    if not isinstance(data, dict):
        return data
    turn = _renamed(data, {"asked": "request"})
    if isinstance(request := turn.get("request"), dict):
        turn["request"] = _renamed(request, {"at": "asked_at"})
    answer = turn.get("answer")
    if isinstance(answer, dict) and isinstance(context := answer.get("context"), dict):
        turn["answer"] = {**answer, "context": _renamed(context, {"left_out": "omitted_turns"})}
    return turn


def _renamed(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in data.items()}


StoredTurn = Annotated[Turn, BeforeValidator(_upgrade_turn)]
"""A turn as a field of a pydantic schema; accepts the field names of earlier versions."""

_TURN: TypeAdapter[Turn] = TypeAdapter(StoredTurn)


def serialize_turn(turn: Turn) -> str:
    """The turn with all its fields as JSON text."""
    return _TURN.dump_json(turn).decode()


def parse_turn(text: str) -> Turn:
    """The turn that `serialize_turn` wrote, in this or an earlier version.

    Raises:
        ValueError: `text` is not a turn.
    """
    return _TURN.validate_json(text)
