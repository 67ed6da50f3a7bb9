"""The logged side of a scripted model: an MLflow PythonModel that reads its replies from a folder.

MLflow copies this file into the model and runs it on its own, so it imports only MLflow, its dependency pandas and the standard
library. It implements the contract *prompt*: a rendered prompt in, OpenAI-style chunks out. The prompt is the messages as JSON, so
that the reply can be chosen by the question.

Layout of the folder, which `phi3_ui.testing.ScriptedModel` writes and reads:
    queue/000001.json   queued replies, oldest first; a reply that has been used leaves the queue
    gates/NAME          exists once the gate is open; gates/NAME.reached exists once an answer waits at it
    requests.jsonl      one line per request: messages, params and process id
"""

import ctypes
import itertools
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

_TOKEN = re.compile(r"\S+\s*|\s+")  # a word with the whitespace after it
_SEPARATOR = "\u2063"  # phi3_ui doubles this character in user input
_POLL_SECONDS = 0.02


class ScriptedPyfunc(PythonModel):
    """Streams the replies of its folder; echoes the question when none is queued. A token is a word."""

    def load_context(self, context: Any) -> None:
        """Get the folder from `model_config`."""
        self._folder = Path(context.model_config["folder"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return one complete text per prompt."""
        return [
            "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in self._answer(prompt, params or {}))
            for prompt in model_input["prompt"]
        ]

    def predict_stream(
        self, context: Any, model_input: dict[str, str], params: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield OpenAI-style `chat.completion.chunk` dicts for one prompt; the last has `finish_reason` and `usage`.

        The first one has `prompt_progress`. Raises RuntimeError if the reply is scripted to fail.
        """
        yield from self._answer(model_input["prompt"], params or {})

    def encode(self, prompt: str) -> list[int]:
        """Return a token id for each word of the messages, for counting only."""
        return [len(word) for message in _parse_prompt(prompt) for word in _TOKEN.findall(message["content"])]

    def _answer(self, prompt: str, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        messages = _parse_prompt(prompt)
        with (self._folder / "requests.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"messages": messages, "params": params, "pid": os.getpid()}) + "\n")
        question = next(message["content"] for message in reversed(messages) if message["role"] == "user")
        reply = self._take_reply(question)
        prompt_tokens, completion_tokens = reply.get("usage") or (len(self.encode(prompt)), None)
        yield _chunk(prompt_progress={"processed": 0, "total": prompt_tokens})
        limit, count = params.get("max_tokens") or 512, 0
        for token in self._tokens(reply, question):
            if token:
                time.sleep(reply.get("seconds_per_token", 0))
                count += 1
            if count == limit:
                yield _chunk(token, "length", usage=_usage(prompt_tokens, completion_tokens or count))
                return
            yield _chunk(token)
        if error := reply.get("error"):
            raise RuntimeError(error)
        # As with a real engine, the end-of-turn token is counted.
        yield _chunk("", "stop", usage=_usage(prompt_tokens, completion_tokens or count + 1))

    def _take_reply(self, question: str) -> dict[str, Any]:
        """Remove the oldest reply to `question` from the queue and return it; if there is none, an empty reply (an echo)."""
        for file in sorted((self._folder / "queue").glob("*.json")):
            try:
                reply: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                if reply.get("question") in (None, question):
                    file.rename(file.with_suffix(".taken"))
                    return reply
            except FileNotFoundError:
                continue  # another answer has just taken it
        return {}

    def _tokens(self, reply: dict[str, Any], question: str) -> Iterator[str]:
        """Yield the reply's tokens. At a closed gate, yield empty ones: an answer can only be stopped between two chunks."""
        parts = reply.get("parts") or [question]
        for part in itertools.cycle(parts) if reply.get("endless") else parts:
            if isinstance(part, str):
                yield from _TOKEN.findall(part)
            elif "hang" in part:
                _hang(part["hang"])
            else:
                yield from self._wait_at_gate(part["gate"])

    def _wait_at_gate(self, name: str) -> Iterator[str]:
        gate = self._folder / "gates" / name
        gate.with_suffix(".reached").touch()
        while not gate.exists():
            yield ""
            time.sleep(_POLL_SECONDS)


def _hang(holds_gil: bool) -> None:
    if holds_gil:
        ctypes.PyDLL(None).pause()
    threading.Event().wait()


def _parse_prompt(prompt: str) -> list[dict[str, str]]:
    """Return the messages; if the prompt ends with the beginning of an answer, that is the last one."""
    messages, end = json.JSONDecoder().raw_decode(prompt)
    prefix = [{"role": "assistant", "content": prompt[end:]}] if prompt[end:].strip() else []
    return [
        {"role": message["role"], "content": message["content"].replace(_SEPARATOR * 2, _SEPARATOR)}
        for message in [*messages, *prefix]
    ]


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _chunk(text: str = "", finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice], **fields}


mlflow.models.set_model(ScriptedPyfunc())
