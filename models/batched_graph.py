"""The graph of the batched engine, made when a model is logged (models/phi3_onnx_engine/graph.py says what it is)."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

READY = "ready"


def make_batched_graph(folder: Path, device: str) -> tuple[dict[Path, bytes], str]:
    """The files to log beside those of an ONNX Runtime GenAI folder, and what metadata say of batching.

    That is READY, or why the model answers one request at a time; there is no file then.
    """
    if device != "cpu":
        return {}, f"it was built for {device}"
    from models.phi3_onnx_engine.folder import OnnxFolder, UnfitGraphError
    from models.phi3_onnx_engine.graph import rewrite_graph

    declared = OnnxFolder(folder)
    try:
        graph = rewrite_graph(declared.graph)
    except (UnfitGraphError, OSError) as error:
        logger.warning("%s answers one request at a time: %s", folder.name, error)
        return {}, str(error)
    files = {declared.batched_graph(number): segment for number, segment in enumerate(graph.segments, 1)}
    return files | ({declared.rope_caches: graph.rope_file} if graph.rope_caches else {}), READY
