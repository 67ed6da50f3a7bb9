"""Imports follow the layering, and importing the project has no side effects."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from phi3_ui.paths import ROOT

_ENGINES = {"torch", "transformers", "onnxruntime_genai"}

# Bottom-up: a package imports only itself and packages before it. docs/architecture.md shows the same order.
_ORDER = [
    "models",
    "phi3_ui.paths",
    "phi3_ui.testing",
    "phi3_ui.errors",
    "phi3_ui.addresses",
    "phi3_ui.logins",
    "phi3_ui.remote_servers",
    "phi3_ui.setting_defaults",
    "phi3_ui.setting_types",
    "phi3_ui.settings",
    "phi3_ui.i18n",
    "phi3_ui.accounts",
    "phi3_ui.chat",
    "phi3_ui.prompts",
    "phi3_ui.runtime",
    "phi3_ui.contracts",
    "phi3_ui.host",
    "phi3_ui.export",
    "phi3_ui.store",
    "phi3_ui.sources",
    "phi3_ui.provision",
    "phi3_ui.evaluation",
    "phi3_ui.arena",
    "phi3_ui.api",
    "phi3_ui.ui",
    "deploy",
    "phi3_ui.cli",
    "phi3_ui.application",
    "phi3_ui.uvicorn_server",
    "phi3_ui.server",
    "phi3_ui.__main__",
    "app",
]
_FILES_WITH_GRADIO = {"phi3_ui/application.py", "phi3_ui/host/zero_gpu.py"}  # the package `spaces` uses Gradio
_FOLDERS_WITH_GRADIO = {"phi3_ui/ui", "phi3_ui/ui/page", "phi3_ui/ui/handlers"}


def _sources(*folders: str) -> list[Path]:
    """Return the source files of these folders (default: all), relative to the root."""
    if not folders:
        return [Path("app.py"), *_sources("phi3_ui", "models", "deploy")]
    return sorted(file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def _imports(file: Path) -> frozenset[tuple[str, bool]]:
    """Return all modules that a file imports, each with whether importing the file imports it."""
    return frozenset(_walk(file, ast.parse((ROOT / file).read_text(encoding="utf-8")), at_import=True))


def _walk(file: Path, node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names):
                yield from ((alias.name, at_import) for alias in names)
            case ast.ImportFrom(module, names, level):
                # `from . import x` counts as its package; `from package import x` may name a module.
                base = [*file.parts[: -1 - (level - 1)]] if level else []
                origin = ".".join([*base, *([module] if module else [])])
                yield from ((f"{origin}.{alias.name}", at_import) for alias in names)
            case _:
                is_deferred = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from _walk(file, child, at_import and not is_deferred)


def _is_in(module: str, packages: set[str]) -> bool:
    """Return whether `module` is one of `packages`, or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _find_imports(files: list[Path], packages: set[str], only_at_import: bool = False) -> set[tuple[str, str]]:
    """Return pairs of a file and a module of `packages` that it imports."""
    return {
        (file.as_posix(), module)
        for file in files
        for module, at_import in _imports(file)
        if _is_in(module, packages) and (at_import or not only_at_import)
    }


def _rank(module: str) -> int:
    """Return the position of the module's package in _ORDER; the package phi3_ui itself (its version) ranks lowest."""
    return next((rank for rank, package in enumerate(_ORDER) if _is_in(module, {package})), -1)


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def test_sources_are_found() -> None:
    found = {file.as_posix() for file in _sources()}

    assert {"app.py", "models/stage.py", "phi3_ui/settings.py", "phi3_ui/chat/types.py"} <= found
    assert _find_imports([Path("phi3_ui/runtime/generation_hook.py")], {"transformers"})
    assert not _find_imports([Path("phi3_ui/runtime/generation_hook.py")], {"transformers"}, only_at_import=True)


def test_every_package_is_in_the_order() -> None:
    assert {_module(file) for file in _sources() if _rank(_module(file)) < 0} == {"phi3_ui"}


def test_imports_only_go_down_the_order() -> None:
    project = {"phi3_ui", "models", "app"}
    upward = {
        (file, module)
        for file, module in _find_imports(_sources(), project)
        if _rank(module) > _rank(_module(Path(file))) >= 0
    }

    assert upward == set()


def test_only_the_page_imports_gradio() -> None:
    without = [
        file
        for file in _sources()
        if file.parent.as_posix() not in _FOLDERS_WITH_GRADIO and file.as_posix() not in _FILES_WITH_GRADIO
    ]

    assert _find_imports(without, {"gradio", "gradio_client"}) == set()


def test_only_models_import_engines_when_imported() -> None:
    outside = [file for file in _sources() if file.parts[0] != "models"]

    assert _find_imports(outside, _ENGINES, only_at_import=True) == set()


def test_importing_the_project_does_not_change_the_environment() -> None:
    at_import = {
        file.as_posix()
        for file in _sources()
        for node in _module_level(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "putenv")
    }

    # MLflow imports the logged wrapper directly, so the wrapper has to set its engine's telemetry switch.
    assert at_import == {"models/phi3_onnx.py"}


def _module_level(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "__name__ == '__main__'":
            continue
        yield child
        yield from _module_level(child)
