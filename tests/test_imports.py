"""Imports run one way, the engines stay out of the app's process, and nothing phones home."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from models import TELEMETRY_OFF
from phi3_ui.settings import ROOT

_ENGINES = {"torch", "transformers", "onnxruntime_genai"}
_NEUTRAL = {"phi3_ui.errors", "phi3_ui.settings", "phi3_ui.lifeline"}

# What each folder may import of this project, besides its own modules and libraries.
_MAY_IMPORT = {
    "phi3_ui/chat": {"phi3_ui.errors"},
    "phi3_ui/store": {"phi3_ui.chat", "phi3_ui.errors", "phi3_ui.settings", "models.registry", "models.packages"},
    "phi3_ui/host": {"phi3_ui.chat", *_NEUTRAL},
    "models": set(),
}
_WITHOUT_GRADIO_IN_UI = {
    "i18n.py",
    "words_en.py",
    "words_ro.py",
    "console.py",
    "panels.py",
    "convert.py",
    "sessions.py",
    "replay_view.py",
    "usage_charts.py",
}


def _sources(*folders: str) -> list[Path]:
    """The source files of these folders (default: all), as paths from the root."""
    if not folders:
        return [Path("app.py"), *_sources("phi3_ui", "models")]
    return sorted(file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def _imports(file: Path) -> frozenset[tuple[str, bool]]:
    """The modules a file imports, anywhere in it, and whether it does so when it is itself imported."""
    return frozenset(_walk(file, ast.parse((ROOT / file).read_text(encoding="utf-8")), at_import=True))


def _walk(file: Path, node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names):
                yield from ((alias.name, at_import) for alias in names)
            case ast.ImportFrom(module, names, level):
                # `from . import x` counts as the package it is in; `from package import x` may name a module.
                base = [*file.parts[: -1 - (level - 1)]] if level else []
                origin = ".".join([*base, *([module] if module else [])])
                yield from ((f"{origin}.{alias.name}", at_import) for alias in names)
            case _:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from _walk(file, child, at_import and not inside)


def _of(module: str, packages: set[str]) -> bool:
    """Is `module` one of `packages`, or in one?"""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _importing(files: list[Path], packages: set[str], only_at_import: bool = False) -> set[tuple[str, str]]:
    """Which of `files` import which of `packages`."""
    return {
        (file.as_posix(), module)
        for file in files
        for module, at_import in _imports(file)
        if _of(module, packages) and (at_import or not only_at_import)
    }


def test_the_sources_are_found() -> None:
    found = {file.as_posix() for file in _sources()}

    assert {
        "app.py",
        "models/stage.py",
        "phi3_ui/settings.py",
        "phi3_ui/chat/types.py",
        "phi3_ui/ui/layout.py",
    } <= found
    assert _importing([Path("phi3_ui/chat/pipeline_tap.py")], {"transformers"})
    assert not _importing([Path("phi3_ui/chat/pipeline_tap.py")], {"transformers"}, only_at_import=True)


@pytest.mark.parametrize("folder", _MAY_IMPORT)
def test_a_folder_imports_only_what_it_may_know(folder: str) -> None:
    own = folder.replace("/", ".")
    imported = _importing(_sources(folder), {"phi3_ui", "models", "app"})

    assert {(file, module) for file, module in imported if not _of(module, {own, *_MAY_IMPORT[folder]})} == set()


def test_what_all_folders_may_import_knows_none_of_them() -> None:
    neutral = [Path(*module.split(".")).with_suffix(".py") for module in _NEUTRAL]
    folders = {f"phi3_ui.{name}" for name in ("chat", "store", "host", "ui", "setup")}

    assert _importing(neutral, folders) == set()


def test_nothing_below_the_page_imports_it() -> None:
    above = {"app", "phi3_ui.cli", "phi3_ui.__main__"}
    page = {Path("app.py"), *_sources("phi3_ui/cli"), Path("phi3_ui/__main__.py"), *_sources("phi3_ui/ui")}
    below = [file for file in _sources() if file not in page]

    assert _importing(below, {"phi3_ui.ui"}) == set()
    assert _importing(_sources("phi3_ui/ui"), above) == set()


def test_only_the_page_imports_gradio() -> None:
    without = [file for file in _sources() if file.parent != Path("phi3_ui/ui") or file.name in _WITHOUT_GRADIO_IN_UI]

    assert _importing(without, {"gradio", "gradio_client"}) == set()


def test_only_models_bring_engines_in_at_their_import() -> None:
    outside = [file for file in _sources() if file.parts[0] != "models"]

    assert _importing(outside, _ENGINES, only_at_import=True) == set()


def _loaded_by(statement: str, environment: dict[str, str]) -> dict[str, list[str] | dict[str, str]]:
    """The top-level modules, and the environment, of a fresh process after `statement`."""
    script = (
        f"{statement}\nimport json, os, sys\n"
        "modules = sorted({name.split('.')[0] for name in sys.modules})\n"
        "print(json.dumps({'modules': modules, 'environment': dict(os.environ)}))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    """This process's environment as it is before the project is imported."""
    return {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF}


@pytest.mark.parametrize("module", ["app", "phi3_ui.ui.layout"])
def test_the_page_opens_without_an_engine(module: str) -> None:
    loaded = set(_loaded_by(f"import {module}", _environment())["modules"])

    assert "mlflow" in loaded
    assert loaded & _ENGINES == set()


def test_telemetry_is_off_from_the_first_import_whatever_the_environment_says() -> None:
    switches = {"DO_NOT_TRACK", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"}
    switches |= {"MLFLOW_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY"}
    assert switches <= TELEMETRY_OFF.keys()

    for environment in (_environment(), {**_environment(), **dict.fromkeys(TELEMETRY_OFF, "")}):
        after = _loaded_by("import phi3_ui", environment)
        assert {name: after["environment"].get(name) for name in TELEMETRY_OFF} == TELEMETRY_OFF
        assert {"mlflow", "gradio", "huggingface_hub"}.isdisjoint(after["modules"])
