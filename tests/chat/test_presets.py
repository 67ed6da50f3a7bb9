"""The presets of the sampling parameters, and the system prompts."""

from phi3_ui.chat.presets import CONTROL_DEFAULTS, PARAM_PRESETS, SYSTEM_PROMPTS
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS, parse_params
from phi3_ui.i18n.translate import TEXTS, tr


def test_every_preset_is_valid_and_its_controls_can_show_it() -> None:
    by_name = {param.name: param for param in SAMPLING_PARAMS}
    for preset in PARAM_PRESETS:
        parse_params(preset.values)
        assert {name: by_name[name].restore_control(value) for name, value in preset.values.items()} == preset.values


def test_balanced_is_the_default_and_the_presets_differ() -> None:
    presets = {preset.name: preset.values for preset in PARAM_PRESETS}
    assert presets["balanced"] == {name: CONTROL_DEFAULTS[name] for name in presets["balanced"]}
    assert presets["precise"]["temperature"] == 0
    temperatures = [preset.temperature for preset in PARAM_PRESETS]
    assert temperatures == sorted(set(temperatures))


def test_every_preset_and_prompt_has_its_own_words_in_every_language() -> None:
    for language in TEXTS:
        assert all(tr(language, f"preset.{preset.name}") for preset in PARAM_PRESETS)
        texts = {tr(language, f"system.{name}.text") for name in SYSTEM_PROMPTS}
        titles = {tr(language, f"system.{name}") for name in SYSTEM_PROMPTS}
        assert len(texts) == len(titles) == len(SYSTEM_PROMPTS)
    assert "comedian" in SYSTEM_PROMPTS
