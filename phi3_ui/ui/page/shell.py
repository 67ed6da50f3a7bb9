"""The frame of the page: the header above the chat, and the buttons of the side panels."""

import gradio as gr
from markupsafe import Markup

from phi3_ui.ui.page.scripts import module_js, panels_js, tabs_js
from phi3_ui.ui.page.texts import browser_texts
from phi3_ui.ui.render.icons import icon

_BUTTON = Markup('<button class="phi3-icon" data-panel="{}">{}</button>')
_PANELS_JS = panels_js(browser_texts(["panel.left", "panel.right"]))
_TABS = ("usage", "model", "settings")
_TAB = Markup('<button role="tab" id="phi3-tab-button-{0}" value="{0}"></button>')
_TABS_JS = tabs_js(browser_texts([f"tab.{name}" for name in _TABS]))


def create_start() -> None:
    """Create the first elements for keyboards and screen readers: the skip link to the message box, and the heading.

    The product's name above the conversations is not the heading: in a closed drawer it would be hidden.
    """
    gr.HTML(
        '<a class="phi3-skip" href="#phi3-message"></a><h1 class="phi3-unseen">Phi-3 Chat</h1>',
        js_on_load=module_js("skip.js", browser_texts(["skip"])),
        apply_default_css=False,
        padding=False,
        elem_id="phi3-start",
    )


def create_brand() -> None:
    """Create the product's name with the button that hides the conversations."""
    name = Markup('<div class="phi3-brand"><i aria-hidden="true">φ</i><b>Phi-3 Chat</b>{}</div>')
    gr.HTML(
        name.format(_BUTTON.format("left", icon("panel"))),
        js_on_load=_PANELS_JS,
        apply_default_css=False,
        padding=False,
    )


def create_toggle(side: str) -> None:
    """Create the header's button for the panel on this side, "left" or "right"."""
    gr.HTML(
        _BUTTON.format(side, icon("menu" if side == "left" else "panel")),
        js_on_load=_PANELS_JS,
        apply_default_css=False,
        padding=False,
        elem_classes=["phi3-toggle", f"phi3-toggle-{side}"],
    )


def create_tabs() -> None:
    """Create the buttons of the right panel's tabs and the one that closes the drawer; a tab's content is the column `phi3-tab-NAME`."""
    buttons = Markup("").join(_TAB.format(name) for name in _TABS)
    strip = Markup('<div class="phi3-tabs" role="tablist">{}</div>{}').format(
        buttons, _BUTTON.format("right", icon("close"))
    )
    gr.HTML(strip, js_on_load=_TABS_JS, apply_default_css=False, padding=False, elem_id="phi3-tabs")


def create_scrim() -> None:
    """Create the scrim behind an open drawer; a tap on it closes the drawer."""
    gr.HTML('<div id="phi3-scrim"></div>', apply_default_css=False, padding=False, elem_id="phi3-scrim-block")
