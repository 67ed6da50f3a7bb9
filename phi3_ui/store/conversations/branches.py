"""Builds a conversation tree from stored turns, and stores and restores its shown branch."""

import json
from collections.abc import Iterable
from dataclasses import replace

from phi3_ui.chat.conversation import Conversation, Turn


def build_conversation(turns: Iterable[Turn]) -> Conversation:
    """Return the tree of these turns, with the branch of the newest one shown.

    Parents precede their children; siblings are in the order in which they were asked. A turn whose parent is missing, or
    that closes a cycle, becomes a root.
    """
    waiting = sorted(turns, key=_sort_key)
    ids, placed, placed_ids = {turn.id for turn in waiting}, list[Turn](), set[str | None]([None])
    while waiting:
        ready = [turn for turn in waiting if turn.parent in placed_ids or turn.parent not in ids]
        ready = ready or waiting[:1]
        placed += [turn if turn.parent in placed_ids else replace(turn, parent=None) for turn in ready]
        placed_ids.update(turn.id for turn in ready)
        waiting = [turn for turn in waiting if turn.id not in placed_ids]
    conversation = Conversation(tuple(placed))
    return conversation.with_branch_of(placed[-1].id) if placed else conversation


def serialize_shown_branch(conversation: Conversation) -> str:
    """Return the shown branch as JSON: the id of its last turn, and the number of turns in the tree."""
    return json.dumps([conversation.leaf, len(conversation.tree)])


def restore_shown_branch(conversation: Conversation, stored: str) -> Conversation:
    """Return the conversation showing the branch that `serialize_shown_branch` wrote, unless turns were added since."""
    try:
        leaf, count = json.loads(stored)
    except (ValueError, TypeError, RecursionError):
        return conversation
    known = leaf is None or any(turn.id == leaf for turn in conversation.tree)
    return replace(conversation, leaf=leaf) if known and count == len(conversation.tree) else conversation


def _sort_key(turn: Turn) -> tuple[float, str]:
    return turn.request.asked_at if turn.request else 0.0, turn.id
