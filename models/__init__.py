"""What gets logged: weights, ONNX builds and the two MLflow models. Imports nothing of phi3_ui."""

import gc
import os

# Each dependency has a switch of its own, which it reads at its import. DO_NOT_TRACK wants the word, not 1, and Gradio
# sets that of the hub to True itself.
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}


def disable_telemetry() -> None:
    """Set the environment of a program so that no dependency reports its use. Call it before importing any of them.

    It overrides what the environment says. It also turns MLflow's progress bars off, unless the environment asks for
    them: they would fill the terminal each time a model's description is read.
    """
    os.environ.update(TELEMETRY_OFF)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def prepare_program() -> None:
    """Prepare the process of a program, before its imports: turn telemetry off, and collect garbage rarely.

    The imports create hundreds of thousands of objects that stay. Scanning them again and again takes a sixth of the time
    of a program that only logs a model or lists some.
    """
    disable_telemetry()
    gc.set_threshold(100_000)
