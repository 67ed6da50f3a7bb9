"""Select the engine that runs a model."""

import logging
from dataclasses import dataclass
from typing import Literal, get_args

from .engine import Engine
from .folder import BATCHED_GRAPH, BatchedGraph, OnnxFolder, UnfitGraphError

logger = logging.getLogger(__name__)

Choice = Literal["genai", "batched", "auto"]
"""Both `batched` and `auto` use the batched engine if possible, and fall back to genai; only `batched` logs a warning then."""
CHOICES = get_args(Choice)

Reason = Literal["", "chosen", "device", "graph", "no_graph", "failed"]


@dataclass(frozen=True)
class Batching:
    """Whether a model answers several requests in one step, and why if not."""

    reason: Reason = ""
    """Empty: it does. `chosen`: the other engine was requested; `device`: the model was built for a device other than the CPU;
    `graph`: its graph is not supported, or is not the one that genai_config.json declares; `no_graph`: the model was logged
    without the rewritten graph, and onnx is not installed to rewrite it now; `failed`: onnxruntime rejected it."""
    detail: str = ""
    """In English."""


class NotBatchedError(Exception):
    """The batched engine cannot run a model."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.batching = Batching(reason, detail)


def open_engine(folder: OnnxFolder, choice: Choice, threads: int, budget: int) -> tuple[Engine, Batching]:
    """Load a model; `budget` is the memory for keys and values, in bytes. Errors of ONNX Runtime GenAI may be raised."""
    batching = Batching("chosen")
    if choice != "genai":
        try:
            return _open_batched(folder, threads, budget), Batching()
        except NotBatchedError as error:
            level = logging.WARNING if choice == "batched" else logging.INFO
            logger.log(level, "%s answers one request at a time (%s)", folder.path.name, error)
            batching = error.batching
    from .genai import GenaiEngine  # imported on demand, because it takes a while

    return GenaiEngine(folder, threads), batching


def _open_batched(folder: OnnxFolder, threads: int, budget: int) -> Engine:
    """Open the batched engine. Raises NotBatchedError."""
    if not folder.is_for_cpu:
        raise NotBatchedError("device")
    graph = None if folder.batched_graph().exists() else _rewrite(folder)
    try:
        from .batched import BatchedEngine

        return BatchedEngine(folder, graph, threads, budget)
    except UnfitGraphError as error:
        raise NotBatchedError("graph", str(error)) from error
    except Exception as error:  # onnxruntime's errors have no common class
        logger.info("%s cannot be batched", folder.path.name, exc_info=error)
        raise NotBatchedError("failed", str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _rewrite(folder: OnnxFolder) -> BatchedGraph:
    try:
        from .graph import rewrite_graph
    except ImportError as error:
        raise NotBatchedError("no_graph", f"there is no {BATCHED_GRAPH}") from error
    try:
        return rewrite_graph(folder.graph)
    except (UnfitGraphError, OSError) as error:
        raise NotBatchedError("graph", str(error)) from error
