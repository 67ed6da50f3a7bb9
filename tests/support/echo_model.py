"""A third-party model that echoes its prompt."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel


class Echo(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        return [str(prompt) for prompt in model_input["prompt"]]


mlflow.models.set_model(Echo())
