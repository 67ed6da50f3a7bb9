"""Splits a graph into segments of whole layers, each a model of its own, which are run one after another.

The step of other rows can then come between two segments of a long piece of prompt (layered prefill).

Only logging a model needs this module, and the package onnx.
"""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import TensorProto, helper

from .folder import SEGMENTS

MAX_SEGMENTS = 6
"""More shorten the gaps of other rows hardly any more; between two segments some 0.1 ms are lost."""
_MAX_CARRIED = 4
"""Tensors that one segment hands to the next: two in known exports, the residual stream and what is added to it."""


def split_graph(model: Any) -> list[bytes]:
    """Split a rewritten graph (see graph.py) into segments of about as many layers; one where it cannot be cut.

    The first has their number as a property. What a segment computes for later ones are further outputs of it, and inputs of
    those that read it, with the same names. Weights stay where they are.
    """
    nodes = list(model.graph.node)
    layers = [at for at, node in enumerate(nodes) if node.op_type == "GroupQueryAttention"]
    count = min(MAX_SEGMENTS, len(layers))
    made_at = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    read_at = {name: at for at, node in enumerate(nodes) for name in node.input if name in made_at}

    def carried(cut: int) -> list[str]:
        """What is computed before the node at `cut`, and read from there on."""
        return [name for name, at in made_at.items() if at < cut <= read_at.get(name, -1)]

    cuts = [0]
    for number in range(1, count):
        layer = number * len(layers) // count
        cut = min(range(layers[layer - 1] + 1, layers[layer] + 1), key=lambda at: len(carried(at)))
        if len(carried(cut)) <= _MAX_CARRIED:
            cuts.append(cut)
    segments = [
        _segment(model, nodes[start:end], carried(start), carried(end))
        for start, end in zip(cuts, [*cuts[1:], len(nodes)], strict=True)
    ]
    helper.set_model_props(
        segments[0], {**{one.key: one.value for one in model.metadata_props}, SEGMENTS: str(len(segments))}
    )
    return [bytes(segment.SerializeToString()) for segment in segments]


def _segment(model: Any, nodes: list[Any], before: Iterable[str], after: Iterable[str]) -> Any:
    """A model of some of the nodes. `before` and `after` are what is carried into them, and past them."""
    read = {name for node in nodes for name in node.input}
    made = {name for node in nodes for name in node.output}
    whole = model.graph
    graph = helper.make_graph(
        nodes,
        whole.name,
        [*(one for one in whole.input if one.name in read), *(_declare(name) for name in before if name in read)],
        [*(one for one in whole.output if one.name in made), *(_declare(name) for name in after if name in made)],
        [one for one in whole.initializer if one.name in read],
    )
    return helper.make_model(
        graph, ir_version=model.ir_version, opset_imports=model.opset_import, functions=model.functions
    )


def _declare(name: str) -> Any:
    """Keys, values and logits are in 32 bits, thus also what lies between the layers."""
    return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
