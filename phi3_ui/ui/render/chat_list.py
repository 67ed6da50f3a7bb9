"""The list of chats at the left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from unicodedata import category

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.history import ConversationSummary
from phi3_ui.ui.render.templating import render

_MAX_TITLE = 80  # characters
_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # categories of Unicode


@dataclass(frozen=True)
class ChatListView:
    """What the list shows besides the chats."""

    shown: str
    """Id of the chat that is shown."""
    limit: int = 100
    """Number of chats to list."""
    deleted: tuple[str, str] | None = None
    """Id and title of the chat whose deletion can be undone."""
    query: str = ""
    """Search text that the chats were found with."""
    unreadable: int = 0
    """Number of turns that are missing from the list because the store's record of them is damaged."""
    notice: str = ""
    """What is to be known of where the chats are kept."""
    tab_state: Mapping[str, str] = field(default_factory=dict)
    """What the tab keeps over a reload besides the shown chat: static/tab_state.js reads it from the list."""


def short_title(title: str) -> str:
    """Shorten a title to the list's maximum length."""
    return title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"


def is_visible(title: str) -> bool:
    """Whether a title shows anything: not only spaces, control and format characters."""
    return any(category(character) not in _INVISIBLE for character in title)


def render_chat_list(language: str, chats: list[ConversationSummary], view: ChatListView, now: datetime) -> Markup:
    """The first `view.limit` of `chats`, which are sorted pinned, then newest first: the pinned ones, the others by day."""
    listed = chats[: view.limit]
    groups = groupby(listed, lambda chat: _group(chat, now))
    deleted = {"id": view.deleted[0], "title": _name(language, view.deleted[1])} if view.deleted else None
    return render(
        "chat_list.html",
        language,
        groups=[
            (tr(language, f"chats.{name}"), [_row(language, chat, view) for chat in group]) for name, group in groups
        ],
        deleted=deleted,
        more=len(chats) - len(listed),
        query=view.query,
        unreadable=view.unreadable,
        notice=view.notice,
        tab_state={"chat": view.shown, **view.tab_state},
    )


def _row(language: str, chat: ConversationSummary, view: ChatListView) -> dict[str, Any]:
    return {
        "id": chat.id,
        "title": _name(language, chat.title),
        "full_title": chat.title if is_visible(chat.title) else "",
        "shown": chat.id == view.shown,
        "pinned": chat.is_pinned,
    }


def _name(language: str, title: str) -> str:
    return short_title(title) if is_visible(title) else tr(language, "chats.untitled")


def _group(chat: ConversationSummary, now: datetime) -> str:
    if chat.is_pinned:
        return "pinned"
    days = (now.date() - datetime.fromtimestamp(chat.last_asked_at).date()).days
    for most, name in ((0, "today"), (1, "yesterday"), (7, "week")):
        if days <= most:
            return name
    return "older"
