"""Finds uses of API that ONNX Runtime GenAI has removed, in logged code. The code is parsed, never run."""

import ast
import pickletools
from contextlib import suppress

ENGINE = "onnxruntime_genai"

_PARSE_ATTEMPTS = 5

# Removed in 0.6; older tutorials use it: `params.input_ids = …`, `generator.compute_logits()`, `model.generate(params)`.
_ATTRIBUTES = ("input_ids",)
_METHODS = ("compute_logits",)


def find_removed_api_in_source(source: str) -> list[str]:
    """Return the removed API that a Python file uses, sorted; empty if it does not import the engine. Raises SyntaxError."""
    tree = _parse(source)
    if not any(_imports_engine(node) for node in ast.walk(tree)):
        return []
    models = {ast.unparse(target) for target in _model_variables(tree)}
    return sorted({name for node in ast.walk(tree) if (name := _removed_api(node, models))})


def find_removed_api_in_pickle(pickled: bytes) -> list[str]:
    """Return the same for a pickled model, whose code is in the pickle if it was defined in a script or a notebook.

    A pickle contains only names, so only names that are unlikely to mean anything else are reported. Empty for invalid data.
    """
    try:
        strings = {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}
    except Exception:  # noqa: BLE001 - genops fails in many ways on invalid data
        return []
    if ENGINE not in strings:
        return []
    return sorted(
        [f".{name}" for name in _ATTRIBUTES if name in strings] + [f".{name}()" for name in _METHODS if name in strings]
    )


def _parse(source: str) -> ast.Module:
    """Parse Python source. Raises SyntaxError.

    Retries after a SystemError: Python 3.11 keeps the depth of the tree that it builds per interpreter. If a finalizer runs during
    the parse and parses as well, as formatting a traceback does, or lets another thread do so, the depth is wrong at the end.
    """
    for _ in range(_PARSE_ATTEMPTS - 1):
        with suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


def _imports_engine(node: ast.AST) -> bool:
    match node:
        case ast.Import(names):
            return any(alias.name.partition(".")[0] == ENGINE for alias in names)
        case ast.ImportFrom(str(module)):
            return module.partition(".")[0] == ENGINE
    return False


def _model_variables(tree: ast.AST) -> list[ast.expr]:
    """Return the targets of assignments of `Model(…)`, such as `model` or `self.model`."""
    return [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if ast.unparse(node.value.func).rpartition(".")[2] == "Model"
        for target in node.targets
    ]


def _removed_api(node: ast.AST, models: set[str]) -> str:
    """Return the removed API that this node uses; empty if none."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Store()) if name in _ATTRIBUTES:
            return f".{name}"
        case ast.Call(func=ast.Attribute(attr=name)) if name in _METHODS:
            return f".{name}()"
        case ast.Call(func=ast.Attribute(value=receiver, attr="generate")) if ast.unparse(receiver) in models:
            return ".generate()"
    return ""
