"""The ONNX wrapper: a PythonModel around ONNX Runtime GenAI. Logged from code, so this file alone goes into the artifact.

In: `{"prompt": "<|user|>…<|end|><|assistant|>"}`, rendered with the model's own chat template. Out: text.
A prompt may hold U+2063 to break text that looks like a control token (`<` U+2063 `|end|>`): the pieces on both sides
are encoded apart, so they stay ordinary text. U+2063 twice stands for the character itself.
"""

import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Read by the engine at its import. disable_telemetry_events() alone does not stop its event store.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import mlflow
import onnxruntime_genai as og
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

ARTIFACT = "phi3-mini-onnx"

# Appending a prompt holds the GIL and cannot be interrupted; in pieces it costs the same and can be stopped between them.
_PREFILL_TOKENS = 64
_SEPARATOR = "\u2063"
_LONE_SEPARATOR = re.compile("(?<!\u2063)\u2063(?!\u2063)")


@dataclass(frozen=True)
class Options:
    """The declared params with their defaults. seed -1 draws a fresh one; top_k 0 means no limit."""

    max_tokens: int = 512
    temperature: float = 0.2
    top_p: float = 0.95
    top_k: int = 50
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = -1

    def __post_init__(self) -> None:
        for name, holds in {
            "max_tokens": self.max_tokens >= 1,
            "temperature": self.temperature >= 0,
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "repetition_penalty": self.repetition_penalty > 0,
            "stop": all(self.stop),
            "seed": -1 <= self.seed < 2**31,
        }.items():
            if not holds:
                raise _invalid(f"{name} cannot be {getattr(self, name)!r}.")

    @classmethod
    def of(cls, params: dict[str, Any] | None) -> "Options":
        given = {name: value for name, value in (params or {}).items() if value is not None}
        if "stop" in given:
            given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
        return replace(cls(), **given)

    def search(self) -> dict[str, Any]:
        """The engine's search options, but for max_length."""
        greedy = self.temperature == 0
        options: dict[str, Any] = {"do_sample": not greedy, "repetition_penalty": self.repetition_penalty}
        if not greedy:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
            options["random_seed"] = self.seed
        return options


@dataclass(frozen=True)
class _Step:
    """What one step of the engine gave: a piece of text (often empty), prompt tokens read, the end's reason."""

    text: str = ""
    prefilled: int | None = None
    finish_reason: str | None = None
    completion_tokens: int = 0


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prompts_of(model_input: Any) -> list[str]:
    """Every prompt in what pyfunc hands over: a DataFrame, a dict, a list of dicts or strings, a string; cells may be lists.

    MlflowException (INVALID_PARAMETER_VALUE) where there is none, or one is empty or no text.
    """
    if isinstance(model_input, pd.DataFrame):
        cells = list(model_input["prompt"]) if "prompt" in model_input else []
    elif isinstance(model_input, dict):
        cells = [model_input.get("prompt")]
    elif isinstance(model_input, (list, tuple)):
        cells = [item.get("prompt") if isinstance(item, dict) else item for item in model_input]
    else:
        cells = [model_input]
    prompts = [
        prompt
        for cell in cells
        for prompt in (cell if hasattr(cell, "__iter__") and not isinstance(cell, str) else [cell])
    ]
    if not prompts:
        raise _invalid("There is no prompt: pass {'prompt': 'text'}.")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt:
            raise _invalid(f"A prompt must be text that is not empty, not {prompt!r}.")
    return prompts


class _TextStream:
    """Token ids → text as soon as it is whole; all pieces together are what decoding all ids at once gives."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._given = 0

    def push(self, token: int) -> str:
        self._ids.append(token)
        piece = self._stream.step(self._tokenizer, token) or ""
        self._given += len(piece)
        return piece

    def flush(self) -> str:
        """What is still held: half a character, which nothing will complete now."""
        return str(self._tokenizer.decode(self._ids))[self._given :]


class _StopStrings:
    """Text passes through, but never a stop string nor what might become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        if not self._stops:
            return text
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            given, self._held = self._held[: min(found)], ""
            return given
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        cut = len(self._held) - keep
        given, self._held = self._held[:cut], self._held[cut:]
        return given

    def flush(self) -> str:
        given, self._held = self._held, ""
        return given


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


class Phi3Onnx(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """One ONNX Runtime GenAI model. Several threads may stream from it at once: each answer has its own generator."""

    def load_context(self, context: Any) -> None:
        """Load the engine from artifact `phi3-mini-onnx`; model_config may set `threads` (default: this process's CPUs)."""
        settings = getattr(context, "model_config", None) or {}
        self.load(Path(context.artifacts[ARTIFACT]), int(settings.get("threads") or usable_cpus()))

    def load(self, folder: Path, threads: int) -> None:
        """Load the engine from an ONNX Runtime GenAI folder."""
        config = og.Config(str(folder))
        # Left unset, the engine decodes on one thread.
        session = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = og.Model(config)
        # The engine's own tokenizer gives other ids than the model was trained on for some text (a tab before a word,
        # digits of other scripts), and its stream swallows the piece after malformed UTF-8.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        declared = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        eos = declared["eos_token_id"]
        self._eos = set(eos if isinstance(eos, list) else [eos])
        self._context_length = int(declared["context_length"])
        self._name = folder.name

    # Of the type hints that MLflow would take for the schema, in place of the signature, it lets this one be.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """One text per prompt, in their order."""
        options = Options.of(params)
        return ["".join(step.text for step in self._answer(self.encode(p), options)) for p in prompts_of(model_input)]

    def predict_stream(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """OpenAI-style `chat.completion.chunk` dicts for one prompt; the last has `finish_reason` and `usage`.

        While the prompt is read, chunks without text carry `prompt_progress: {processed, total}` in tokens.
        Closing the iterator stops the computing: nothing runs between two chunks.
        """
        prompts = prompts_of(model_input)
        if len(prompts) != 1:
            raise _invalid(f"predict_stream answers one prompt at a time, not {len(prompts)}; use predict for several.")
        prompt = self.encode(prompts[0])
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}
        head["model"] = self._name
        for step in self._answer(prompt, Options.of(params)):
            delta = {"content": step.text} if step.text else {}
            chunk = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": step.finish_reason}]}
            if step.prefilled is not None:
                chunk["prompt_progress"] = {"processed": step.prefilled, "total": len(prompt)}
            if step.finish_reason:
                chunk["usage"] = {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": step.completion_tokens,
                    "total_tokens": len(prompt) + step.completion_tokens,
                }
            yield chunk

    def encode(self, prompt: str) -> list[int]:
        """The token ids of a rendered prompt, in which control tokens are meant, but for what U+2063 breaks."""
        pieces = [piece.replace(_SEPARATOR * 2, _SEPARATOR) for piece in _LONE_SEPARATOR.split(prompt)]
        return [token for piece in pieces for token in self._tokenizer.encode(piece, add_special_tokens=False).ids]

    def _answer(self, prompt: list[int], options: Options) -> Iterator[_Step]:
        """The steps of one answer. completion_tokens counts every generated token, the end-of-turn token included."""
        room = self._context_length - len(prompt)
        if room < 1:
            raise _invalid(
                f"The prompt has {len(prompt)} tokens, but the model reads {self._context_length} with its answer; shorten it."
            )
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(prompt) + min(options.max_tokens, room), **options.search())
        generator = og.Generator(self._model, params)
        for start in range(0, len(prompt), _PREFILL_TOKENS):
            yield _Step(prefilled=start)
            generator.append_tokens(prompt[start : start + _PREFILL_TOKENS])
        stream, stops = _TextStream(self._tokenizer), _StopStrings(options.stop)
        count = 0
        while True:
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            count += 1
            ended = token in self._eos
            text = stops.push("" if ended else stream.push(token))
            if ended or stops.hit or generator.is_done():
                break
            yield _Step(text)
        if not stops.hit:
            text += stops.push(stream.flush())
        if not stops.hit:
            text += stops.flush()
        yield _Step(text, finish_reason="stop" if ended or stops.hit else "length", completion_tokens=count)


mlflow.models.set_model(Phi3Onnx())
