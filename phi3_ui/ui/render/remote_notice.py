"""What people should know of a remote model before they ask it: where their questions go, and what it cannot do."""

from collections.abc import Iterable

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.store.registry.cards import ModelEntry

_NOTE = Markup('<p class="phi3-remote{}" role="note">{}</p>')
_LIMITS = ("registry", "unload", "count", "reproduce", "continue")


def render_remote_notice(language: str, entry: ModelEntry) -> Markup:
    """A line below the message box while a remote model is selected; else empty."""
    if not entry.host:
        return Markup("")
    key = "remote.elsewhere" if entry.is_elsewhere else "remote.here"
    return _NOTE.format(" elsewhere" if entry.is_elsewhere else "", tr(language, key, host=entry.host))


def render_remote_sides(language: str, entries: Iterable[ModelEntry]) -> Markup:
    """The same for the sides of a comparison, without telling which of them it is; empty if all stay on this machine."""
    hosts = sorted({entry.host for entry in entries if entry.host and entry.is_elsewhere})
    return _NOTE.format(" elsewhere", tr(language, "remote.compare", hosts=", ".join(hosts))) if hosts else Markup("")


def describe_limits(language: str, entry: ModelEntry) -> list[tuple[str, str]]:
    """What cannot be done with a remote model, each with its reason; empty for others."""
    if not entry.is_remote:
        return []
    left_out = () if entry.is_unlogged else ("registry",)
    return [
        (tr(language, f"remote.off.{name}"), tr(language, f"remote.off.{name}.why"))
        for name in _LIMITS
        if name not in left_out
    ]
