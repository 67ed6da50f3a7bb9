"""Split a graph into segments of whole layers, each a separate model, which are run in sequence.

Steps of other rows can then run between two segments of a long prefill chunk (layered prefill).

Like graph.py, this module needs the package onnx, and is only used where a graph is rewritten.
"""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import TensorProto, helper

from .folder import SEGMENTS

MAX_SEGMENTS = 6
"""More segments hardly shorten the gaps of other rows; each boundary between two segments costs about 0.1 ms."""
_MAX_CARRIED = 4
"""Maximum number of tensors passed to the next segment: two in known exports, the residual stream and what is added to it."""


def split_graph(model: Any) -> list[bytes]:
    """Split a rewritten graph (see graph.py) into segments of about equally many layers; only one if it cannot be cut.

    The first segment has their number as a property. Tensors that later segments read become additional outputs of the segment
    that computes them, and inputs of those that read them, with the same names. The weights stay in their files.
    """
    nodes = list(model.graph.node)
    layers = [at for at, node in enumerate(nodes) if node.op_type == "GroupQueryAttention"]
    count = min(MAX_SEGMENTS, len(layers))
    produced_at = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    read_at = {name: at for at, node in enumerate(nodes) for name in node.input if name in produced_at}

    def list_carried(cut: int) -> list[str]:
        """List the tensors that are computed before the node at `cut`, and read at or after it."""
        return [name for name, at in produced_at.items() if at < cut <= read_at.get(name, -1)]

    cuts = [0]
    for number in range(1, count):
        layer = number * len(layers) // count
        cut = min(range(layers[layer - 1] + 1, layers[layer] + 1), key=lambda at: len(list_carried(at)))
        if len(list_carried(cut)) <= _MAX_CARRIED:
            cuts.append(cut)
    segments = [
        _build_segment(model, nodes[start:end], list_carried(start), list_carried(end))
        for start, end in zip(cuts, [*cuts[1:], len(nodes)], strict=True)
    ]
    helper.set_model_props(
        segments[0], {**{one.key: one.value for one in model.metadata_props}, SEGMENTS: str(len(segments))}
    )
    return [bytes(segment.SerializeToString()) for segment in segments]


def _build_segment(model: Any, nodes: list[Any], before: Iterable[str], after: Iterable[str]) -> Any:
    """Build a model from some of the nodes. `before` and `after` are the tensors carried across their start and end."""
    read = {name for node in nodes for name in node.input}
    produced = {name for node in nodes for name in node.output}
    whole = model.graph
    graph = helper.make_graph(
        nodes,
        whole.name,
        [*(one for one in whole.input if one.name in read), *(_declare(name) for name in before if name in read)],
        [
            *(one for one in whole.output if one.name in produced),
            *(_declare(name) for name in after if name in produced),
        ],
        [one for one in whole.initializer if one.name in read],
    )
    return helper.make_model(
        graph, ir_version=model.ir_version, opset_imports=model.opset_import, functions=model.functions
    )


def _declare(name: str) -> Any:
    """Declare a carried tensor: like keys, values and logits, it is in 32 bits."""
    return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
