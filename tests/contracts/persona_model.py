"""A model that no contract of the project matches: it answers as a persona, which has its own column."""

from collections.abc import Iterator
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel


class Persona(PythonModel):
    """Repeats the question word by word."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """Return the complete answer."""
        return ["".join(self.predict_stream(context, model_input, params))]

    def predict_stream(
        self, context: Any, model_input: dict[str, str], params: dict[str, Any] | None = None
    ) -> Iterator[str]:
        """Yield the answer word by word, at most `max_tokens` of them."""
        words = f"{model_input['persona']} says: {model_input['question']}".split(" ")
        for number, word in enumerate(words[: (params or {})["max_tokens"]]):
            yield f" {word}" if number else word


mlflow.models.set_model(Persona())
