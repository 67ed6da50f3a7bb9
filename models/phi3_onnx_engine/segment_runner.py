"""Run the segments of a rewritten graph (see segments.py) in sequence, on the rows of a KV pool."""

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from .folder import SEGMENTS, BatchedGraph, OnnxFolder, UnfitGraphError
from .kv_pool import Tensor

logger = logging.getLogger(__name__)

_LOG_SEVERITY = 3  # onnxruntime's level for errors
_MAX_SEGMENTS = 64  # limit for graphs from elsewhere; this project's have a few
_MAX_IDLE_STEPS = 4  # kept for reuse: the current decode step, full prefill chunks, and a few others
_PAST, _PRESENT = "past_key_values.", "present."


class HasIndex(Protocol):
    """A row of the pool."""

    index: int


class SegmentRunner:
    """The sessions of a model's segments, in order. Not thread-safe.

    They share the thread pool of the process: with separate pools, the threads of one would still spin while the next one runs.
    """

    def __init__(self, folder: OnnxFolder, graph: BatchedGraph | None, threads: int) -> None:
        """Load `graph`, or the one in the folder. Raises UnfitGraphError if a segment is missing, and any error of onnxruntime."""
        _share_threads(threads)
        options = ort.SessionOptions()
        options.use_per_session_threads = False
        options.log_severity_level = _LOG_SEVERITY
        options.enable_mem_pattern = False  # a pattern would be cached for each combination of lengths
        if graph:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.path))
            if caches := graph.rope_caches:
                values = [ort.OrtValue.ortvalue_from_numpy(cache) for cache in caches.values()]
                options.add_external_initializers([*caches], values)
        first = _open(graph.segments[0] if graph else folder.batched_graph(), options)
        self.properties: dict[str, str] = first.get_modelmeta().custom_metadata_map
        count = int(self.properties.get(SEGMENTS, 1))
        if not 1 <= count <= _MAX_SEGMENTS:
            raise UnfitGraphError(f"it names {count} segments")
        others: Sequence[bytes | Path] = (
            graph.segments[1:] if graph else [folder.batched_graph(at) for at in range(2, count + 1)]
        )
        if missing := [one.name for one in others if isinstance(one, Path) and not one.exists()]:
            raise UnfitGraphError(f"{missing[0]} is missing")
        self._segments = [_Segment(session) for session in (first, *(_open(one, options) for one in others))]
        self._names: list[str] = []
        self._tensors: list[Tensor] = []
        self._idle_steps: list[_Step] = []

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self._segments)

    @property
    def shapes(self) -> dict[str, list[Any]]:
        """The shapes of all inputs and outputs, as declared."""
        return {name: shape for segment in self._segments for name, shape in segment.shapes.items()}

    def use_pool(self, names: list[str], tensors: list[Tensor]) -> None:
        """Read and write keys and values, by these names, in the given memory from now on."""
        self._names, self._tensors = names, tensors
        for segment in self._segments:
            segment.bindings.clear()

    def run(
        self, rows: Sequence[HasIndex], count: int, inputs: dict[str, Any], logits: Tensor, run_options: Any
    ) -> Generator[None]:
        """Run all segments on `count` rows of the pool, starting with the first of `rows`; suspend between two segments.

        The last segment writes the logits. While suspended, other rows may be computed, and a single row may move.
        """
        step = self._take_step(inputs)
        for number, segment in enumerate(self._segments):
            if number:
                yield
            binding = self._bind(segment, rows[0].index, count, step)
            if "logits" in segment.shapes:
                binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
            segment.session.run_with_iobinding(binding, run_options)
            if any(name not in step.carried for name in segment.carried):
                # The last outputs bound, since only a segment that carries nothing has the logits.
                step.carried |= zip(segment.carried, binding.get_outputs()[-len(segment.carried) :], strict=True)
        self._keep_step(step)

    def _take_step(self, inputs: dict[str, Any]) -> "_Step":
        """Return the tensors of a step with these inputs: those of an earlier step of the same shape, unless it is suspended."""
        shapes = [array.shape for array in inputs.values()]
        for step in self._idle_steps:
            if step.shapes == shapes:
                self._idle_steps.remove(step)
                for name, array in inputs.items():
                    np.copyto(step.inputs[name], array)
                return step
        return _Step({name: array.copy() for name, array in inputs.items()}, shapes)  # contiguous: bound without a copy

    def _keep_step(self, step: "_Step") -> None:
        """Keep the tensors of a finished step for reuse, and free those of the least recently used one if there are too many."""
        self._idle_steps.append(step)
        if len(self._idle_steps) > _MAX_IDLE_STEPS:
            freed = self._idle_steps.pop(0)
            for segment in self._segments:
                segment.bindings = {rows: bound for rows, bound in segment.bindings.items() if bound.step is not freed}

    def _bind(self, segment: "_Segment", first: int, count: int, step: "_Step") -> Any:
        """Bind a step's tensors, and the keys and values of these rows, which are read and written in place."""
        bound = segment.bindings.get((first, count))
        if bound is None:
            bound = segment.bindings[first, count] = _Binding(segment.session.io_binding())
            for name, tensor in zip(self._names, self._tensors, strict=True):
                if _PAST + name in segment.shapes:
                    rows = tensor[first : first + count]
                    for bind, prefix in ((bound.binding.bind_input, _PAST), (bound.binding.bind_output, _PRESENT)):
                        bind(f"{prefix}{name}", "cpu", 0, np.float32, rows.shape, rows.ctypes.data)
        if bound.step is not step or bound.allocates:
            segment.bind_step(bound, step)
        return bound.binding


@dataclass(eq=False)
class _Step:
    """The tensors of a step other than keys, values and logits. Binding new ones for each step takes an eighth of a decode step."""

    inputs: dict[str, Any]
    shapes: list[tuple[int, ...]]
    """Of the inputs, in their order."""
    carried: dict[str, Any] = field(default_factory=dict)
    """Tensors passed from segment to segment, allocated by onnxruntime when they are first computed."""


@dataclass
class _Binding:
    """The keys and values of some rows, bound to a session, and the tensors of the last step on them."""

    binding: Any
    step: _Step | None = None
    allocates: bool = False
    """Whether onnxruntime allocates some of the carried tensors, since they were never computed."""


class _Segment:
    """One session, with its inputs and outputs other than keys, values and logits."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.shapes = {one.name: list(one.shape) for one in (*session.get_inputs(), *session.get_outputs())}
        self.inputs = [one.name for one in session.get_inputs() if not one.name.startswith(_PAST)]
        written = [one.name for one in session.get_outputs()]
        self.carried = [name for name in written if name != "logits" and not name.startswith(_PRESENT)]
        self.bindings: dict[tuple[int, int], _Binding] = {}
        """By first row and number of rows."""

    def bind_step(self, bound: _Binding, step: _Step) -> None:
        """Bind a step's tensors."""
        for name in self.inputs:
            if name in step.carried:
                bound.binding.bind_ortvalue_input(name, step.carried[name])
            elif name in step.inputs:
                bound.binding.bind_cpu_input(name, step.inputs[name])
        for name in self.carried:
            if name in step.carried:
                bound.binding.bind_ortvalue_output(name, step.carried[name])
            else:
                bound.binding.bind_output(name, "cpu")
        bound.step = step
        bound.allocates = any(name not in step.carried for name in self.carried)


def _open(model: bytes | Path, options: Any) -> Any:
    return ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )


def _share_threads(count: int) -> None:
    """Make the sessions of this process share a pool of `count` threads. Only the first call in a process has an effect."""
    try:
        ort.set_global_thread_pool_sizes(count, 1)
    except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common class
        logger.info("The number of threads of this process remains unchanged: %s", error)
