"""What logged code asks of ONNX Runtime GenAI that it no longer has. The code is read, never run."""

import ast
import pickletools

ENGINE = "onnxruntime_genai"

# Gone since 0.6, with the ways of older tutorials: `params.input_ids = …`, `generator.compute_logits()`, `model.generate(params)`.
_ATTRIBUTES = ("input_ids",)
_METHODS = ("compute_logits",)


def removed_in_source(source: str) -> list[str]:
    """What a Python file uses of the engine's removed API, sorted; nothing if it does not import the engine. SyntaxError."""
    tree = ast.parse(source)
    if not any(_imports_engine(node) for node in ast.walk(tree)):
        return []
    models = {ast.unparse(target) for target in _models(tree)}
    return sorted({name for node in ast.walk(tree) if (name := _removed(node, models))})


def removed_in_pickle(pickled: bytes) -> list[str]:
    """The same for a pickled model, whose code is in the pickle if it was defined in a script or a notebook.

    Only names are known there, so those are looked for that nothing else in such code is called. Empty for what is no pickle.
    """
    try:
        strings = {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}
    except Exception:  # genops raises whatever a broken pickle leads it to
        return []
    if ENGINE not in strings:
        return []
    return sorted(
        [f".{name}" for name in _ATTRIBUTES if name in strings] + [f".{name}()" for name in _METHODS if name in strings]
    )


def _imports_engine(node: ast.AST) -> bool:
    match node:
        case ast.Import(names):
            return any(alias.name.partition(".")[0] == ENGINE for alias in names)
        case ast.ImportFrom(str(module)):
            return module.partition(".")[0] == ENGINE
    return False


def _models(tree: ast.AST) -> list[ast.expr]:
    """What is assigned a Model(…), such as `model` or `self.model`."""
    return [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if ast.unparse(node.value.func).rpartition(".")[2] == "Model"
        for target in node.targets
    ]


def _removed(node: ast.AST, models: set[str]) -> str:
    """The removed thing that this node uses; empty if none."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Store()) if name in _ATTRIBUTES:
            return f".{name}"
        case ast.Call(func=ast.Attribute(attr=name)) if name in _METHODS:
            return f".{name}()"
        case ast.Call(func=ast.Attribute(value=receiver, attr="generate")) if ast.unparse(receiver) in models:
            return ".generate()"
    return ""
