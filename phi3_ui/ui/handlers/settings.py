"""Restore the settings of a question from a tab, a preset, or a chat's last question."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.presets import CONTROL_DEFAULTS
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.ui.handlers.event_fields import read_fields
from phi3_ui.ui.page.components import Page, Updates

_MAX_SYSTEM_PROMPT = 100_000  # characters


def restore_settings(page: Page, saved: Any) -> Updates:
    """Return updates that set the settings to `saved`, values by name from the browser, which may contain anything.

    Only values: whether a control is disabled depends on the model, and is decided when the model is picked.
    """
    if not isinstance(saved, dict):
        return {}
    settings = page.settings
    updates: Updates = {
        settings.controls[param.name]: gr.update(value=param.restore_control(saved[param.name]))
        for param in SAMPLING_PARAMS
        if param.name in saved
    }
    if isinstance(system := saved.get("system"), str) and len(system) <= _MAX_SYSTEM_PROMPT:
        updates[settings.system] = gr.update(value=system)
    return updates


def restore_settings_of_chat(page: Page, conversation: Conversation) -> Updates:
    """Return updates that set the settings to those of the last shown question; to the defaults if they are unknown.

    A parameter that its model did not support, or for which none was given, gets its default.
    """
    request = next((turn.request for turn in reversed(conversation.turns) if turn.request), None)
    if request is None or not request.model_id:
        return restore_settings(page, dict(CONTROL_DEFAULTS))
    known = request.params.as_dict()
    values: Mapping[str, Any] = {param.name: known.get(param.name, param.default) for param in SAMPLING_PARAMS}
    return restore_settings(page, {"system": request.system, **values})


class SettingsHandlers:
    """Handlers of the Settings tab."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def apply(self, event: gr.EventData) -> Updates:
        """Apply the values that the tab's script sends: those of a preset, or the defaults."""
        values = read_fields(event)
        return restore_settings(self._page, values.get("values")) or {self._page.settings.system: gr.skip()}
