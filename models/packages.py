"""Find installed packages, some of which replace another: onnxruntime-genai-cuda is onnxruntime-genai built for CUDA."""

import importlib.metadata
from functools import cache


def find_installed(name: str) -> tuple[str, str]:
    """Return name and version of the package `name`, or of the one that provides its module instead.

    Raises importlib.metadata.PackageNotFoundError if there is none.
    """
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        for other in _list_providers().get(name.replace("-", "_"), ()):
            if other.startswith(f"{name}-"):
                return other, importlib.metadata.version(other)
        raise


@cache
def _list_providers() -> dict[str, list[str]]:
    return {module: list(names) for module, names in importlib.metadata.packages_distributions().items()}
