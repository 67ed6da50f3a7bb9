"""Convert a Hugging Face checkpoint to an ONNX Runtime GenAI folder, using the engine's own model builder."""

import argparse
import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from models.checkpoint_facts import client_facts, require_known_kind, require_model, token_ids, weight_files
from models.linking import symlink_or_copy
from models.stage import Report, atomic_folder, require_space, run_as_program, scratch_folder


def build(checkpoint: Path, folder: Path, precision: str, report: Report, device: str = "cpu") -> Path:
    """Build `checkpoint` for `device` (cpu, cuda) at `precision` (int4, int8, fp16, fp32) into `folder`, atomically.

    All tokens that end an answer are declared as end tokens. int8 models with tied embeddings store them once, which saves
    about a third of the size. Progress is in steps.

    Raises StageError: wrong_model_folder, no_chat_template, needs_remote_code, disk_full.
    """
    if (folder / "genai_config.json").exists():
        return folder
    require_model(checkpoint, "checkpoint")
    require_known_kind(checkpoint)
    weights = sum(file.stat().st_size for file in weight_files(checkpoint))
    require_space(folder.parent, 2 * weights)
    report(0, 2)
    with atomic_folder(folder) as part, scratch_folder(folder.parent, "build") as scratch:
        source, cache = scratch / "checkpoint", scratch / "cache"
        _link_with_end_tokens(checkpoint, source)
        _declare_sliding_window(source)
        _run_builder(source, part, precision, device, cache)
        report(1, 2)
        if precision == "int8":
            share_embedding(part)
        for file in (*checkpoint.glob("LICENSE*"), *checkpoint.glob("README.md"), *checkpoint.glob("hub.json")):
            shutil.copy(file, part)
    report(2, 2)
    return folder


def _link_with_end_tokens(checkpoint: Path, target: Path) -> None:
    """Link the checkpoint's files into `target`, but write generation_config.json, the engine's only source of end tokens."""
    target.mkdir()
    for file in checkpoint.iterdir():
        if file.is_file() and file.name != "generation_config.json":
            symlink_or_copy(file, target / file.name)
    named = checkpoint / "generation_config.json"
    content = json.loads(named.read_text(encoding="utf-8")) if named.is_file() else {}
    content["eos_token_id"] = token_ids(checkpoint, client_facts(checkpoint)["end_tokens"])
    (target / named.name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _declare_sliding_window(target: Path) -> None:
    """Declare sliding-window attention for each layer of a Phi-3 whose config.json does not specify layer types.

    Otherwise the builder assumes full attention, and the model's output degenerates beyond the window.
    """
    file = target / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("model_type") == "phi3" and config.get("sliding_window") and not config.get("layer_types"):
        config["layer_types"] = ["sliding_attention"] * config["num_hidden_layers"]
        file.unlink()  # it links to the checkpoint's file
        file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _run_builder(checkpoint: Path, out: Path, precision: str, device: str, cache: Path) -> None:
    arguments = ["builder", "-i", str(checkpoint), "-o", str(out), "-p", precision, "-e", device, "-c", str(cache)]
    # A KV cache truncated to the window cannot be shorter than the window, which rules out short answers. Only the last token's
    # logits are needed: computing those of all tokens takes a fifth of the prefill time, and memory.
    arguments += ["--extra_options", "windowed_kv_cache=false", "prune_lm_head=true"]
    # The builder's public interface is its command line. Run it in this process, so that it ends together with the stage.
    before, sys.argv = sys.argv, arguments
    try:
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before


def share_embedding(folder: Path) -> None:
    """Let the token embedding of an int8 model share the quantised lm_head, if the two are tied.

    The builder stores the embedding separately in fp32, which takes 113 of the demo model's 270 MB.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(folder / "model.onnx")
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    embedding = next(
        (n for n in graph.node if n.op_type == "Gather" and n.input[0].endswith("embed_tokens.weight")), None
    )
    head = next((n for n in graph.node if n.op_type == "MatMulNBits" and "lm_head" in n.name), None)
    if embedding is None or head is None or not _is_tied(initializers, embedding, head):
        return
    attributes = {a.name: a.i for a in head.attribute}
    shape = numpy_helper.from_array(np.array([attributes["N"], attributes["K"]], np.int64), "embed_tokens.shape")
    nodes = [
        helper.make_node("Reshape", [head.input[1], shape.name], ["embed_tokens.Q8"], name="/embed_tokens/Reshape"),
        helper.make_node(
            "GatherBlockQuantized",
            ["embed_tokens.Q8", embedding.input[1], head.input[2]],
            list(embedding.output),
            name="/embed_tokens/GatherBlockQuantized",
            domain="com.microsoft",
            bits=8,
            block_size=attributes["block_size"],
            gather_axis=0,
            quantize_axis=1,
        ),
    ]
    position = list(graph.node).index(embedding)
    graph.initializer.remove(initializers[embedding.input[0]])
    graph.initializer.append(shape)
    graph.node.remove(embedding)
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)
    os.remove(folder / "model.onnx.data")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")


def _is_tied(initializers: dict[str, Any], embedding: Any, head: Any) -> bool:
    """Whether embedding and lm_head are the same matrix: compare 64 rows, which quantisation changes by at most one step."""
    import numpy as np
    from onnx import numpy_helper

    if head.input[1] not in initializers or len(head.input) > 3:
        return False
    table = numpy_helper.to_array(initializers[embedding.input[0]])
    codes, scales = (numpy_helper.to_array(initializers[name]) for name in head.input[1:3])
    if codes.size != table.size:
        return False
    rows = np.linspace(0, len(table) - 1, 64, dtype=int)
    step = np.abs(scales.reshape(len(table), -1, 1)[rows])
    blocks = (64, step.shape[1], -1)
    quantized = (codes[rows].reshape(blocks).astype(np.float32) - 128) * scales.reshape(len(table), -1, 1)[rows]
    return bool(np.all(np.abs(quantized - table[rows].reshape(blocks)) <= 1.01 * step + 1e-6))


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    return {"path": str(build(arguments.checkpoint, arguments.folder, arguments.precision, report, arguments.device))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build an ONNX Runtime GenAI folder from a checkpoint.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the ONNX folder to write")
    parser.add_argument("--precision", default="int8", choices=["int4", "int8", "fp16", "fp32"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="the device to build for")
    run_as_program(_work, parser)
