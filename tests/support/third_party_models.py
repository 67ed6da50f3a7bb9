"""Third-party chat models. `python -m tests.support.third_party_models URI FOLDER` logs all of them and prints their ids.

When run as a program, its classes are pickled by value, like those of a notebook.
"""

import json
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import ChatAgent, ChatModel, PythonModel, ResponsesAgent
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.agent import ChatAgentChunk, ChatAgentMessage, ChatAgentResponse
from mlflow.types.llm import (
    ChatChoice,
    ChatChoiceDelta,
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatCompletionResponse,
    ChatMessage,
    ChatParams,
    TokenUsageStats,
)
from mlflow.types.responses import (
    ResponsesAgentRequest,
    ResponsesAgentResponse,
    ResponsesAgentStreamEvent,
)

from tests.support.tiny_phi3 import make_checkpoint

PROMPT_TO_STRING = ModelSignature(Schema([ColSpec(DataType.string, "prompt")]), Schema([ColSpec(DataType.string)]))
WITH_PARAMS = ModelSignature(
    Schema([ColSpec(DataType.string, "question")]),
    Schema([ColSpec(DataType.string, "answer")]),
    ParamSchema([ParamSpec("temperature", DataType.double, 0.5), ParamSpec("max_tokens", DataType.long, 16)]),
)
NUMBERS = ModelSignature(Schema([ColSpec(DataType.double, "x")]), Schema([ColSpec(DataType.double)]))
STRING_TO_VECTOR = ModelSignature(
    Schema([ColSpec(DataType.string)]), Schema([TensorSpec(np.dtype("float64"), (-1, 3))])
)
TWO_STRINGS = ModelSignature(
    Schema([ColSpec(DataType.string, "text"), ColSpec(DataType.string, "language")]), Schema([ColSpec(DataType.string)])
)


class Tutorial(PythonModel):
    """Takes a prompt and returns a string, as in the tutorial."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> str:
        return f"You wrote {model_input['prompt'][0]!r}<|end|>\n<|user|>\nand so on"


class Hinted(PythonModel):
    """Has a signature of unnamed strings, inferred from its type hints."""

    def predict(self, model_input: list[str]) -> list[str]:
        if "trouble" in model_input[0]:
            raise ValueError("no weights are loaded\nand more lines")
        if "wait" in model_input[0]:
            while True:
                time.sleep(0.1)
        if "leave" in model_input[0]:
            sys.exit("bye")
        return [prompt.upper() for prompt in model_input]


class Frames(PythonModel):
    """Answers with a data frame."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return pd.DataFrame({"answer": ["from a frame" for _ in model_input["prompt"]]})


class Strings(PythonModel):
    """Streams plain strings, which contain the params it received."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> str:
        return "".join(self.predict_stream(context, model_input, params))

    def predict_stream(
        self, context: Any, model_input: dict[str, str], params: dict[str, Any] | None = None
    ) -> Iterator[str]:
        yield from [" ", "Params", ": ", json.dumps(params), "\nUs", "er", ": never shown"]


class Chunks(PythonModel):
    """Streams OpenAI-style chunks, the last with usage; a prompt with "endless" makes it stream until it is closed."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> str:
        return "whole"

    def predict_stream(
        self, context: Any, model_input: dict[str, str], params: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        try:
            yield _chunk("One")
            yield _chunk(" two")
            while "endless" in model_input["prompt"]:
                yield _chunk(" more")
            yield {**_chunk(" three", "length"), "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        finally:
            closed = Path(context.model_config["closed"])
            closed.touch()


def _chunk(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


class NonStreamingChat(ChatModel):
    """MLflow's ChatModel without streaming; repeats its request."""

    def predict(self, context: Any, messages: list[ChatMessage], params: ChatParams) -> ChatCompletionResponse:
        parts = [f"{message.role}={message.content}" for message in messages]
        text = f"{'|'.join(parts)} {params.temperature} {params.max_tokens} {params.top_k}"
        choice = ChatChoice(index=0, message=ChatMessage(role="assistant", content=text), finish_reason="length")
        return ChatCompletionResponse(choices=[choice], usage=TokenUsageStats(prompt_tokens=11, completion_tokens=5))


class StreamingChat(NonStreamingChat):
    """MLflow's ChatModel with streaming, and usage in the last chunk."""

    def predict_stream(
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> Generator[ChatCompletionChunk, None, None]:
        for word, reason in (("Red", None), (" green", None), (" blue", "stop")):
            choice = ChatChunkChoice(
                index=0, delta=ChatChoiceDelta(role="assistant", content=word), finish_reason=reason
            )
            usage = TokenUsageStats(prompt_tokens=4, completion_tokens=3) if reason else None
            yield ChatCompletionChunk(choices=[choice], usage=usage)


class Agent(ChatAgent):
    """MLflow's ChatAgent; returns two messages with a tool message between them."""

    def predict(self, messages: list[ChatAgentMessage], context: Any = None, custom_inputs: Any = None) -> Any:
        contents = [("assistant", "I look."), ("tool", "42"), ("assistant", "It is 42.")]
        answers = [
            ChatAgentMessage(role=role, content=text, id=str(number), name="t", tool_call_id="t")
            for number, (role, text) in enumerate(contents)
        ]
        return ChatAgentResponse(messages=answers)

    def predict_stream(
        self, messages: Any, context: Any = None, custom_inputs: Any = None
    ) -> Generator[ChatAgentChunk, None, None]:
        for number, text in (("a", "I "), ("a", "look."), ("b", "It is"), ("b", " 42.")):
            yield ChatAgentChunk(delta=ChatAgentMessage(role="assistant", content=text, id=number))


class NonStreamingResponses(ResponsesAgent):
    """MLflow's ResponsesAgent without streaming; one of its output items is not text."""

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        messages = [item.model_dump() for item in request.input]
        question = "|".join(f"{message['role']}={message['content']}" for message in messages)
        items = [
            self.create_function_call_item(id="f", call_id="c", name="look", arguments="{}"),
            self.create_text_output_item(text=f"{question} {request.max_output_tokens}", id="1"),
            self.create_text_output_item(text="That is all.", id="2"),
        ]
        counts = {"input_tokens": 9, "output_tokens": 6, "total_tokens": 15}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        return ResponsesAgentResponse.model_validate({"output": items, "usage": {**counts, **details}})


class StreamingResponses(NonStreamingResponses):
    """Streams text deltas with their item, then an item without deltas; "trouble" in the input adds an error event first."""

    def predict_stream(self, request: ResponsesAgentRequest) -> Generator[ResponsesAgentStreamEvent, None, None]:
        if "trouble" in str(request.input):
            yield ResponsesAgentStreamEvent.model_validate({"type": "error", "message": "its tool is broken"})
        for text in ("Sea", " and", " sky"):
            yield ResponsesAgentStreamEvent(**self.create_text_delta(delta=text, item_id="1"))
        for item_id, text in (("1", "Sea and sky"), ("2", "And land.")):
            item = self.create_text_output_item(text=text, id=item_id)
            yield ResponsesAgentStreamEvent.model_validate({"type": "response.output_item.done", "item": item})


class Vectors(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        return np.zeros((len(model_input), 3))


class Numbers(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        return model_input["x"] * 2


CHAT_MODELS: dict[str, tuple[Any, ModelSignature | None]] = {
    "tutorial": (Tutorial, PROMPT_TO_STRING),
    "hinted": (Hinted, None),
    "frames": (Frames, PROMPT_TO_STRING),
    "strings": (Strings, WITH_PARAMS),
    "chunks": (Chunks, PROMPT_TO_STRING),
    "chat-model-whole": (NonStreamingChat, None),
    "chat-model": (StreamingChat, None),
    "chat-agent": (Agent, None),
    "responses-whole": (NonStreamingResponses, None),
    "responses": (StreamingResponses, None),
    "from-code": (str(Path(__file__).with_name("echo_model.py")), PROMPT_TO_STRING),
}
OTHER_MODELS: dict[str, tuple[Any, ModelSignature | None]] = {
    "no-signature": (Tutorial, None),
    "numbers": (Numbers, NUMBERS),
    "vectors": (Vectors, STRING_TO_VECTOR),
    "translator": (Tutorial, TWO_STRINGS),
}


def log_all(uri: str, folder: Path) -> dict[str, dict[str, str]]:
    """Log all models in the experiment `theirs` of the store `uri`; return ids by name, of the chat models and of the others.

    `Chunks` creates the file `shared/closed` in `folder` when its stream is closed.
    """
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("theirs")
    return {
        "chat": {
            # Logged first, since the page loads the newest model and this one needs an engine.
            "completions": _log_completions(folder),
            **{name: _log(name, *model, folder) for name, model in CHAT_MODELS.items()},
        },
        "other": {name: _log(name, *model, folder) for name, model in OTHER_MODELS.items()},
    }


def _log(name: str, model: Any, signature: ModelSignature | None, folder: Path) -> str:
    options: dict[str, Any] = {"signature": signature} if signature else {}
    if name == "chunks":
        options["model_config"] = {"closed": str(folder / "shared" / "closed")}
    python_model = model if isinstance(model, str) else model()
    return str(mlflow.pyfunc.log_model(name=name, python_model=python_model, pip_requirements=[], **options).model_id)


def _log_completions(folder: Path) -> str:
    """Log a Phi-3-like model that answers WORDS, and whose configured end token differs from the one it generates."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    checkpoint = make_checkpoint(folder / "completions", ends_with="<|end|>")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    with mlflow.start_run():
        logged = mlflow.transformers.log_model(
            generator, name="completions", task="llm/v1/completions", pip_requirements=[]
        )
    return str(logged.model_id)


if __name__ == "__main__":
    print(json.dumps(log_all(sys.argv[1], Path(sys.argv[2]))))
