"""What users should know about a remote model before asking it: where their questions are sent, and what it does not support."""

from collections.abc import Iterable

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.store.registry.cards import ModelEntry

_NOTE = Markup('<p class="phi3-remote{}" role="note">{}</p>')
_LIMITS = ("registry", "unload", "count", "reproduce", "continue")


def render_remote_notice(language: str, entry: ModelEntry) -> Markup:
    """Render a line below the message box while a remote model is selected; else empty."""
    if not entry.host:
        return Markup("")
    key = "remote.elsewhere" if entry.is_elsewhere else "remote.here"
    return _NOTE.format(" elsewhere" if entry.is_elsewhere else "", tr(language, key, host=entry.host))


def render_remote_sides(language: str, entries: Iterable[ModelEntry]) -> Markup:
    """Render the notice for the sides of a comparison, without revealing which side it is about; empty if all stay on this machine."""
    hosts = sorted({entry.host for entry in entries if entry.host and entry.is_elsewhere})
    return _NOTE.format(" elsewhere", tr(language, "remote.compare", hosts=", ".join(hosts))) if hosts else Markup("")


def describe_limits(language: str, entry: ModelEntry) -> list[tuple[str, str]]:
    """Return the features that a remote model does not support, each with its reason; empty for other models."""
    if not entry.is_remote:
        return []
    left_out = () if entry.is_unlogged else ("registry",)
    return [
        (tr(language, f"remote.off.{name}"), tr(language, f"remote.off.{name}.why"))
        for name in _LIMITS
        if name not in left_out
    ]
