"""What users should know about the demo model, and how to get a better one."""

from markupsafe import Markup

from models.presets import load_preset
from phi3_ui.i18n.translate import format_bytes, tr
from phi3_ui.store.registry.cards import ModelEntry

_DEMO, _BETTER = "demo", "phi-3-mini-4k"
_NOTE = Markup('<p class="phi3-demo">{}</p>')
_GET = Markup('{} <button type="button" data-add-model>{}</button>')


def render_demo_hint(language: str, entry: ModelEntry, can_add: bool) -> Markup:
    """Render a line below the message box while the demo model is selected; else empty. `can_add`: models may be added."""
    if entry.preset != _DEMO:
        return Markup("")
    note = tr(language, "demo.note", title=load_preset(_DEMO).origin.title)
    if not can_add:
        return _NOTE.format(note)
    better = load_preset(_BETTER)
    size = f"≈ {format_bytes(language, better.needs.download)}"  # see models/presets.toml
    return _NOTE.format(_GET.format(note, tr(language, "demo.get", title=better.origin.title, size=size)))
