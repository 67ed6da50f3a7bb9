"""The ONNX wrapper: a PythonModel around ONNX Runtime GenAI. Logged from code, so this file alone goes into the artifact.

In: `{"prompt": "<|user|>…<|end|><|assistant|>"}`, rendered with the model's own chat template. Out: text.
A prompt may hold U+2063 to break text that looks like a control token (`<` U+2063 `|end|>`): the pieces on both sides
are encoded apart, so they stay ordinary text. U+2063 twice stands for the character itself.
"""

import json
import math
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

# Read by the engine at its import. disable_telemetry_events() alone does not stop its event store.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import mlflow
import numpy as np
import onnxruntime_genai as og
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from tokenizers import Tokenizer

ARTIFACT = "phi3-mini-onnx"

# Appending a prompt holds the GIL and cannot be interrupted; in pieces it costs the same and can be stopped between them.
_PREFILL_TOKENS = 64
# A Phi-3 of a longer context turns all positions another way once there are more tokens than these, so a prompt of more
# must begin with a piece of more: what was read before the turn would not fit what is read after it.
_SHORT_CONTEXT = 4096
_SEPARATOR = "\u2063"
_LONE_SEPARATOR = re.compile("(?<!\u2063)\u2063(?!\u2063)")
_MAX_STOPS = 16


@dataclass(frozen=True)
class Options:
    """The declared params with their defaults. seed -1 draws a fresh one; top_k 0 means no limit.

    Presence and frequency penalty are OpenAI's: taken off a token's logit if, and as often as, the answer has it.
    MlflowException (INVALID_PARAMETER_VALUE) for a value out of its range.
    """

    max_tokens: int = 512
    temperature: float = 0.2
    top_p: float = 0.95
    top_k: int = 50
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = -1
    n: int = 1

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (no limit) or more"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0; 1 changes nothing"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "from -2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "from -2 to 2"),
            ("stop", all(self.stop) and len(self.stop) <= _MAX_STOPS, f"at most {_MAX_STOPS} texts that are not empty"),
            ("seed", -1 <= self.seed < 2**31, "from 0 to 2147483647, or -1 for a new one each time"),
            ("n", self.n == 1, "1; for several answers ask several times, or pass the prompt several times to predict"),
        ):
            if not holds:
                raise _invalid(f"{name} cannot be {getattr(self, name)!r}; it must be {wanted}.")

    @classmethod
    def of(cls, params: dict[str, Any] | None) -> "Options":
        given = {name: value for name, value in (params or {}).items() if value is not None}
        known = [field.name for field in fields(cls)]
        if unknown := sorted(given.keys() - set(known)):
            raise _invalid(f"There is no param {', '.join(unknown)}; there are {', '.join(known)}.")
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

    MlflowException (INVALID_PARAMETER_VALUE) where there is none, one is empty or no text, or there are other fields.
    """
    rows = model_input if isinstance(model_input, (list, tuple)) else [model_input]
    # Loaded by MLflow the model never sees them: its schema drops them with a warning.
    if others := sorted({name for row in rows if isinstance(row, (dict, pd.DataFrame)) for name in row} - {"prompt"}):
        raise _invalid(f"The data holds the prompt alone; pass {', '.join(others)} in params.")
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
    """Token ids → text as soon as it is whole; a character's lone bytes come as U+FFFD. As in phi3_ui/chat/text_stream.py."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # those of the last piece, by which the next one's spaces are told, and what is held
        self._given = 0

    def push(self, token: int) -> str:
        self._ids.append(token)
        piece = self.flush()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._given :]
        self._given = len(self._ids)
        return piece

    def flush(self) -> str:
        """What is still held: half a character, which nothing will complete now."""
        before, text = self._tokenizer.decode(self._ids[: self._given]), self._tokenizer.decode(self._ids)
        # A byte that belongs to no character takes its neighbours along when they are decoded together.
        return str(text[len(before) :] if text.startswith(before) else self._tokenizer.decode(self._ids[self._given :]))


class _StopStrings:
    """Text passes through up to the first place where a stop string begins; what may still become one is held back.

    phi3_ui/chat/stops.py has the same class, since this file must stand alone; one test holds both.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        return self._pass(text, last=False)

    def flush(self) -> str:
        return self._pass("", last=True)

    def _pass(self, text: str, last: bool) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        held = self._held + text
        found = min((at for stop in self._stops if (at := held.find(stop)) >= 0), default=-1)
        # A stop string that began earlier may still be on its way.
        open_ = len(held) if last else min(len(held) - _overlap(held, stop) for stop in self._stops)
        self.hit = 0 <= found <= open_
        cut = found if self.hit else open_
        self._held = "" if self.hit else held[cut:]
        return held[:cut]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`, without being all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


class Phi3Onnx(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """One ONNX Runtime GenAI model. Several threads may stream from it at once: each answer has its own generator."""

    def load_context(self, context: Any) -> None:
        """Load the engine from artifact `phi3-mini-onnx`. model_config may set `threads` (default: this process's CPUs)
        and `end_tokens`, tokens as text that end an answer besides those that the folder names."""
        settings = getattr(context, "model_config", None) or {}
        threads = int(settings.get("threads") or usable_cpus())
        self.load(Path(context.artifacts[ARTIFACT]), threads, tuple(settings.get("end_tokens") or ()))

    def load(self, folder: Path, threads: int, end_tokens: tuple[str, ...] = ()) -> None:
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
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._special = {token.content: id_ for id_, token in added if token.special}
        ends = {id_ for text in end_tokens if (id_ := self._tokenizer.token_to_id(text)) is not None}
        self._ends = ends | set(eos if isinstance(eos, list) else [eos])
        self._context_length = int(declared["context_length"])
        self._turns = declared["type"] == "phi3" and self._context_length > _SHORT_CONTEXT
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
        first = _SHORT_CONTEXT + 1 if self._turns and len(prompt) > _SHORT_CONTEXT else _PREFILL_TOKENS
        for start, end in pairwise([0, *range(first, len(prompt), _PREFILL_TOKENS), len(prompt)]):
            yield _Step(prefilled=start)
            generator.append_tokens(prompt[start:end])
        stream, stops = _TextStream(self._tokenizer), _StopStrings(options.stop)
        # A stop string that is a control token comes as a token, and never as text.
        ends = self._ends | {self._special[stop] for stop in options.stop if stop in self._special}
        counts: Counter[int] = Counter()
        while True:
            if counts and (options.presence_penalty or options.frequency_penalty):
                _penalise(generator, counts, options)
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            counts[token] += 1
            ended = token in ends
            text = stops.push("" if ended else stream.push(token))
            if ended or stops.hit or generator.is_done():
                break
            yield _Step(text)
        text += stops.push(stream.flush()) + stops.flush()
        reason = "stop" if ended or stops.hit else "length"
        yield _Step(text, finish_reason=reason, completion_tokens=counts.total())


def _penalise(generator: og.Generator, counts: Counter[int], options: Options) -> None:
    """Take the penalties off the next token's logits, for the tokens that the answer has, `counts` times each."""
    logits = np.array(generator.get_logits(), dtype=np.float32)
    often = np.fromiter(counts.values(), dtype=np.float32)
    logits[..., list(counts)] -= options.presence_penalty + options.frequency_penalty * often
    generator.set_logits(logits)


mlflow.models.set_model(Phi3Onnx())
