"""Logging a model adds a graph rewritten for the batched engine, or records why the graph is unsupported."""

import logging
import os
import shutil
from pathlib import Path

import mlflow
import pytest

from models import log_onnx
from models.batched_graph import READY, make_batched_graph
from models.phi3_onnx_engine.folder import UnfitGraphError
from models.phi3_onnx_engine.graph import rewrite_graph
from models.presets import Origin
from models.tracking import Store
from tests.support.build_cache import create_store
from tests.support.tiny_models import TinyModels, Variant

ORIGIN = Origin(preset="", name="tiny", title="Tiny", source="someone/tiny", license="mit")
pytestmark = pytest.mark.filterwarnings("ignore:.*input example:UserWarning")
FP16 = Variant("<|end|>", precision="fp16")


def log_folder(folder: Path, home: Path) -> tuple[Path, dict[str, object]]:
    """Log a folder; return the stored files and the metadata."""
    store = Store(create_store(home), (home / "artifacts").as_uri())
    logged = log_onnx.log(folder, ORIGIN, "fp32", store, lambda *_: None, measured=False, registering=False)
    mlflow.set_tracking_uri(store.tracking_uri)
    files = Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}"))
    return files, dict(mlflow.models.get_model_info(f"models:/{logged.model_id}").metadata or {})


def test_a_logged_model_has_the_graph_and_the_folder_is_unchanged(tiny_onnx: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in tiny_onnx.iterdir()}

    files, metadata = log_folder(tiny_onnx, tmp_path)

    segments = sorted(files.rglob("model.batched*.onnx"))
    assert metadata["batching"] == READY
    assert [file.name for file in segments] == ["model.batched.2.onnx", "model.batched.onnx"], "one per layer"
    assert {file.parent.name for file in segments} == {tiny_onnx.name}
    assert [file.read_bytes() for file in reversed(segments)] == rewrite_graph(tiny_onnx / "model.onnx").segments
    assert sum(file.stat().st_size for file in segments) < 300_000, "they contain no weights"
    assert {file.name: file.read_bytes() for file in tiny_onnx.iterdir()} == before


def test_plain_mlflow_can_select_the_engine(tiny_onnx: Path, tmp_path: Path) -> None:
    files, _ = log_folder(tiny_onnx, tmp_path)
    for engine, expected in ((None, "genai"), ("genai", "genai"), ("batched", "batched"), ("auto", "batched")):
        model = mlflow.pyfunc.load_model(str(files), model_config={"engine": engine} if engine else None)
        assert model.unwrap_python_model()._scheduler._engine.name == expected
    requirements = (files / "requirements.txt").read_text(encoding="utf-8")
    assert "onnxruntime==" in requirements


def test_an_unsupported_graph_is_not_rewritten_and_the_reason_is_recorded(
    tiny_models: TinyModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        files, metadata = log_folder(tiny_models.onnx(FP16), tmp_path)

    assert metadata["batching"] == "its attention is not GroupQueryAttention"
    assert list(files.rglob("model.batched.onnx")) == []
    assert "its attention is not GroupQueryAttention" in caplog.text


def test_a_graph_for_another_device_is_not_rewritten(tiny_onnx: Path) -> None:
    assert make_batched_graph(tiny_onnx, "cuda") == ({}, "it was built for cuda")


def test_an_existing_batched_graph_is_replaced(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    shutil.copytree(tiny_onnx, folder, copy_function=os.link)
    (folder / "model.batched.onnx").write_bytes(b"of an earlier release")

    files, metadata = log_folder(folder, tmp_path / "home")

    assert metadata["batching"] == READY
    (graph,) = files.rglob("model.batched.onnx")
    assert graph.read_bytes() == rewrite_graph(folder / "model.onnx").segments[0]
    assert (folder / "model.batched.onnx").read_bytes() == b"of an earlier release"


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\xff" * 40])
def test_an_invalid_onnx_file_is_unsupported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(UnfitGraphError):
        rewrite_graph(tmp_path / "model.onnx")


def test_a_graph_with_explicit_position_ids_is_unsupported(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(tiny_onnx / "model.onnx", load_external_data=False)
    attention = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    attention.input[9] = "attention_mask"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnfitGraphError, match="further inputs"):
        rewrite_graph(tmp_path / "model.onnx")


def test_a_graph_with_another_use_of_the_attention_mask_is_unsupported(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(tiny_onnx / "model.onnx", load_external_data=False)
    norm = next(node for node in model.graph.node if node.op_type == "Mul")
    norm.input[1] = "attention_mask"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnfitGraphError, match="attention_mask"):
        rewrite_graph(tmp_path / "model.onnx")
