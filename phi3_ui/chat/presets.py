"""Predefined settings, declared once: presets of sampling parameters, and system prompts."""

from collections.abc import Mapping
from dataclasses import dataclass

from phi3_ui.chat.sampling_params import SAMPLING_PARAMS


@dataclass(frozen=True)
class ParamPreset:
    """Values of the sampling parameters that control creativity. Length, stop strings and seed are not affected."""

    name: str
    """The translation key is `preset.NAME`."""
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @property
    def values(self) -> Mapping[str, float]:
        """The values by name of the parameter."""
        return {name: value for name, value in vars(self).items() if name != "name"}


PARAM_PRESETS: tuple[ParamPreset, ...] = (
    ParamPreset("precise", temperature=0.0, top_p=1.0, top_k=0),
    ParamPreset("balanced", temperature=0.2, top_p=0.95, top_k=50),
    ParamPreset("creative", temperature=0.9, top_p=0.95, top_k=100, presence_penalty=0.3),
)
"""Ordered from the strictest to the most creative. The balanced one has the default values of the parameters."""

SYSTEM_PROMPTS: tuple[str, ...] = ("comedian", "concise", "teacher", "programmer", "translator", "critic")
"""Names of the system prompts: `system.NAME` is the translation key of the title, `system.NAME.text` that of the prompt."""

CONTROL_DEFAULTS: Mapping[str, object] = {
    "system": "",
    **{param.name: param.control_default for param in SAMPLING_PARAMS},
}
"""The initial values of the settings' controls, by name."""
