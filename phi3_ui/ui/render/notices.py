"""One-line messages."""

from markupsafe import Markup


def render_error(sentence: str) -> Markup:
    """Render an error's sentence, announced by screen readers."""
    return Markup('<p class="phi3-error" role="alert">{}</p>').format(sentence)


def render_note(sentence: str | Markup) -> Markup:
    """Render a note, which may contain HTML if it is Markup."""
    return Markup('<p class="phi3-note">{}</p>').format(sentence)


def render_hint(sentence: str) -> Markup:
    """Secondary text, as in an empty panel."""
    return Markup('<p class="phi3-quiet">{}</p>').format(sentence)
