"""A turn as JSON text, with all that is known of it, and back."""

from pydantic import TypeAdapter

from phi3_ui.chat.conversation import Turn

_TURN = TypeAdapter(Turn)


def serialize_turn(turn: Turn) -> str:
    return _TURN.dump_json(turn).decode()


def parse_turn(text: str) -> Turn:
    """ValueError where `text` is no such turn."""
    return _TURN.validate_json(text)
