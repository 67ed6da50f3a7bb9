"""Pure: a person's conversations → the HTML of the list at the left. All values are escaped here."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from html import escape
from types import MappingProxyType

from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.history import ConversationSummary
from phi3_ui.ui.render.actions import action_button

_TITLE = 80  # characters; the rest of a longer one is left out


def short(title: str) -> str:
    return title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"


def chat_list(
    language: str,
    chats: list[ConversationSummary],
    shown: str,
    now: datetime,
    most: int = 100,
    removed: tuple[str, str] | None = None,
    query: str = "",
    login: str | None = None,
    held: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """`chats` by day, newest first, `most` of them; the `shown` one marked. `removed` may be taken back: its id and title.

    `login` is whose they are, where people log in; `held` is what the page holds besides the shown chat: see scripts.TAB_STATE_JS.
    """
    parts = []
    if removed:
        id_, title = removed
        words = escape(tr(language, "chats.removed", title=short(title)))
        undo = action_button("restore", id_, tr(language, "chats.restore"))
        parts.append(f'<p class="phi3-quiet phi3-removed" role="status">{words} {undo}</p>')
    if not chats:
        parts.append(f'<p class="phi3-quiet">{escape(tr(language, "chats.none_found" if query else "chats.none"))}</p>')
    day = ""
    for chat in chats[:most]:
        when = tr(language, f"chats.{_day(datetime.fromtimestamp(chat.last_asked_at), now)}")
        if when != day:
            day = when
            parts.append(f"<h3>{escape(day)}</h3>")
        parts.append(_row(language, chat, chat.id == shown))
    if len(chats) > most:
        parts.append(action_button("more", "", tr(language, "chats.more", count=len(chats) - most)))
    if login is not None:
        out = f'<a href="logout?all_session=false">{escape(tr(language, "logout"))}</a>'
        parts.append(f'<p class="phi3-quiet phi3-login">{escape(login)} · {out}</p>')
    places = {"chat": shown, "login": login or "", **held}
    place = " ".join(f'data-{name}="{escape(value)}"' for name, value in places.items())
    return (
        f'<nav class="phi3-chats" aria-label="{escape(tr(language, "conversations"))}" {place}>{"".join(parts)}</nav>'
    )


def _row(language: str, chat: ConversationSummary, shown: bool) -> str:
    title = short(chat.title) or tr(language, "chats.untitled")
    mark = ' aria-current="true"' if shown else ""
    rename = action_button("rename", chat.id, "✎", tr(language, "chats.rename", title=title))
    delete = action_button("delete", chat.id, "✕", tr(language, "chats.delete", title=title))
    return (
        f'<div class="phi3-row"{mark}>{action_button("open", chat.id, title, chat.title)}'
        f'<span class="phi3-row-actions">{rename}{delete}</span></div>'
    )


def _day(at: datetime, now: datetime) -> str:
    days = (now.date() - at.date()) / timedelta(days=1)
    for most, name in ((0, "today"), (1, "yesterday"), (7, "week")):
        if days <= most:
            return name
    return "older"
