"""The ONNX wrapper: a PythonModel around ONNX Runtime GenAI, logged from code with phi3_onnx_slots.py beside it.

In: `{"prompt": "<|user|>…<|end|><|assistant|>"}`, rendered with the model's own chat template. Out: text.
U+2063 in a prompt neutralises text that looks like a control token (`<` U+2063 `|end|>`): the parts on both sides are encoded
separately and stay ordinary text. A doubled U+2063 stands for the character itself.
"""

import importlib.util
import json
import math
import os
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# The engine reads it at its import; disable_telemetry_events() alone does not stop its event store.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import mlflow
import numpy as np
import onnxruntime_genai as og
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from tokenizers import Tokenizer

if TYPE_CHECKING or __package__:  # in the project; MLflow loads this file by its path
    from models import phi3_onnx_slots as slots
else:

    def _load_sibling(name: str) -> ModuleType:
        """Load a module from this file's folder or, in an artifact, from its code folder. ImportError if it is in neither.

        Not by `import`: a notebook may load two versions of this model, and would get the first one's module for both.
        """
        here = Path(__file__).parent
        file = next((file for file in (here / f"{name}.py", here / "code" / f"{name}.py") if file.exists()), None)
        if file is None:
            raise ImportError(f"{name}.py is not with the model: log it with code_paths=['models/{name}.py'].")
        spec = importlib.util.spec_from_file_location(f"{__name__}.{name}", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    slots = _load_sibling("phi3_onnx_slots")

ARTIFACT = "phi3-mini-onnx"

_SEPARATOR = "\u2063"
_LONE_SEPARATOR = re.compile("(?<!\u2063)\u2063(?!\u2063)")
_MAX_STOPS = 16


@dataclass(frozen=True)
class Options:
    """The declared params with their defaults. MlflowException (INVALID_PARAMETER_VALUE) for a value out of its range."""

    max_tokens: int = 512
    temperature: float = 0.2
    """0 is greedy decoding."""
    top_p: float = 0.95
    top_k: int = 50
    """0: no limit."""
    repetition_penalty: float = 1.0
    """Divides positive logits, and multiplies negative ones, of tokens in prompt or answer."""
    presence_penalty: float = 0.0
    """OpenAI's: subtracted from the logit of each token that the answer contains."""
    frequency_penalty: float = 0.0
    """OpenAI's: subtracted once for each time the answer contains the token."""
    stop: tuple[str, ...] = ()
    seed: int = -1
    """-1: a random seed."""
    n: int = 1
    """The number of answers: 1 is supported."""

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (no limit) or more"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0; 1 changes nothing"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "from -2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "from -2 to 2"),
            ("stop", all(self.stop) and len(self.stop) <= _MAX_STOPS, f"at most {_MAX_STOPS} non-empty strings"),
            ("seed", -1 <= self.seed < 2**31, "from 0 to 2147483647, or -1 for a random one"),
            (
                "n",
                self.n == 1,
                "1; for several answers send several requests, or pass the prompt several times to predict",
            ),
        ):
            if not holds:
                raise _invalid(f"{name} cannot be {getattr(self, name)!r}; it must be {wanted}.")

    @classmethod
    def from_params(cls, params: dict[str, Any] | None) -> "Options":
        """The options in pyfunc params; None values count as not given. MlflowException for an unknown name."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        known = [field.name for field in fields(cls)]
        if unknown := sorted(given.keys() - set(known)):
            raise _invalid(f"There is no param {', '.join(unknown)}; there are {', '.join(known)}.")
        if "stop" in given:
            given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
        return replace(cls(), **given)


@dataclass(frozen=True)
class _Update:
    """What one step of an answer brings; every field but those that apply has its default."""

    text: str = ""
    """New text, often empty."""
    ahead: int | None = None
    """Requests ahead in the queue."""
    prefilled: int | None = None
    """Prompt tokens in the KV cache."""
    finish_reason: str | None = None
    """OpenAI's, in the last update alone, as are the counts."""
    completion_tokens: int = 0
    cached_tokens: int = 0


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def usable_cpus() -> int:
    """The number of CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def extract_prompts(model_input: Any) -> list[str]:
    """All prompts in pyfunc's input: a DataFrame, a dict, a list of dicts or strings, or a string; cells may be lists.

    MlflowException (INVALID_PARAMETER_VALUE) if there is none, one is empty or not a string, or there are other fields.
    """
    rows = model_input if isinstance(model_input, (list, tuple)) else [model_input]
    # A model loaded by MLflow never sees other fields: the schema drops them with a warning.
    if others := sorted({name for row in rows if isinstance(row, (dict, pd.DataFrame)) for name in row} - {"prompt"}):
        raise _invalid(f"The input holds the prompt alone; pass {', '.join(others)} in params.")
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
            raise _invalid(f"A prompt must be a non-empty string, not {prompt!r}.")
    return prompts


class _TextStream:
    """Incremental detokeniser: text once its characters are complete, U+FFFD for malformed UTF-8.

    phi3_ui/runtime/detokenizer.py has the same class, since this file must stand alone; one test covers both.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # the last piece, which decides about the next one's spaces, and pending tokens
        self._emitted = 0  # how many of _ids have been emitted

    def push(self, token: int) -> str:
        self._ids.append(token)
        piece = self.flush()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._emitted :]
        self._emitted = len(self._ids)
        return piece

    def flush(self) -> str:
        """The rest: an incomplete character, once no more tokens come."""
        before, text = self._tokenizer.decode(self._ids[: self._emitted]), self._tokenizer.decode(self._ids)
        # A stray byte changes how its neighbours decode.
        return str(
            text[len(before) :] if text.startswith(before) else self._tokenizer.decode(self._ids[self._emitted :])
        )


class _StopStrings:
    """Passes text up to the first stop string; holds back what may still become one.

    phi3_ui/runtime/stop_strings.py has the same class, since this file must stand alone; one test covers both.
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
        # A stop string that began earlier may still be incomplete.
        open_ = len(held) if last else min(len(held) - _overlap(held, stop) for stop in self._stops)
        self.hit = 0 <= found <= open_
        cut = found if self.hit else open_
        self._held = "" if self.hit else held[cut:]
        return held[:cut]


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper prefix of `stop` that ends `text`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


class _Sampler:
    """Samples one answer's tokens from logits, by Options; deterministic with a seed."""

    def __init__(self, options: Options, prompt: list[int]) -> None:
        self._options = options
        self._counts: Counter[int] = Counter()
        self._seen = set(prompt)
        self._random = np.random.default_rng(None if options.seed < 0 else options.seed)

    def __call__(self, logits: slots.Logits) -> int:
        """The next token. Changes `logits` (vocabulary,) in place."""
        options = self._options
        if options.repetition_penalty != 1.0:
            seen = list(self._seen)
            some = logits[seen]
            logits[seen] = np.where(some < 0, some * options.repetition_penalty, some / options.repetition_penalty)
        if self._counts and (options.presence_penalty or options.frequency_penalty):
            often = np.fromiter(self._counts.values(), dtype=np.float32)
            logits[list(self._counts)] -= options.presence_penalty + options.frequency_penalty * often
        token = int(logits.argmax()) if options.temperature == 0 else self._draw(logits)
        self._counts[token] += 1
        self._seen.add(token)
        return token

    def _draw(self, logits: slots.Logits) -> int:
        """Sample with temperature, top-k and nucleus (top-p) filtering."""
        options = self._options
        best = np.arange(len(logits))
        if 0 < options.top_k < len(logits):
            best = np.argpartition(logits, -options.top_k)[-options.top_k :]
        scaled = logits[best].astype(np.float64) / options.temperature
        chances = np.exp(scaled - scaled.max())
        if options.top_p < 1:
            best, chances = _nucleus(best, chances, options.top_p)
        sums = chances.cumsum()
        return int(best[min(int(np.searchsorted(sums, self._random.random() * sums[-1], "right")), len(best) - 1)])


def _nucleus(best: Any, chances: Any, top_p: float) -> tuple[Any, Any]:
    """The nucleus: the most likely of these tokens that together have `top_p` of the probability; always at least one."""
    total, few = chances.sum(), 256
    # Sorting a whole vocabulary takes milliseconds, and more than a few tokens are hardly ever needed.
    likely = np.argpartition(chances, -few)[-few:] if len(chances) > few else np.arange(len(chances))
    if chances[likely].sum() < top_p * total:
        likely = np.arange(len(chances))
    order = likely[np.argsort(-chances[likely], kind="stable")]
    before = chances[order].cumsum() - chances[order]
    kept = order[before < top_p * total]
    return best[kept], chances[kept]


class Phi3Onnx(PythonModel):
    """One ONNX Runtime GenAI model. Thread-safe: concurrent requests advance in turn.

    Prompts with a common prefix share its KV cache.
    """

    def load_context(self, context: Any) -> None:
        """Load the engine from artifact `phi3-mini-onnx`.

        model_config may set `threads` (0: this process's CPUs), `cache_mb`, the KV cache in megabytes (0: an eighth of the
        memory), and `end_tokens`, further tokens (as text) that end an answer.
        """
        settings = getattr(context, "model_config", None) or {}
        self.load(
            Path(context.artifacts[ARTIFACT]),
            threads=int(settings.get("threads") or 0),
            end_tokens=tuple(settings.get("end_tokens") or ()),
            cache_mb=int(settings.get("cache_mb") or 0),
        )

    def load(self, folder: Path, threads: int = 0, end_tokens: tuple[str, ...] = (), cache_mb: int = 0) -> None:
        """Load the engine from an ONNX Runtime GenAI folder; the defaults are those of load_context."""
        config = og.Config(str(folder))
        # Unset, the engine decodes on one thread.
        session = {"session_options": {"intra_op_num_threads": threads or usable_cpus()}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = og.Model(config)
        # The engine's own tokenizer encodes some text differently from training (a tab before a word, digits of other
        # scripts), and its stream loses the piece after malformed UTF-8.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        declared = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        eos = declared["eos_token_id"]
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._special = {token.content: id_ for id_, token in added if token.special}
        ends = {id_ for text in end_tokens if (id_ := self._tokenizer.token_to_id(text)) is not None}
        self._ends = frozenset(ends | set(eos if isinstance(eos, list) else [eos]))
        self._context_length = int(declared["context_length"])
        decoder = declared["decoder"]
        number = 4 if self._model.device_type == "CPU" else 2  # bytes
        token_bytes = 2 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"] * number
        switches_rope = declared["type"] == "phi3" and self._context_length > slots.SHORT_ROPE_LENGTH
        budget = cache_mb * 1_000_000 or slots.memory_budget()
        self._slots = slots.Slots(self._model, self._context_length, token_bytes, budget, switches_rope)
        self._slots.warm_up()
        self._name = folder.name

    # MLflow derives a schema from type hints and prefers it to the signature, except for this type.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """One answer per prompt, in order."""
        options = Options.from_params(params)
        return [
            "".join(update.text for update in self._answer(self.encode(p), options))
            for p in extract_prompts(model_input)
        ]

    def predict_stream(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """OpenAI-style `chat.completion.chunk` dicts for one prompt; the last has `finish_reason`, `usage` and `prompt_cache`.

        Chunks without text carry `queue: {ahead}` while the request waits for memory, and
        `prompt_progress: {processed, total}` in tokens during prefill. Closing the iterator stops the computation.
        """
        prompts = extract_prompts(model_input)
        if len(prompts) != 1:
            raise _invalid(f"predict_stream answers one prompt at a time, not {len(prompts)}; use predict for several.")
        prompt = self.encode(prompts[0])
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}
        head["model"] = self._name
        for update in self._answer(prompt, Options.from_params(params)):
            delta = {"content": update.text} if update.text else {}
            chunk = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": update.finish_reason}]}
            if update.ahead is not None:
                chunk["queue"] = {"ahead": update.ahead}
            if update.prefilled is not None:
                chunk["prompt_progress"] = {"processed": update.prefilled, "total": len(prompt)}
            if update.finish_reason:
                chunk["usage"] = {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": update.completion_tokens,
                    "total_tokens": len(prompt) + update.completion_tokens,
                    "prompt_tokens_details": {"cached_tokens": update.cached_tokens},
                }
                chunk["prompt_cache"] = asdict(self._slots.stats())
            yield chunk

    def prepare(self) -> None:
        """Allocate the KV cache of the next new chat while the model is idle, within the budget."""
        self._slots.prepare()

    def encode(self, prompt: str) -> list[int]:
        """The token ids of a rendered prompt; control tokens count as such unless U+2063 neutralises them."""
        pieces = [piece.replace(_SEPARATOR * 2, _SEPARATOR) for piece in _LONE_SEPARATOR.split(prompt)]
        return [token for piece in pieces for token in self._tokenizer.encode(piece, add_special_tokens=False).ids]

    def _answer(self, prompt: list[int], options: Options) -> Iterator[_Update]:
        """Generate one answer. completion_tokens counts every generated token, the end-of-turn token included."""
        room = self._context_length - len(prompt)
        if room < 1:
            raise _invalid(
                f"The prompt has {len(prompt):,} tokens, but prompt and answer may have {self._context_length:,} together; shorten it."
            )
        stream, stops = _TextStream(self._tokenizer), _StopStrings(options.stop)
        # A stop string that is a control token is generated as a token, never as text.
        ends = self._ends | {self._special[stop] for stop in options.stop if stop in self._special}
        max_tokens = min(options.max_tokens, room)
        is_reproducible = options.temperature == 0 or options.seed >= 0
        events = self._slots.generate(prompt, max_tokens, _Sampler(options, prompt), ends, is_reproducible)
        cached, generated, ended, text = None, 0, False, ""
        try:
            for event in events:
                if isinstance(event, slots.QueuePosition):
                    yield _Update(ahead=event.ahead)
                elif isinstance(event, slots.PrefillProgress):
                    cached = event.count if cached is None else cached
                    yield _Update(prefilled=event.count)
                else:
                    generated += 1
                    ended = event.id in ends
                    text = stops.push("" if ended else stream.push(event.id))
                    if ended or stops.hit or generated == max_tokens:
                        break
                    yield _Update(text)
        finally:
            events.close()
        text += stops.push(stream.flush()) + stops.flush()
        reason = "stop" if ended or stops.hit else "length"
        yield _Update(text, finish_reason=reason, completion_tokens=generated, cached_tokens=cached or 0)


mlflow.models.set_model(Phi3Onnx())
