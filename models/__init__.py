"""Fetch weights, build ONNX models, and log the two kinds of MLflow models. Imports nothing from phi3_ui."""

import gc
import os

# Each dependency has its own switch, which it reads on import. DO_NOT_TRACK needs the word, not 1, and Gradio itself sets the
# hub's switch to True.
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}


def disable_telemetry() -> None:
    """Set the environment of a program so that no dependency sends telemetry. Call it before importing any of them.

    It overrides the environment's values. It also turns off MLflow's progress bars, unless the environment asks for them: they
    would fill the terminal whenever a model's description is read.
    """
    os.environ.update(TELEMETRY_OFF)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def prepare_program() -> None:
    """Prepare the process of a program before its imports: turn off telemetry, and run the garbage collector rarely.

    The imports create hundreds of thousands of permanent objects. Scanning them repeatedly takes a sixth of the run time of a
    program that only logs a model or lists some.
    """
    disable_telemetry()
    gc.set_threshold(100_000)
