"""Which engine runs a model."""

from .engine import Engine
from .folder import OnnxFolder


def open_engine(folder: OnnxFolder, threads: int) -> Engine:
    """Load a model. Any error of its engine may be raised."""
    from .genai import GenaiEngine  # imported when needed: it takes a while

    return GenaiEngine(folder, threads)
