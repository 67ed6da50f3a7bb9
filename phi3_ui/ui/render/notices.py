"""One-line messages."""

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.ui.render.actions import action_button


def render_error(sentence: str) -> Markup:
    """Render an error's sentence, announced by screen readers."""
    return Markup('<p class="phi3-error" role="alert">{}</p>').format(sentence)


def render_note(sentence: str | Markup) -> Markup:
    """Render a note, which may contain HTML if it is Markup."""
    return Markup('<p class="phi3-note">{}</p>').format(sentence)


def render_hint(sentence: str) -> Markup:
    """Secondary text, as in an empty panel."""
    return Markup('<p class="phi3-quiet">{}</p>').format(sentence)


def render_editing_note(language: str) -> Markup:
    """Shown while a question is being edited, with a button to cancel."""
    cancel = action_button("cancel_edit", "", tr(language, "cancel"))
    return render_note(Markup("{} {}").format(tr(language, "editing"), cancel))
