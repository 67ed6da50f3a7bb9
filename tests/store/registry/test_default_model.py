"""The model that a new page preselects."""

from datetime import UTC, datetime

from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.catalogue import choose_default_model


def _entry(name: str, preset: str | None, streamable: bool) -> ModelEntry:
    return ModelEntry(
        name=name,
        model_id=f"m-{name}",
        uri=f"models:/m-{name}",
        contract="prompt" if streamable else "chat",
        flavor="pyfunc",
        engine="python",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        size_bytes=None,
        run_id=None,
        preset=preset,
        tracking_uri="sqlite://",
        streamable=streamable,
    )


_PIPELINE, _ONNX = _entry("pipeline", "demo", False), _entry("onnx", "demo", True)


def test_an_empty_store_has_no_default() -> None:
    assert choose_default_model([]) is None


def test_the_streaming_model_of_a_preset_is_preferred() -> None:
    assert choose_default_model([_PIPELINE, _ONNX]) is _ONNX
    assert choose_default_model([_ONNX, _PIPELINE]) is _ONNX


def test_otherwise_the_newest_model_is_the_default() -> None:
    newest = _entry("mine", None, False)

    assert choose_default_model([newest, _PIPELINE, _ONNX]) is newest
    assert choose_default_model([newest, _entry("other", None, True)]) is newest
    assert choose_default_model([_entry("phi", "phi-3-mini-4k", False), _ONNX]).name == "phi"  # type: ignore[union-attr]  # not None
