"""One-line messages."""

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.ui.render.icons import icon


def render_error(sentence: str) -> Markup:
    """Render an error message, which screen readers announce."""
    return Markup('<p class="phi3-error" role="alert">{}</p>').format(sentence)


def render_warning(language: str, sentence: str) -> Markup:
    """Render an error message with a button that closes it (static/close_warning.js)."""
    button = Markup('<button class="phi3-icon" type="button" title="{0}" aria-label="{0}">{1}</button>')
    return render_error(sentence) + button.format(tr(language, "close"), icon("close"))


def render_note(sentence: str | Markup) -> Markup:
    """Render a note, which may contain HTML if it is Markup."""
    return Markup('<p class="phi3-note">{}</p>').format(sentence)


def render_hint(sentence: str) -> Markup:
    """Render secondary text, as in an empty panel."""
    return Markup('<p class="phi3-quiet">{}</p>').format(sentence)
