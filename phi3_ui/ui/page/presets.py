"""The presets of chat/presets.py as the page's scripts get them."""

from typing import Any

from phi3_ui.chat.presets import CONTROL_DEFAULTS, PARAM_PRESETS, SYSTEM_PROMPTS
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.ui.page.texts import browser_texts


def settings_table() -> dict[str, Any]:
    """The presets, the names of the system prompts and the defaults, which are the same in every language."""
    return {
        "presets": [{"name": preset.name, "values": dict(preset.values)} for preset in PARAM_PRESETS],
        "prompts": list(SYSTEM_PROMPTS),
        "defaults": dict(CONTROL_DEFAULTS),
        "labels": {param.name: param.label_key for param in SAMPLING_PARAMS},
    }


def preset_texts() -> dict[str, dict[str, str]]:
    """The names of the presets and parameters, and titles and texts of the system prompts, by language and key."""
    presets = [f"preset.{name}" for name in (*(preset.name for preset in PARAM_PRESETS), "custom")]
    prompts = [f"system.{name}{part}" for name in SYSTEM_PROMPTS for part in ("", ".text")]
    labels = [param.label_key for param in SAMPLING_PARAMS]
    return browser_texts([*presets, *prompts, *labels])
