"""Which rounds of a conversation hide their models, because they are blind and have no vote yet."""

from collections.abc import Container, Iterator

from phi3_ui.chat.conversation import Conversation, Turn


def is_comparison(conversation: Conversation) -> bool:
    """Whether its questions were asked of several models at once."""
    return any(turn.request and turn.request.round for turn in conversation.tree)


def has_hidden_round(conversation: Conversation, voted: Container[str]) -> bool:
    """Whether a blind round waits for its vote; `voted` are the ids of the turns that have one."""
    return any(turn.id not in voted for turn in _iterate_blind(conversation))


def _iterate_blind(conversation: Conversation) -> Iterator[Turn]:
    return (turn for turn in conversation.tree if turn.request and turn.request.round and turn.request.round.is_blind)
