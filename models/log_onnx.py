"""Log an ONNX Runtime GenAI folder as an MLflow model: the wrapper of phi3_onnx.py with the folder as its artifact."""

import argparse
import time
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from models import phi3_onnx
from models.checkpoint_facts import client_facts
from models.presets import Origin
from models.stage import Report, run_as_program
from models.tracking import Store, add_store_arguments, model_run, origin_of, pinned, size_of

WRAPPER = Path(__file__).with_name("phi3_onnx.py")
CONTRACT = "prompt"

_DEFAULTS = phi3_onnx.Options()
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "prompt")]),
    outputs=Schema([ColSpec(DataType.string)]),
    params=ParamSchema(
        [
            ParamSpec("max_tokens", DataType.long, _DEFAULTS.max_tokens),
            ParamSpec("temperature", DataType.double, _DEFAULTS.temperature),
            ParamSpec("top_p", DataType.double, _DEFAULTS.top_p),
            ParamSpec("top_k", DataType.long, _DEFAULTS.top_k),
            ParamSpec("repetition_penalty", DataType.double, _DEFAULTS.repetition_penalty),
            ParamSpec("stop", DataType.string, list(_DEFAULTS.stop), shape=(-1,)),
            ParamSpec("seed", DataType.long, _DEFAULTS.seed),
        ]
    ),
)


def log(folder: Path, origin: Origin, precision: str, store: Store, report: Report) -> str:
    """Measure, then log; the id of the new logged model. Progress in steps."""
    report(0, 2)
    metrics = measure(folder)
    report(1, 2)
    facts = client_facts(folder)
    name = origin.onnx_name
    tags = {"contract": CONTRACT, "task": "text-generation", **origin.preset_tag}
    params = {
        **origin.preset_tag,
        "source": origin.source,
        "precision": precision,
        "context_length": facts["context_length"],
        **dict(requirement.split("==") for requirement in pinned(["onnxruntime-genai", "onnxruntime", "mlflow"])),
    }
    with model_run(store, name, tags, params, metrics):
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(WRAPPER),
            artifacts={phi3_onnx.ARTIFACT: str(folder)},
            signature=SIGNATURE,
            streamable=True,
            pip_requirements=pinned(["mlflow", "onnxruntime-genai", "onnxruntime", "tokenizers", "pandas"]),
            metadata={"contract": CONTRACT, "title": origin.title, "license": origin.license, **facts},
            tags=tags,
        )
    report(2, 2)
    return str(logged.model_id)


def measure(folder: Path) -> dict[str, float]:
    """size_bytes, load_seconds, and tokens_per_second of a warm-up of 64 tokens after the first."""
    wrapper = phi3_onnx.Phi3Onnx()
    start = time.perf_counter()
    wrapper.load(folder, phi3_onnx.usable_cpus())
    load_seconds = time.perf_counter() - start
    times = [
        time.perf_counter()
        for chunk in wrapper.predict_stream(
            None, {"prompt": "Once upon a time"}, {"max_tokens": 65, "temperature": 0.0}
        )
        if "prompt_progress" not in chunk
    ]
    return {
        "size_bytes": float(size_of(folder)),
        "load_seconds": load_seconds,
        "tokens_per_second": (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
    }


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    store = Store(arguments.tracking_uri, arguments.artifacts)
    return {"model_id": log(arguments.folder, origin_of(arguments), arguments.precision, store, report)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Log an ONNX Runtime GenAI folder as an MLflow model.")
    add_store_arguments(parser)
    parser.add_argument("--precision", required=True, help="what the folder was built at, to be recorded")
    run_as_program(_work, parser)
