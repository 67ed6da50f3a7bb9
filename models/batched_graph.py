"""Create the graph of the batched engine when a model is logged (see models/phi3_onnx_engine/graph.py)."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

READY = "ready"


def make_batched_graph(folder: Path, device: str) -> tuple[dict[Path, bytes], str]:
    """Return the files to log in addition to an ONNX Runtime GenAI folder, and the value of `batching` in the metadata.

    The value is READY, or the reason why the model answers one request at a time; then there are no files.
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
