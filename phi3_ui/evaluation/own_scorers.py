"""Custom scorers written in Python: MLflow scorers or plain functions, from a file or an installed package.

They run in the command line's process with all its privileges. The page does not offer them.
"""

import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from phi3_ui.errors import UserError

if TYPE_CHECKING:
    from mlflow.genai.scorers import Scorer

ENTRY_POINT_GROUP = "phi3_ui.scorers"


def load_own_scorer(text: str) -> "list[Scorer]":
    """Load the scorers given as `FILE.py`, `FILE.py:NAME` or the name of an entry point in the group `phi3_ui.scorers`.

    A function takes any of `inputs`, `outputs`, `expectations` and `trace`, as MLflow's scorers do. Without a NAME, all MLflow
    scorers in the file are loaded.

    Raises:
        UserError: own_scorer_missing, own_scorer_failed.
    """
    file, _, name = text.partition(".py:") if ".py:" in text else (text.removesuffix(".py"), "", "")
    if file == text:
        return [_load_entry_point(text)]
    from mlflow.genai.scorers import Scorer

    module = _import_file(Path(f"{file}.py"), text)
    if not name:
        found = [value for value in vars(module).values() if isinstance(value, Scorer)]
        if not found:
            raise UserError("own_scorer_missing", name=text)
        return found
    return [_as_scorer(getattr(module, name, None), text)]


def _import_file(path: Path, text: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"phi3_ui_own_scorers_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("own_scorer_missing", name=text)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look the module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError("own_scorer_failed", name=text, detail=f"{type(error).__name__}: {error}") from error
    return module


def _load_entry_point(name: str) -> "Scorer":
    found = [one for one in entry_points(group=ENTRY_POINT_GROUP) if one.name == name]
    if not found:
        raise UserError("own_scorer_missing", name=name)
    try:
        value = found[0].load()
    except Exception as error:
        raise UserError("own_scorer_failed", name=name, detail=f"{type(error).__name__}: {error}") from error
    return _as_scorer(value, name)


def _as_scorer(value: Any, text: str) -> "Scorer":
    from mlflow.genai.scorers import Scorer, scorer

    if isinstance(value, Scorer):
        return value
    if not callable(value):
        raise UserError("own_scorer_missing", name=text)
    wrapped: Scorer = scorer(value)
    return wrapped
