"""The context meter: how much of the model's context is filled by the conversation and the draft."""

from collections.abc import Sequence
from typing import TypedDict

from markupsafe import Markup

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.draft import ContextFill
from phi3_ui.i18n.translate import format_number, tr
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.render.templating import render


class FileCount(TypedDict):
    """An attached file of the draft."""

    id: str
    label: str
    """Its number of tokens; empty if unknown."""
    refusal: str
    """Why it cannot be sent; empty if it can."""


def describe_files(language: str, fill: ContextFill, files: Sequence[tuple[str, str]]) -> list[FileCount]:
    """Describe the draft's attached files, given their ids and names."""
    return [_describe_file(language, fill, index, *file) for index, file in enumerate(files)]


def render_context_meter(  # noqa: PLR0913  # the parts of the meter
    language: str,
    entry: ModelEntry | None,
    fill: ContextFill,
    conversation: Conversation,
    files: Sequence[FileCount] = (),
    is_blind: bool = False,
) -> Markup:
    """Render a ring with a mark where answers degrade, the counts beside it, and any warning; empty while no model is known.

    `files` are in the attribute data-files, and the model's name in data-model, for static/composer/. `is_blind`: until the
    vote, the fill must not reveal more than the texts do.
    """
    shared = {
        "model": entry.name if entry else "",
        "files": list(files),
    }
    if fill.limit is None:
        unknown = "context.unknown.remote" if entry and entry.is_remote else "context.unknown"
        sentence = tr(language, unknown) if entry else ""
        return render("context_meter.html", language, limit=None, sentence=sentence, warning="", **shared)
    level, warning = _warn(language, entry, fill, conversation)
    is_remote = entry is not None and entry.is_remote
    estimate = f"context.estimate{'.blind' if is_blind else '.remote' if is_remote else ''}"
    key = "context.use" if fill.is_exact else estimate
    return render(
        "context_meter.html",
        language,
        limit=fill.limit,
        used=min(fill.used, fill.limit),
        percent=f"{min(100 * fill.used / fill.limit, 100):.1f}",
        figures=f"{_format_count(language, fill.used, fill.is_exact)} / {format_number(language, fill.limit)}",
        sentence=tr(language, key, used=fill.used, count=fill.limit),
        mark=f"{100 * entry.degrades_after / fill.limit:.1f}" if entry and entry.degrades_after else "",
        level=level,
        warning=warning,
        **shared,
    )


def _warn(language: str, entry: ModelEntry | None, fill: ContextFill, conversation: Conversation) -> tuple[str, str]:
    """Return the warning level ("", "warn" or "bad") and the warning."""
    degrades_after = entry.degrades_after if entry else None
    if fill.limit is not None and fill.used >= fill.limit:
        if conversation.turns:
            key = "context.overflow.remote" if entry and entry.is_remote else "context.overflow"
            return "warn", tr(language, key)
        return "bad", tr(language, "context.too_long")
    if degrades_after is not None and fill.used > degrades_after:
        return "warn", tr(language, "context.degrades", count=degrades_after)
    return "", ""


def _describe_file(language: str, fill: ContextFill, index: int, file_id: str, name: str) -> FileCount:
    tokens = fill.file_tokens[index] if index < len(fill.file_tokens) else None
    if tokens is None:
        return {"id": file_id, "label": "", "refusal": ""}
    label = tr(language, "attach.tokens" if fill.is_exact else "attach.about_tokens", count=tokens)
    if not fill.is_too_long(index):
        return {"id": file_id, "label": label, "refusal": ""}
    return {
        "id": file_id,
        "label": label,
        "refusal": tr(language, "attach.too_long", name=name, tokens=tokens, count=fill.limit),
    }


def _format_count(language: str, count: int, is_exact: bool) -> str:
    return format_number(language, count) if is_exact else f"≈ {format_number(language, count)}"
