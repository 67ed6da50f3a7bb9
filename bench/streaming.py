"""Share of a fast model's stream that reaches a client through the whole app, by length of the chat."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
from gradio_client import Client
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from bench.paced_model import PACE, TOKEN
from bench.paths import TextPoint, measure_speed
from bench.rows import Bench, Row
from tests.support.app_server import serve
from tests.support.trust import approve_models

_MESSAGES = (2, 50, 200)  # in the chat, the measured answer included
_TOKENS = 3000


def measure_rows(bench: Bench) -> Iterator[Row]:
    home = bench.temporary / "paced"
    home.mkdir()
    uri = f"sqlite:///{home / 'mlflow.db'}"
    key = log_paced_model(uri, home)
    approve_models(uri, home)
    with serve(home, home / "app.log", variables={"MLFLOW_TRACKING_URI": uri}) as server:
        client = Client(server.url, verbose=False)
        time_answer(client, key, 10)  # warm-up: loads the model
        client.reset_session()
        long_chats = 0
        for messages in _MESSAGES:
            while long_chats < messages // 2 - 1:
                time_answer(client, key, 20)
                long_chats += 1
            rates = []
            for _ in range(bench.rounds):
                rates.append(time_answer(client, key, _TOKENS))
                long_chats += 1
            value = statistics.median(rates) / PACE
            what = f"rate received by a client from a model of 1,000 tokens/s, ÷ 1,000, with {messages} messages in the chat"
            yield Row(what, f"{value:.3f}", "≥ 0.95", value >= 0.95)


def log_paced_model(uri: str, home: Path) -> str:
    """Log the paced model in its own store. Return its id."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        experiment = mlflow.create_experiment("paced", artifact_location=(home / "artifacts").as_uri())
        mlflow.set_experiment(experiment_id=experiment)
        prompt = Schema([ColSpec(DataType.string, "prompt")])
        params = ParamSchema([ParamSpec("max_tokens", DataType.long, 10)])
        info = mlflow.pyfunc.log_model(
            name="paced",
            python_model=str(Path(__file__).with_name("paced_model.py")),
            signature=ModelSignature(prompt, Schema([ColSpec(DataType.string)]), params),
            metadata={"chat_template": "{{ messages[-1].content }}", "special_tokens": []},
            pip_requirements=[],
        )
        return str(info.model_id)
    finally:
        mlflow.set_tracking_uri(before)


def time_answer(client: Client, key: str, tokens: int) -> float:
    """Return the tokens per second at the client, from the first to the last token."""
    started, points = time.perf_counter(), list[TextPoint]()
    job = client.submit("Sing.", key, "", 0.0, 1.0, tokens, api_name="/chat")
    while not job.done():
        time.sleep(0.02)  # as in paths.gradio_client
        outputs = job.outputs()
        count = find_last_answer(outputs[-1][1]).count(TOKEN.strip()) if outputs else 0
        if count and (not points or count > points[-1][1]):
            points.append((time.perf_counter(), count))
    if not points or points[-1][1] != tokens:
        raise RuntimeError(f"{points[-1][1] if points else 0} of {tokens} tokens arrived")
    return measure_speed(started, points, tokens).rate if len(points) > 1 else 0.0


def find_last_answer(chatbot: list[dict[str, Any]]) -> str:
    """Return the text of the answer to the last question."""
    return "".join(message["content"] for message in chatbot[_find_last_question(chatbot) + 1 :])


def _find_last_question(chatbot: list[dict[str, Any]]) -> int:
    return max(index for index, message in enumerate(chatbot) if message["role"] == "user")
