"""Log an ONNX Runtime GenAI folder as an MLflow model: the wrapper in phi3_onnx.py with the folder as its artifact."""

import argparse
import time
from pathlib import Path
from typing import Any, Literal, get_args

from models import prepare_program

if __name__ == "__main__":
    prepare_program()  # before the imports

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from models import phi3_onnx
from models.batched_graph import make_batched_graph
from models.checkpoint_facts import client_facts, require_model
from models.linked_logging import linked_logging
from models.model_card import read_model_card
from models.presets import Origin
from models.stage import Report, run_as_program
from models.tracking import (
    Logged,
    Store,
    add_store_arguments,
    folder_size,
    log_model,
    model_run,
    parse_origin,
    pin_versions,
    provenance,
    register_logged,
    store_from_arguments,
)
from models.wrapper_code import code_metadata, copied_code

CONTRACT = "prompt"

Device = Literal["cpu", "cuda", "directml"]

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
            ParamSpec("presence_penalty", DataType.double, _DEFAULTS.presence_penalty),
            ParamSpec("frequency_penalty", DataType.double, _DEFAULTS.frequency_penalty),
            ParamSpec("stop", DataType.string, list(_DEFAULTS.stop), shape=(-1,)),
            ParamSpec("seed", DataType.long, _DEFAULTS.seed),
            ParamSpec("n", DataType.long, _DEFAULTS.n),
        ]
    ),
)


def log(  # noqa: PLR0913  # keyword-only options with defaults
    folder: Path,
    origin: Origin,
    precision: str,
    store: Store,
    report: Report,
    *,
    device: Device = "cpu",
    measured: bool = True,
    registering: bool = True,
) -> Logged:
    """Measure, log and register. Progress is in steps. A model for a device that is not available here is not measured.

    Raises StageError: wrong_model_folder, no_chat_template.
    """
    folder = folder.absolute()
    require_model(folder, "onnx")
    facts, card = client_facts(folder), read_model_card(folder)
    report(0, 3)
    measured = measured and _is_available(device)
    metrics = {"size_bytes": float(folder_size(folder)), **(measure(folder) if measured else {})}
    report(1, 3)
    name = origin.onnx_name
    tags = {"contract": CONTRACT, "task": "text-generation", **origin.preset_tag}
    recorded = {**provenance(folder, origin), "precision": precision, "device": device}
    params = {
        **recorded,
        "measured": str(measured).lower(),
        "context_length": facts["context_length"],
        **dict(requirement.split("==") for requirement in pin_versions(["onnxruntime-genai", "onnxruntime", "mlflow"])),
    }
    described: dict[str, Any] = {
        "title": origin.title,
        "license": origin.license,
        "summary": card.summary,
        "card_tags": [*card.tags],
    }
    if origin.onnx_degrades_after:
        described["degrades_after"] = origin.onnx_degrades_after
    added, batching = make_batched_graph(folder, device)
    with model_run(store, name, tags, params, metrics), linked_logging(added), copied_code() as (wrapper, engine):
        logged = log_model(
            store,
            mlflow.pyfunc,
            name,
            tags,
            python_model=str(wrapper),
            artifacts={phi3_onnx.ARTIFACT: str(folder)},
            code_paths=[str(engine)],
            # Only settings listed here can be overridden at load time.
            model_config={"end_tokens": facts["end_tokens"], "threads": 0, "cache_mb": 0, "engine": "genai"},
            signature=SIGNATURE,
            streamable=True,
            pip_requirements=pin_versions(["mlflow", "onnxruntime-genai", "onnxruntime", "tokenizers", "pandas"]),
            metadata={
                "contract": CONTRACT,
                **code_metadata(),
                "batching": batching,
                **recorded,
                **described,
                **facts,
            },
        )
    report(2, 3)
    logged = register_logged(logged, store) if registering else logged
    report(3, 3)
    return logged


def _is_available(device: Device) -> bool:
    """Whether the installed engine can run on this device, on this machine."""
    import onnxruntime_genai as og

    available = {"cpu": lambda: True, "cuda": og.is_cuda_available, "directml": og.is_dml_available}
    return bool(available[device]())


def measure(folder: Path) -> dict[str, float]:
    """Measure load_seconds, and tokens_per_second over the 64 tokens after the first."""
    wrapper = phi3_onnx.Phi3Onnx()
    start = time.perf_counter()
    wrapper.load(folder)
    load_seconds = time.perf_counter() - start
    times = [
        time.perf_counter()
        for chunk in wrapper.predict_stream(
            None, {"prompt": "Once upon a time"}, {"max_tokens": 65, "temperature": 0.0}
        )
        if "prompt_progress" not in chunk
    ]
    return {
        "load_seconds": load_seconds,
        "tokens_per_second": (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
    }


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    logged = log(
        arguments.folder,
        parse_origin(arguments),
        arguments.precision,
        store_from_arguments(arguments),
        report,
        device=arguments.device,
        measured=arguments.measure,
        registering=arguments.register,
    )
    return logged.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Log an ONNX Runtime GenAI folder as an MLflow model.")
    add_store_arguments(parser)
    parser.add_argument("--precision", required=True, help="the precision of the folder, to be recorded")
    parser.add_argument("--device", default="cpu", choices=get_args(Device), help="the device it was built for")
    run_as_program(_work, parser)
