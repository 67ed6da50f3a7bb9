"""The weights that can be added, as data for static/models/presets.js."""

from typing import TypedDict

from models.presets import load_preset, preset_keys
from phi3_ui.i18n.translate import format_bytes, tr

OWN = "own"
"""The key of the user's own weights."""


class PresetCard(TypedDict):
    """One choice of what to add."""

    key: str
    title: str
    about: str
    """Where the weights come from, and their licence."""
    needs: str


def describe_presets(language: str) -> list[PresetCard]:
    """The presets, then the user's own weights."""
    own: PresetCard = {
        "key": OWN,
        "title": tr(language, "add.own"),
        "about": tr(language, "add.own_about"),
        "needs": "",
    }
    return [*(_card(language, key) for key in preset_keys()), own]


def _card(language: str, key: str) -> PresetCard:
    preset = load_preset(key)
    origin, needs = preset.origin, preset.needs
    about = "" if preset.is_exact else "≈ "
    return {
        "key": key,
        "title": origin.title,
        "about": f"{origin.source} · {origin.license}",
        "needs": tr(
            language,
            "add.needs",
            download=f"{about}{format_bytes(language, needs.download)}",
            disk=f"{about}{format_bytes(language, needs.disk)}",
            memory=f"≈ {format_bytes(language, needs.memory)}",
        ),
    }
