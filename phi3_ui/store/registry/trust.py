"""Decides whether loading a model runs code of its own, by inspecting its folder without executing anything in it.

Loading is safe for two kinds of models: those of the transformers flavour that consist of data only, and those that this
project's own wrapper logged. The checks are allowlists; everything else counts as code. Pickle scanners are not used: they flag
every ordinary pyfunc model, and miss plain Python.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3_ui.host.sandbox_policy import TrustLevel
from phi3_ui.store.registry.fingerprint import FolderListing, list_folder
from phi3_ui.store.registry.mlmodel import read_mlmodel
from phi3_ui.store.registry.released_code import WRAPPER
from phi3_ui.store.registry.suspects import DATA_SUFFIXES, Suspect, check_names, hashes
from phi3_ui.store.registry.transformers_files import check_transformers
from phi3_ui.store.registry.wrapper_files import ARTIFACT, PYFUNC_LOADERS, check_wrapper


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a model without running any of its code."""

    level: TrustLevel
    suspects: tuple[Suspect, ...]
    """Sorted by path; empty unless the level is `code`."""
    fingerprint: str
    """SHA-256 over the paths and contents of all files. Empty unless the level is `code`, since nothing else needs approval."""


_TRANSFORMERS = "mlflow.transformers"


def declares_code(flavors: dict[str, Any]) -> bool:
    """Return whether the flavors of an MLmodel are neither those of a pipeline nor those of our wrapper."""
    function = flavors.get("python_function", {})
    return function.get("loader_module") != _TRANSFORMERS and ARTIFACT not in (function.get("artifacts") or {})


def inspect_model(folder: Path) -> Inspection:
    """Inspect the folder of a model. Raises OSError if it cannot be read."""
    return inspect_listing(list_folder(folder))


def inspect_listing(listing: FolderListing, identify: bool = True) -> Inspection:
    """Inspect a folder listed by `list_folder`. Raises OSError if a file cannot be read.

    Without `identify` the fingerprint is left empty: computing it means reading all files, which may be gigabytes.
    """
    level: TrustLevel = "code"
    suspects = {Suspect(path, reason) for path, reason in listing.oddities}
    try:
        mlmodel = read_mlmodel(listing.folder / "MLmodel")
    except (OSError, ValueError):
        suspects |= {Suspect("MLmodel", "unreadable"), *check_names(listing.files, ())}
    else:
        function = mlmodel["flavors"].get("python_function", {})
        if function.get("loader_module") == _TRANSFORMERS:
            level, found = "data_only", check_transformers(listing, mlmodel)
        elif listing.find(WRAPPER) or ARTIFACT in (function.get("artifacts") or {}):
            level, found = "ours", check_wrapper(listing, mlmodel)
        else:
            level, found = "code", _list_code(listing, mlmodel)
        suspects.update(found)
    if not suspects:
        return Inspection(level, (), "")
    ordered = sorted(suspects, key=lambda suspect: (suspect.path, suspect.reason))
    return Inspection("code", tuple(ordered), hashes.fingerprint(listing) if identify else "")


def _list_code(listing: FolderListing, mlmodel: dict[str, Any]) -> Iterator[Suspect]:
    """Yield the suspects of a model of neither kind; at least one."""
    function = mlmodel["flavors"].get("python_function", {})
    found = set(check_names(listing.files, DATA_SUFFIXES))
    if function.get("loader_module") not in PYFUNC_LOADERS or not found:
        yield Suspect("MLmodel: loader_module", "loader")
    for key in ("data", "python_model"):
        if key in function:
            yield Suspect(f"MLmodel: {key}", "elsewhere" if key == "data" else "pickle")
    if function.get("code"):
        yield Suspect("MLmodel: code", "code_path")
    yield from found
