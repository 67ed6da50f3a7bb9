"""Action buttons inside rendered HTML: in a message, in the chat list.

Each is a `button.phi3-action` whose name is the action and whose value is the object's id: Gradio's sanitiser lets only
these attributes through. static/actions.js forwards every click to the page's one handler.
"""

from markupsafe import Markup


def action_button(name: str, value: str, label: str) -> Markup:
    """Render a button for an action on the object with id `value`."""
    return Markup('<button class="phi3-action" name="{}" value="{}">{}</button>').format(name, value, label)
