"""Rewrite the graph of an exported decoder for the batched engine: any new tokens of any rows in one step.

An exported graph takes the same number of new tokens in each row, and counts the cached ones by attention_mask. The rewritten
graph takes, for T new tokens in R rows with at most S new tokens each:

- input_ids [T]: the new tokens of all rows, packed row by row;
- pad_index [R, S]: for each row the indexes of its tokens among the packed ones (any index as padding);
- unpad_index [T, 2]: for each packed token its row, and its index among the new tokens of the row;
- seqlens_k [R], query_seqlens [R], total_sequence_length: as GroupQueryAttention defines them. query_seqlens, the number of
  new tokens of each row, is its 17th input since onnxruntime 1.32; a row without new tokens is left unchanged;
- row_positions [R, S], only with LongRoPE: the positions in a rotary cache with the rows of the short factors followed by those
  of the long ones;
- logits_index [A]: the packed tokens whose logits are needed;
- past_key_values.*: [R, heads, length, size]; present.* must be bound to the same memory.

The graph is split into segments, see segments.py.

This module and the package onnx are only needed to log a model, or to rewrite one that was logged without a rewritten graph. The
weights stay in their files.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from .folder import LONG_ROPE_OFFSET, ROPE_CACHES, BatchedGraph, UnfitGraphError
from .segments import split_graph

# Inputs of GroupQueryAttention.
_QUERY, _KEY, _VALUE, _SEQLENS, _TOTAL, _COS, _SIN, _POSITIONS, _QUERY_SEQLENS = 0, 1, 2, 5, 6, 7, 8, 9, 16
_INPUTS = {
    "input_ids",
    "seqlens_k",
    "query_seqlens",
    "total_sequence_length",
    "pad_index",
    "unpad_index",
    "logits_index",
}


def rewrite_graph(file: Path) -> BatchedGraph:
    """Rewrite the model in `file`. Raises UnfitGraphError if the graph is not supported, OSError if the file cannot be read."""
    try:
        return _rewrite(onnx.load(file, load_external_data=False), file.parent)
    except (OSError, UnfitGraphError):
        raise
    except Exception as error:  # the errors of protobuf and onnx have no common class, and a graph may lack anything
        raise UnfitGraphError(f"{file.name} cannot be read ({type(error).__name__})") from error


def _rewrite(model: Any, folder: Path) -> BatchedGraph:
    graph = model.graph
    attentions = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    if not attentions:
        raise UnfitGraphError("its attention is not GroupQueryAttention")
    if any(any(node.input[_POSITIONS:]) for node in attentions):
        raise UnfitGraphError("its attention has further inputs")
    offset, caches = _join_rotary_caches(graph, attentions, folder)
    _replace_lengths(graph, attentions)
    for node in attentions:
        node.input.extend([""] * (_QUERY_SEQLENS + 1 - len(node.input)))
        node.input[_QUERY_SEQLENS] = "query_seqlens"
        if offset:
            node.input[_POSITIONS] = "row_positions"
        _pad_around(graph, node)
    _choose_logits(graph)
    _remove_unread(graph)
    _declare(graph, has_long_rope=bool(offset))
    if offset:
        helper.set_model_props(model, {LONG_ROPE_OFFSET: str(offset)})
    return BatchedGraph(split_graph(model), caches)


def _join_rotary_caches(graph: Any, attentions: Iterable[Any], folder: Path) -> tuple[int, dict[str, Any]]:
    """Let each row choose its LongRoPE factors, whereas the export chooses one of two caches for all rows (by an If node).

    Returns the offset of the long factors, and the caches by name for the file ROPE_CACHES; 0 and no caches without LongRoPE.
    """
    producers = _map_producers(graph)
    selectors = {name: producers.get(name) for node in attentions for name in node.input[_COS : _SIN + 1] if name}
    if not any(selectors.values()):
        return 0, {}
    selector = next(node for node in selectors.values() if node is not None)
    if selector.op_type != "If" or any(node is not selector for node in selectors.values()):
        raise UnfitGraphError("its rotary cache is computed")
    branches = {attribute.name: attribute.g for attribute in selector.attribute}
    long, short = (_read_constants(branches[name], folder) for name in ("then_branch", "else_branch"))
    if len(long[0]) < len(short[0]):
        raise UnfitGraphError("its rotary caches are in another order")
    caches, start = dict[str, Any](), 0
    for name, of_short, of_long in zip(selector.output, short, long, strict=True):
        cache = caches[name] = np.concatenate([of_short, of_long])
        tensor = numpy_helper.from_array(cache, name)
        set_external_data(tensor, ROPE_CACHES, start, cache.nbytes)
        tensor.ClearField("raw_data")
        graph.initializer.append(tensor)
        start += cache.nbytes
    graph.node.remove(selector)
    return len(short[0]), caches


def _read_constants(branch: Any, folder: Path) -> list[Any]:
    """Return the constant arrays that a branch of an If node outputs."""
    constants = {tensor.name: tensor for tensor in branch.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in branch.node if node.op_type == "Constant"}
    if any(output.name not in constants for output in branch.output):
        raise UnfitGraphError("its rotary cache is computed")
    return [numpy_helper.to_array(constants[output.name], base_dir=str(folder)) for output in branch.output]


def _replace_lengths(graph: Any, attentions: list[Any]) -> None:
    """Replace the lengths computed from attention_mask by inputs."""
    if any(len({node.input[at] for node in attentions}) != 1 for at in (_SEQLENS, _TOTAL)):
        raise UnfitGraphError("its layers count tokens in different ways")
    renamed = {attentions[0].input[_SEQLENS]: "seqlens_k", attentions[0].input[_TOTAL]: "total_sequence_length"}
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = renamed.get(name, name)


def _pad_around(graph: Any, attention: Any) -> None:
    """Pad the inputs of an attention node to rows of S tokens, and pack its output again."""
    at, before = list(graph.node).index(attention), []
    for number in (_QUERY, _KEY, _VALUE):  # key and value may be packed into the query
        if name := attention.input[number]:
            before.append(helper.make_node("Gather", [name, "pad_index"], [f"{name}.padded"]))
            attention.input[number] = f"{name}.padded"
    out = attention.output[0]
    attention.output[0] = f"{out}.padded"
    _insert(graph, at + 1, [helper.make_node("GatherND", [f"{out}.padded", "unpad_index"], [out])])
    _insert(graph, at, before)


def _choose_logits(graph: Any) -> None:
    """Let lm_head compute the logits of logits_index only; some exports compute the last token's, others all."""
    producers = _map_producers(graph)
    head = producers.get("logits")
    while head is not None and head.op_type not in ("MatMulNBits", "MatMul"):  # a Cast, or a Mul by a scale
        head = next((producers[name] for name in head.input if name in producers), None)
    if head is None:
        raise UnfitGraphError("its logits are not computed by a matrix product")
    states = head.input[0]
    if states in producers and producers[states].op_type == "Unsqueeze":  # after a Gather of the last token
        states = producers[producers[states].input[0]].input[0]
    _insert(
        graph,
        list(graph.node).index(head),
        [helper.make_node("Gather", [states, "logits_index"], ["packed.chosen"])],
    )
    head.input[0] = "packed.chosen"


def _remove_unread(graph: Any) -> None:
    """Remove nodes and inputs that are no longer read."""
    read, count = set[str](), 0
    while count != len(graph.node):
        count = len(graph.node)
        read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        _filter(graph.node, partial(_is_read, read))
    _filter(graph.input, lambda value: value.name in read)


def _declare(graph: Any, has_long_rope: bool) -> None:
    """Declare inputs and outputs. Raises UnfitGraphError if there are any others."""
    int32, int64 = TensorProto.INT32, TensorProto.INT64
    new = [
        ("seqlens_k", int32, ["rows"]),
        ("query_seqlens", int32, ["rows"]),
        ("total_sequence_length", int32, []),
        ("pad_index", int64, ["rows", "row_tokens"]),
        ("unpad_index", int64, ["tokens", 2]),
        ("logits_index", int64, ["answers"]),
        *([("row_positions", int64, ["rows", "row_tokens"])] if has_long_rope else []),
    ]
    graph.input.extend(helper.make_tensor_value_info(*one) for one in new)
    del graph.value_info[:]  # they declare the shapes of the export
    known = _INPUTS | {"row_positions"}
    for value in [*graph.input, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.name.startswith(("past_key_values.", "present.")):
            if value.type.tensor_type.elem_type != TensorProto.FLOAT:
                raise UnfitGraphError("its keys and values are not in 32 bits")
            dims[0].dim_param = "rows"
        elif value.name == "logits":
            if value.type.tensor_type.elem_type != TensorProto.FLOAT:
                raise UnfitGraphError("its logits are not in 32 bits")
            del dims[1:-1]
            dims[0].dim_param = "answers"
        elif value.name == "input_ids":
            del dims[1:]
            dims[0].dim_param = "tokens"
        elif value.name not in known:
            raise UnfitGraphError(f"it has the unexpected input or output {value.name}")


def _is_read(read: set[str], node: Any) -> bool:
    return any(output in read for output in node.output if output)


def _map_producers(graph: Any) -> dict[str, Any]:
    return {output: node for node in graph.node for output in node.output}


def _insert(graph: Any, at: int, nodes: Iterable[Any]) -> None:
    for offset, node in enumerate(nodes):
        graph.node.insert(at + offset, node)


def _filter(items: Any, keep: Callable[[Any], bool]) -> None:
    """Remove items from a repeated field, except those to keep."""
    kept = [item for item in items if keep(item)]
    del items[:]
    items.extend(kept)
