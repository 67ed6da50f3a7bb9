"""A model of somebody else's: says back what it was asked."""

from typing import Any

import mlflow
import pandas as pd


class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        return [str(prompt) for prompt in model_input["prompt"]]


mlflow.models.set_model(Echo())
