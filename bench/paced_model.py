"""A synthetic model that streams TOKEN at PACE by the clock, catching up when late. Logged from code."""

import time
from collections.abc import Iterator
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel

TOKEN = "la "
PACE = 1000  # tokens/s


class Paced(PythonModel):
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        return ["".join(self.predict_stream(context, model_input, params))]

    def predict_stream(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Iterator[str]:
        started = time.perf_counter()
        for count in range((params or {})["max_tokens"]):
            if (early := started + count / PACE - time.perf_counter()) > 0:
                time.sleep(early)
            yield TOKEN


mlflow.models.set_model(Paced())
