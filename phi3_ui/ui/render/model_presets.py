"""The weights that can be added, as data for static/models/presets.js."""

from typing import TypedDict

from models.presets import load_preset, preset_keys
from phi3_ui.i18n.translate import format_bytes, tr

OWN = "own"
"""The key of the user's own weights."""
REMOTE = "remote"
"""The key of a remote server."""


class PresetCard(TypedDict):
    """A choice of what to add."""

    key: str
    title: str
    about: str
    """Where the weights come from, and their licence."""
    needs: str


def describe_presets(language: str, *, with_remote: bool = False) -> list[PresetCard]:
    """Describe the presets, the user's own weights and, if servers may be added, a remote server."""
    own: PresetCard = {
        "key": OWN,
        "title": tr(language, "add.own"),
        "about": tr(language, "add.own_about"),
        "needs": "",
    }
    remote: PresetCard = {
        "key": REMOTE,
        "title": tr(language, "remote.add"),
        "about": tr(language, "remote.add_about"),
        "needs": "",
    }
    return [*(_card(language, key) for key in preset_keys()), own, *([remote] if with_remote else [])]


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
