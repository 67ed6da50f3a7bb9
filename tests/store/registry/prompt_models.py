"""Small third-party models, logged to a test's own store."""

from typing import Any

import mlflow

from phi3_ui.paths import ROOT

DECLARED = {"contract": "prompt", "chat_template": "{{ messages[-1].content }}", "context_length": 100}
"""The metadata that makes a model chat-capable."""


def log_prompt_model(uri: str, name: str, metadata: dict[str, Any], in_run: bool = False) -> str:
    """Log a model that echoes its prompt, outside of a run by default, and return its id."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("models")
    code = ROOT / "tests" / "support" / "echo_model.py"
    arguments: dict[str, Any] = {"name": name, "python_model": str(code), "metadata": metadata, "pip_requirements": []}
    if in_run:
        with mlflow.start_run(run_name="a run"):
            mlflow.log_metric("loss", 0.5)
            return str(mlflow.pyfunc.log_model(**arguments).model_id)
    return str(mlflow.pyfunc.log_model(**arguments).model_id)
