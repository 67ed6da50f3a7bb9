"""Find the rounds of a conversation that hide their models because they are blind and have no vote yet."""

from collections.abc import Container, Iterator

from phi3_ui.chat.conversation import Conversation, Turn


def is_comparison(conversation: Conversation) -> bool:
    """Whether the questions of a conversation are sent to several models at once."""
    return any(turn.request and turn.request.round for turn in conversation.tree)


def has_hidden_round(conversation: Conversation, voted: Container[str]) -> bool:
    """Whether a blind round still lacks a vote; `voted` contains the ids of the turns that have one."""
    return any(turn.id not in voted for turn in _iterate_blind(conversation))


def _iterate_blind(conversation: Conversation) -> Iterator[Turn]:
    return (turn for turn in conversation.tree if turn.request and turn.request.round and turn.request.round.is_blind)
