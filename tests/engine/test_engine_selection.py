"""Which engine the wrapper selects, and the reason it reports if that is not the batched one."""

import json
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from models.batched_graph import make_batched_graph
from models.phi3_onnx_engine import OnnxFolder
from tests.engine.engines import BUDGET, load_wrapper
from tests.support.tiny_models import PRECISIONS, TinyModels, Variant


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_unsupported_graph_falls_back_to_genai_and_the_reason_is_logged(
    tiny_models: TinyModels, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_models.onnx(Variant("<|end|>", precision=precision))
    wrapper = load_wrapper(folder)
    is_batched = precision != "fp16"  # on the CPU, an fp16 graph uses another attention operator
    assert wrapper._scheduler._engine.is_batched is is_batched
    assert (wrapper.batching.reason == "") is is_batched
    if not is_batched:
        assert wrapper.batching.reason == "graph"
        assert "its attention is not GroupQueryAttention" in wrapper.batching.detail
        assert "its attention is not GroupQueryAttention" in caplog.text
    assert wrapper.predict(None, {"prompt": "<|user|>\nHi<|end|>\n<|assistant|>\n"}) == ["The sea is calm"]


def test_auto_falls_back_without_a_warning(tiny_models: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    wrapper = load_wrapper(tiny_models.onnx(Variant("<|end|>", precision="fp16")), "auto")
    assert wrapper.batching.reason == "graph"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_folder_built_for_another_device_is_not_batched(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    shutil.copytree(tiny_onnx, folder, copy_function=os.link)
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    (folder / "genai_config.json").unlink()
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    from models.phi3_onnx_engine.selection import NotBatchedError, _open_batched

    with pytest.raises(NotBatchedError) as raised:
        _open_batched(OnnxFolder(folder), 1, BUDGET)
    assert raised.value.batching.reason == "device"


def test_without_a_stored_graph_and_without_onnx_it_falls_back_to_genai(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "models.phi3_onnx_engine.graph")
    wrapper = load_wrapper(tiny_onnx)
    assert (wrapper.batching.reason, wrapper._scheduler._engine.name) == ("no_graph", "genai")


def test_a_graph_rejected_by_onnxruntime_is_not_batched(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    shutil.copytree(tiny_onnx, folder, copy_function=os.link)
    (folder / "model.batched.onnx").write_bytes(b"no graph")
    wrapper = load_wrapper(folder)
    assert (wrapper.batching.reason, wrapper._scheduler._engine.name) == ("failed", "genai")
    assert wrapper.batching.detail


@pytest.mark.parametrize(
    ("count", "detail"), [(10**9, "names 1000000000 segments"), (3, "model.batched.3.onnx is missing")]
)
def test_a_graph_that_declares_a_wrong_number_of_segments_is_not_batched(
    tiny_onnx: Path, tmp_path: Path, count: int, detail: str
) -> None:
    import onnx

    folder = tmp_path / "onnx"
    shutil.copytree(tiny_onnx, folder, copy_function=os.link)
    files, _ = make_batched_graph(folder, "cpu")
    for file, content in files.items():
        file.write_bytes(content)
    first = onnx.load(folder / "model.batched.onnx", load_external_data=False)
    onnx.helper.set_model_props(first, {"segments": str(count)})
    (folder / "model.batched.onnx").write_bytes(first.SerializeToString())
    wrapper = load_wrapper(folder)
    assert (wrapper.batching.reason, wrapper._scheduler._engine.name) == ("graph", "genai")
    assert detail in wrapper.batching.detail


def test_an_unknown_engine_is_rejected(tiny_onnx: Path) -> None:
    with pytest.raises(Exception, match="must be one of genai, batched, auto"):
        load_wrapper(tiny_onnx, "fast")
