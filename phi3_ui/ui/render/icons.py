"""The page's icons, drawn from static/icons.svg in the colour of the text."""

from markupsafe import Markup

from phi3_ui.ui.asset_urls import ICONS_URL

_ICON = Markup('<svg class="phi3-svg" aria-hidden="true"><use href="{}#{}"/></svg>')


def icon(name: str) -> Markup:
    """Return the icon with this id in static/icons.svg."""
    return _ICON.format(ICONS_URL, name)
