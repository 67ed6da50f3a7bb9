"""The chat list on the left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Any
from unicodedata import category

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.history import ConversationSummary
from phi3_ui.ui.render.templating import render

PAGE = 100  # chats that are sent at a time
_MAX_TITLE = 80  # characters
_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # Unicode categories


@dataclass(frozen=True)
class ChatListView:
    """What the list shows in addition to the chats."""

    shown: str
    """Id of the chat that is shown."""
    start: int = 0
    """Position of the first chat to list."""
    deleted: tuple[str, str] | None = None
    """Id and title of the chat whose deletion can be undone."""
    query: str = ""
    """The search text that the chats match."""
    unreadable: int = 0
    """Number of turns that are missing from the list because the store's record of them is damaged."""
    notice: str = ""
    """A notice about where the chats are kept."""
    tab_state: Mapping[str, str] = field(default_factory=dict)
    """What the tab keeps across a reload besides the shown chat; static/tab_state.js reads it from the list."""


def short_title(title: str) -> str:
    """Shorten a title to the list's maximum length."""
    return title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"


def is_visible(title: str) -> bool:
    """Whether a title shows anything: not only spaces, control and format characters."""
    return any(category(character) not in _INVISIBLE for character in title)


def render_chat_list(language: str, chats: list[ConversationSummary], view: ChatListView, now: datetime) -> Markup:
    """Render PAGE of `chats`, which are sorted pinned, then newest first: the pinned ones, then the others by day.

    The page requests others as the list is scrolled; until then, gaps of the same height stand in for them.
    """
    groups = [(name, [*group]) for name, group in groupby(chats, _grouping(now.date()))]
    start = max(0, min(view.start, len(chats) - PAGE))
    listed, before, after = _cut(groups, start, start + PAGE)
    deleted = {"id": view.deleted[0], "title": _name(language, view.deleted[1])} if view.deleted else None
    return render(
        "chat_list.html",
        language,
        groups=[
            (tr(language, f"chats.{name}"), [_row(language, chat, view) for chat in group]) for name, group in listed
        ],
        deleted=deleted,
        before=before,
        after=after,
        page=PAGE,
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


_Groups = list[tuple[str, list[ConversationSummary]]]


@dataclass(frozen=True)
class _Gap:
    """The number of rows and headings above or below the listed chats."""

    rows: int
    headings: int


def _cut(groups: _Groups, start: int, end: int) -> tuple[_Groups, _Gap, _Gap]:
    """Return the chats from `start` to `end`, in the groups that have any, and the gaps above and below them."""
    listed: _Groups = []
    above, below, at = 0, 0, 0
    for name, chats in groups:
        if part := chats[max(0, start - at) : max(0, end - at)]:
            listed.append((name, part))
        elif listed:
            below += 1
        else:
            above += 1
        at += len(chats)
    return listed, _Gap(start, above), _Gap(max(0, at - end), below)


def _grouping(today: date) -> Callable[[ConversationSummary], str]:
    """Return a function that names a chat's group."""
    days = ((0, "today"), (1, "yesterday"), (7, "week"))
    starts = [(datetime.combine(today - timedelta(days=most), time.min).timestamp(), name) for most, name in days]

    def name_group(chat: ConversationSummary) -> str:
        if chat.is_pinned:
            return "pinned"
        return next((name for start, name in starts if chat.last_asked_at >= start), "older")

    return name_group
