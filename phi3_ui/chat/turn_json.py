"""Serializes turns as JSON, and parses them, including those of earlier versions."""

from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from phi3_ui.chat.conversation import Turn


def _upgrade_turn(data: Any) -> Any:
    """Rename the fields of a turn that was written before they had their current names."""
    if not isinstance(data, dict):
        return data
    turn = _rename_fields(data, {"asked": "request"})
    if isinstance(request := turn.get("request"), dict):
        turn["request"] = _rename_fields(request, {"at": "asked_at"})
    answer = turn.get("answer")
    if isinstance(answer, dict) and isinstance(context := answer.get("context"), dict):
        turn["answer"] = {**answer, "context": _rename_fields(context, {"left_out": "omitted_turns"})}
    return turn


def _rename_fields(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in data.items()}


StoredTurn = Annotated[Turn, BeforeValidator(_upgrade_turn)]
"""A turn as a field of a pydantic schema; accepts the field names of earlier versions."""

_TURN: TypeAdapter[Turn] = TypeAdapter(StoredTurn)


def serialize_turn(turn: Turn) -> str:
    """Return the turn with all its fields as JSON text."""
    return _TURN.dump_json(turn).decode()


def parse_turn(text: str) -> Turn:
    """Parse a turn that `serialize_turn` wrote, in this or an earlier version.

    Raises:
        ValueError: `text` is not a turn.
    """
    return _TURN.validate_json(text)
