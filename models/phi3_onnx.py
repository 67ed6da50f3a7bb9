"""The ONNX wrapper: a PythonModel around an ONNX Runtime GenAI folder, logged from code together with phi3_onnx_engine/.

Input: `{"prompt": "<|user|>…<|end|><|assistant|>"}`, rendered with the model's own chat template. Output: text.
U+2063 in a prompt neutralises text that looks like a control token (`<` U+2063 `|end|>`): the parts on both sides are encoded
separately and remain ordinary text. A doubled U+2063 stands for the character itself.
"""

import importlib.util
import math
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

# ONNX Runtime reads this on import; disable_telemetry_events() alone does not stop its event store.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from tokenizers import Tokenizer

if TYPE_CHECKING or __package__:  # in the project; MLflow loads this file by its path
    from models import phi3_onnx_engine as engine
else:

    def _load_package(name: str) -> ModuleType:
        """Load a package from this file's folder or, in an artifact, from its code folder. Raises ImportError if it is in neither.

        A plain `import` would not do: a notebook may load two versions of this model, and would get the first package for both.
        """
        here = Path(__file__).parent
        folder = next((folder for folder in (here / name, here / "code" / name) if folder.is_dir()), None)
        if folder is None:
            raise ImportError(f"{name} is missing in the model: log it with code_paths=['models/{name}'].")
        spec = importlib.util.spec_from_file_location(f"{__name__}_{name}", folder / "__init__.py")
        package = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = package  # its modules and dataclasses look it up there
        spec.loader.exec_module(package)
        return package

    engine = _load_package("phi3_onnx_engine")

ARTIFACT = "phi3-mini-onnx"

_SEPARATOR = "\u2063"
_LONE_SEPARATOR = re.compile("(?<!\u2063)\u2063(?!\u2063)")
_MAX_STOPS = 16


@dataclass(frozen=True)
class Options:
    """The declared params with their defaults. Raises MlflowException (INVALID_PARAMETER_VALUE) for a value out of range."""

    max_tokens: int = 512
    temperature: float = 0.2
    """0 is greedy decoding."""
    top_p: float = 0.95
    top_k: int = 50
    """0: no limit."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens in prompt or answer, and multiplies the negative ones."""
    presence_penalty: float = 0.0
    """As defined by OpenAI: subtracted from the logit of each token that the answer contains."""
    frequency_penalty: float = 0.0
    """As defined by OpenAI: subtracted once for each occurrence of the token in the answer."""
    stop: tuple[str, ...] = ()
    seed: int = -1
    """-1: a random seed."""
    n: int = 1
    """The number of answers; only 1 is supported."""

    def __post_init__(self) -> None:
        for name, is_valid, expected in (
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
            if not is_valid:
                raise _build_error(f"{name} cannot be {getattr(self, name)!r}; it must be {expected}.")

    @classmethod
    def from_params(cls, params: dict[str, Any] | None) -> "Options":
        """Parse pyfunc params; None counts as not given. Raises MlflowException for an unknown name or an invalid value."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        known = [field.name for field in fields(cls)]
        if unknown := sorted(given.keys() - set(known)):
            raise _build_error(f"There is no param {', '.join(unknown)}; the params are {', '.join(known)}.")
        if "stop" in given:
            given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
        return replace(cls(), **given)


@dataclass(frozen=True)
class _Update:
    """The outcome of one step of an answer; fields that do not apply have their defaults."""

    text: str = ""
    """New text, often empty."""
    ahead: int | None = None
    """Requests ahead in the queue."""
    prefilled: int | None = None
    """Prompt tokens in the KV cache."""
    finish_reason: str | None = None
    """As defined by OpenAI; only in the last update, like the counts."""
    completion_tokens: int = 0
    cached_tokens: int = 0


def _build_error(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def extract_prompts(model_input: Any) -> list[str]:
    """Return all prompts in pyfunc's input: a DataFrame, a dict, a list of dicts or strings, or a string; cells may be lists.

    Raises MlflowException (INVALID_PARAMETER_VALUE) if there is none, one is empty or not a string, or there are other fields.
    """
    rows = model_input if isinstance(model_input, (list, tuple)) else [model_input]
    # A model loaded by MLflow never sees other fields: the schema drops them with a warning.
    if others := sorted({name for row in rows if isinstance(row, (dict, pd.DataFrame)) for name in row} - {"prompt"}):
        raise _build_error(f"The input must contain only the prompt; pass {', '.join(others)} in params.")
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
        raise _build_error("There is no prompt: pass {'prompt': 'text'}.")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt:
            raise _build_error(f"A prompt must be a non-empty string, not {prompt!r}.")
    return prompts


class Phi3Onnx(PythonModel):
    """One ONNX Runtime GenAI model. Thread-safe: concurrent requests advance in turn.

    Prompts with a common prefix share its KV cache.
    """

    def load_context(self, context: Any) -> None:
        """Load the engine from artifact `phi3-mini-onnx`.

        model_config may set `threads` (0: the CPUs available to this process), `cache_mb`, the size of the KV cache in megabytes
        (0: an eighth of the memory), `end_tokens`, further tokens (as text) that end an answer, and `engine`: `genai` is ONNX
        Runtime GenAI, which computes one request after another; `batched` advances several answers in one step on the CPU, and
        faster, if the graph supports it.
        """
        settings = getattr(context, "model_config", None) or {}
        self.load(
            Path(context.artifacts[ARTIFACT]),
            threads=int(settings.get("threads") or 0),
            end_tokens=tuple(settings.get("end_tokens") or ()),
            cache_mb=int(settings.get("cache_mb") or 0),
            choice=settings.get("engine") or "genai",
        )

    def load(
        self,
        folder: Path,
        threads: int = 0,
        end_tokens: tuple[str, ...] = (),
        cache_mb: int = 0,
        choice: engine.Choice = "genai",
    ) -> None:
        """Load the engine from an ONNX Runtime GenAI folder; the defaults are those of load_context.

        Raises ValueError, with one sentence, if genai_config.json is damaged; errors of ONNX Runtime GenAI may be raised, too.
        """
        if choice not in engine.CHOICES:
            raise _build_error(f"engine cannot be {choice!r}; it must be one of {', '.join(engine.CHOICES)}.")
        # The engine's own tokenizer encodes some text differently than in training (a tab before a word, digits of other
        # scripts), and its stream loses the text after malformed UTF-8.
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._special = {token.content: id_ for id_, token in added if token.special}
        declared = engine.OnnxFolder(folder)
        declared.check()
        self._ends = declared.end_ids | {
            id_ for text in end_tokens if (id_ := self._tokenizer.token_to_id(text)) is not None
        }
        self._context_length = declared.context_length
        budget = cache_mb * 1_000_000 or engine.memory_budget()
        opened, self.batching = engine.open_engine(declared, choice, threads or engine.usable_cpus(), budget)
        self._scheduler = engine.Scheduler(opened, budget)
        self._scheduler.warm_up()
        self._name = folder.name
        self._requests: WeakValueDictionary[str, engine.Request] = WeakValueDictionary()  # by the id in their chunks

    # MLflow would derive a schema from other type hints than this one, and prefer it to the signature.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return one answer per prompt, in order."""
        options = Options.from_params(params)
        return [
            "".join(
                update.text for update in self._answer(self._build_request(self.encode(prompt), options), options.stop)
            )
            for prompt in extract_prompts(model_input)
        ]

    def predict_stream(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield OpenAI-style `chat.completion.chunk` dicts for one prompt; the last has `finish_reason`, `usage` and `prompt_cache`.

        Chunks without text carry `queue: {ahead}` while the request waits for memory, and
        `prompt_progress: {processed, total}` in tokens during prefill. Closing the iterator stops the computation, and so does
        `cancel`.
        """
        prompts = extract_prompts(model_input)
        if len(prompts) != 1:
            raise _build_error(
                f"predict_stream answers one prompt at a time, not {len(prompts)}; use predict for several."
            )
        prompt, options = self.encode(prompts[0]), Options.from_params(params)
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        head = {"id": answer_id, "object": "chat.completion.chunk", "created": int(time.time())}
        head["model"] = self._name
        request = self._requests[answer_id] = self._build_request(prompt, options)
        for update in self._answer(request, options.stop):
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
                chunk["prompt_cache"] = asdict(self._scheduler.stats())
            yield chunk

    def cancel(self, answer_id: str) -> None:
        """Cancel the answer whose chunks have this id, from any thread; its iterator ends without a final chunk.

        The batched engine stops in the middle of a step, the other engine after it.
        """
        if request := self._requests.get(answer_id):
            self._scheduler.cancel(request)

    def prepare(self) -> None:
        """Allocate the KV cache for the next new chat, within the budget, if the model is idle."""
        self._scheduler.prepare()

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids of a rendered prompt; control tokens are encoded as such unless U+2063 neutralises them."""
        pieces = [piece.replace(_SEPARATOR * 2, _SEPARATOR) for piece in _LONE_SEPARATOR.split(prompt)]
        return [token for piece in pieces for token in self._tokenizer.encode(piece, add_special_tokens=False).ids]

    def _build_request(self, prompt: list[int], options: Options) -> engine.Request:
        """Build the request to compute. Raises MlflowException if the context has no room for an answer."""
        room = self._context_length - len(prompt)
        if room < 1:
            raise _build_error(
                f"The prompt has {len(prompt):,} tokens, but prompt and answer may have {self._context_length:,} together; shorten it."
            )
        # A stop string that is a control token is generated as a token, never as text.
        ends = self._ends | {self._special[stop] for stop in options.stop if stop in self._special}
        is_reproducible = options.temperature == 0 or options.seed >= 0
        return engine.Request(
            prompt, min(options.max_tokens, room), engine.Sampler(options, prompt), ends, is_reproducible
        )

    def _has_begun(self, prompt: list[int]) -> bool:
        """Whether text follows the last control token: the beginning of an answer that is to be continued."""
        special = set(self._special.values())
        last = next((end for end in range(len(prompt), 0, -1) if prompt[end - 1] in special), 0)
        return bool(self._tokenizer.decode(prompt[last:]).strip())

    def _answer(self, request: engine.Request, stop_strings: tuple[str, ...]) -> Iterator[_Update]:
        """Generate one answer. completion_tokens counts every generated token, including the end-of-turn token."""
        stream, stops = engine.TextStream(self._tokenizer), engine.StopStrings(stop_strings)
        if self._has_begun(request.prompt):
            stream.start_after(request.prompt[-1])  # this token decides whether the first word keeps its space
        events = self._scheduler.generate(request)
        cached, generated, ended, text = None, 0, False, ""
        try:
            for event in events:
                if isinstance(event, engine.QueuePosition):
                    yield _Update(ahead=event.ahead)
                elif isinstance(event, engine.PrefillProgress):
                    cached = event.count if cached is None else cached
                    yield _Update(prefilled=event.count)
                else:
                    generated += 1
                    ended = event.id in request.stop_ids
                    text = stops.push("" if ended else stream.push(event.id))
                    if ended or stops.hit or generated == request.max_tokens:
                        break
                    yield _Update(text)
            else:
                return  # cancelled
        finally:
            events.close()
        text += stops.push(stream.flush()) + stops.flush()
        reason = "stop" if ended or stops.hit else "length"
        yield _Update(text, finish_reason=reason, completion_tokens=generated, cached_tokens=cached or 0)


mlflow.models.set_model(Phi3Onnx())
