"""The presets of chat/presets.py in the form that the page's scripts need."""

from typing import Any

from phi3_ui.chat.presets import CONTROL_DEFAULTS, PARAM_PRESETS, SYSTEM_PROMPTS
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.ui.page.texts import browser_texts


def build_settings_table() -> dict[str, Any]:
    """Return what is the same in every language: the presets, the names of the system prompts, and the defaults."""
    return {
        "presets": [{"name": preset.name, "values": dict(preset.values)} for preset in PARAM_PRESETS],
        "prompts": list(SYSTEM_PROMPTS),
        "defaults": dict(CONTROL_DEFAULTS),
        "labels": {param.name: param.label_key for param in SAMPLING_PARAMS},
    }


def list_preset_texts() -> dict[str, dict[str, str]]:
    """Return the names of presets and parameters, and the titles and texts of system prompts, by language and key."""
    presets = [f"preset.{name}" for name in (*(preset.name for preset in PARAM_PRESETS), "custom")]
    prompts = [f"system.{name}{part}" for name in SYSTEM_PROMPTS for part in ("", ".text")]
    labels = [param.label_key for param in SAMPLING_PARAMS]
    return browser_texts([*presets, *prompts, *labels])
