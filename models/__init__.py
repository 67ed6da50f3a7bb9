"""What gets logged: weights, ONNX builds and the two MLflow models. Imports nothing of phi3_ui.

Importing this package turns the telemetry of every dependency off, so it must come before them.
"""

import os

# Each dependency has a switch of its own, read at its import. DO_NOT_TRACK wants the word, not 1.
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}

os.environ.update(TELEMETRY_OFF)
# Its bars would fill the terminal each time a model's description is read.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
