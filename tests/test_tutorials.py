"""The tutorials run from the first cell to the last, and their committed outputs come from such a run."""

import inspect
import os
import shutil
from pathlib import Path

import nbformat
import pytest

from models.phi3_onnx import Phi3Onnx
from models.presets import load_preset
from phi3_ui.store.registry.catalogue import Catalogue
from tests.conftest import Weights, settings_for
from tests.support.build_cache import create_store
from tests.support.hub import hub
from tests.support.tutorials import TUTORIALS, execute, join_outputs, read

CONTRACTS = {"TransformerPipeline": "chat", "CustomPythonWrapper": "prompt"}


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_answers_and_logs_a_model_for_the_app(name: str, tmp_path: Path, weights: Weights) -> None:
    weights.link_into(tmp_path)
    executed = execute(name, tmp_path)
    output = join_outputs(executed)
    assert "The capital of France is Paris." in output
    assert "'prompt_tokens': 28, 'completion_tokens': 8, 'total_tokens': 36" in output

    catalogue = Catalogue(settings_for(tmp_path).tracking_uri)
    (entry,) = catalogue.list_models()
    assert (entry.contract, entry.preset) == (CONTRACTS[name], "demo")
    assert entry.uri in output
    card = catalogue.load_card(f"{entry.name}@tutorial")
    assert card.entry.model_id == entry.model_id
    assert card.run
    assert card.run.params["source"] == load_preset("demo").origin.source

    # The committed tutorial was run to the end: the same cells have the same types of output.
    committed = read(name)
    assert [cell.source for cell in committed.cells] == [cell.source for cell in executed.cells]
    assert _summarise_outputs(committed) == _summarise_outputs(executed)


def _summarise_outputs(notebook: nbformat.NotebookNode) -> list[tuple[int | None, list[str]]]:
    """Return the execution count of each code cell and the types of its outputs."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [(cell.execution_count, [output.output_type for output in cell.outputs]) for cell in code]


@pytest.mark.parametrize("name", TUTORIALS)
def test_the_committed_outputs_are_clean(name: str) -> None:
    output = join_outputs(read(name))
    assert "The capital of France is Paris." in output
    for noise in ("Warning", "it/s", "\r", "/tmp", "/home", "site-packages", os.sep + "models" + os.sep):
        assert noise not in output


@pytest.mark.parametrize("method", ["load_context", "predict", "predict_stream"])
def test_the_tutorial_shows_the_current_wrapper(method: str) -> None:
    shown = join_outputs(read("CustomPythonWrapper"))
    assert inspect.getsource(getattr(Phi3Onnx, method)) in shown, "run `make tutorials` to update it"


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_with_a_preset_from_the_hub(
    name: str, tmp_path: Path, tiny_checkpoint: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = load_preset("phi-3-mini-4k")
    assert preset.pipeline
    onnx = tmp_path / "onnx"
    shutil.copytree(tiny_onnx, onnx / preset.onnx["cpu"].folder)
    create_store(home := tmp_path / "home")
    with hub(tmp_path) as fake_hub:
        fake_hub.add(preset.pipeline.repo, tiny_checkpoint, commit=preset.pipeline.revision)
        fake_hub.add(preset.onnx["cpu"].repo, onnx)
        for variable, value in fake_hub.environment.items():
            monkeypatch.setenv(variable, value)
        output = join_outputs(execute(name, home, "phi-3-mini-4k"))
    assert "<|user|>\nWhat is the capital of France?<|end|>\n<|assistant|>\n" in output
    assert "'total_tokens'" in output
