"""Hooks into `generate` of a transformers pipeline while `pyfunc.predict` runs it.

MLflow's transformers flavour has no predict_stream, ignores most generation parameters, and prefills every prompt from
scratch. The pipeline it loaded is accessible, though, and its model's `generate` is one public method: here it gets a
stopping criterion, the missing parameters and a KV cache, for the request of the current thread.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from phi3_ui.chat.types import CacheStats, CancelToken, GenerationParams
from phi3_ui.runtime.detokenizer import Detokenizer
from phi3_ui.runtime.memory import memory_budget
from phi3_ui.runtime.pipeline_kv_cache import PipelineKVCache
from phi3_ui.runtime.sampling import check_params, generate_arguments
from phi3_ui.runtime.stop_strings import StopStrings
from phi3_ui.runtime.torch_threads import choose_thread_counts, use_threads


@dataclass(frozen=True)
class GenerationListener:
    """The callbacks of one answer, called from the thread that generates it."""

    on_text: Callable[[str], None]
    """Gets each piece of text before a stop string."""

    on_token: Callable[[], None] = lambda: None
    """Called at each token."""

    on_prefill: Callable[[int, int], None] = lambda _processed, _total: None
    """Gets the number of prefilled prompt tokens and of all prompt tokens; first with those served from the cache."""


class GenerationHook:
    """The additions of one request to `generate`, and the state of its answer."""

    def __init__(  # noqa: PLR0913  # two are options
        self,
        tokenizer: Any,
        params: GenerationParams,
        cancel: CancelToken,
        listener: GenerationListener,
        extra_stops: tuple[str, ...] = (),
        prefix: str = "",
    ) -> None:
        """Prepare the hook. Raises UnusableParamError for a parameter out of range.

        `extra_stops` are added to the stop strings of `params`; `prefix`, the beginning of the answer, is added to the prompt.
        """
        check_params(params)
        stops = (*params.stop, *extra_stops)
        self._stops = StopStrings(stops)
        # A stop string that is a control token is generated as a token, never as text.
        special = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._stop_tokens = {special[stop] for stop in stops if stop in special}
        self._detokenizer = Detokenizer(tokenizer.backend_tokenizer)
        self.prefix = prefix
        self._listener = listener
        self.cancel = cancel
        self.arguments = generate_arguments(params)
        """Keyword arguments that override those of MLflow's flavour."""
        self.needs_exact_cache = params.seed is not None
        """Whether cached keys and values must be bit-identical to recomputed ones, so that a seed repeats the answer."""
        self.decode_threads = 0
        """The number of threads for decoding; 0: the same as for the prefill."""
        self.prompt_tokens = 0
        """The number of tokens in the prompt that the model gets."""
        self.max_tokens: int | None = None
        """The maximum number of tokens requested from `generate`; None: it uses another limit."""
        self.cached_tokens = 0
        """The number of prompt tokens served from the KV cache."""
        self.is_decoding = False
        """Whether the prompt is prefilled and at least one token was generated."""
        self.is_cut = False
        """Whether a stop string was found in the text, so that the text emitted so far is the complete answer."""
        self.is_stopped = False
        """Whether a stop string or stop token ended the answer."""

    def on_prefill(self, processed: int, total: int) -> None:
        """Report that `processed` of the prompt's `total` tokens are in the KV cache."""
        self.prompt_tokens = total
        self._listener.on_prefill(processed, total)

    def should_stop(self, ids: Any, _scores: Any, **_: Any) -> bool:
        """Stopping criterion: called by `generate` after each token, the last of `ids` (1, tokens so far).

        A streamer would be called too late: the token after a stop string would already be computed.
        """
        if not self.is_decoding:
            if self.decode_threads:
                import torch

                torch.set_num_threads(self.decode_threads)
            if self.prefix:  # its last token decides whether the first word keeps its space
                self._detokenizer.start_after(int(ids[0, -2]))
        self.is_decoding = True
        self._listener.on_token()
        token = int(ids[0, -1])
        self.is_stopped |= token in self._stop_tokens
        self._emit(self._stops.push(self._detokenizer.push(token)))
        return self.is_stopped or self.cancel.is_set()

    def finish(self) -> None:
        """Emit the text held back, since no more tokens follow. Bytes left in the detokenizer are part of the complete answer."""
        self._emit(self._stops.flush())

    def _emit(self, text: str) -> None:
        if self._stops.hit:
            self.is_cut = self.is_stopped = True
        if text:
            self._listener.on_text(text)


_CACHEABLE_SETTINGS = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "use_cache": True,
    "cache_implementation": None,
    "prefill_chunk_size": None,
    "prompt_lookup_num_tokens": None,
    "assistant_model": None,
    "token_healing": False,
    "return_dict_in_generate": False,
}
"""Settings of `generate` with the values, besides None, that our KV cache supports."""


class HookedPipeline:
    """Replaces `preprocess` and `generate` of one pipeline permanently. Serves one request at a time."""

    def __init__(self, pipeline: Any, writes_special_tokens: Callable[[str], bool], budget: int | None = None) -> None:
        """Hook `pipeline`; its KV cache may use `budget` bytes (None: see memory_budget).

        `writes_special_tokens` tells whether a prompt already contains the special tokens, such as BOS, that the tokenizer
        would add.
        """
        self.tokenizer = pipeline.tokenizer
        self._writes_special_tokens = writes_special_tokens
        self._pipeline = pipeline
        self._preprocess = pipeline.preprocess
        pipeline.preprocess = self._hooked_preprocess
        self._model = pipeline.model
        self._prefill_threads, self._decode_threads = choose_thread_counts(pipeline.model)
        self._budget = budget
        self._cache = self._create_cache()
        self._current: ContextVar[GenerationHook | None] = ContextVar("generation_hook", default=None)
        self._generate = pipeline.model.generate
        pipeline.model.generate = self._hooked_generate

    def cache_stats(self) -> CacheStats:
        """Return the size of the KV cache, and its hits and misses."""
        return self._cache.stats()

    def move_to(self, device: str) -> None:
        """Compute on `device`, a torch device type, from now on, in a process forked from the one that loaded the model.

        OpenMP's threads do not exist in such a process, and waiting for them would never end, so the CPU uses one thread.
        """
        import torch

        torch.set_num_threads(1)
        self._prefill_threads = self._decode_threads = 1
        if self._model.device.type != device:
            self._model.to(device)
            self._pipeline.device = torch.device(device)
            self._cache = self._create_cache()

    def _create_cache(self) -> PipelineKVCache:
        """Create an empty KV cache on the model's current device."""
        budget = memory_budget(self._model.device) if self._budget is None else self._budget
        return PipelineKVCache(self._model, budget)

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids that the model gets for `prompt`."""
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=not self._writes_special_tokens(prompt))["input_ids"]
        return ids

    @contextlib.contextmanager
    def active_hook(self, hook: GenerationHook) -> Iterator[None]:
        """Apply `hook` to what this thread generates during the block."""
        token = self._current.set(hook)
        try:
            yield
        finally:
            self._current.reset(token)

    def _hooked_preprocess(self, prompt: str, **arguments: Any) -> Any:
        if hook := self._current.get():
            prompt += hook.prefix
        return self._preprocess(prompt, **{**arguments, "add_special_tokens": not self._writes_special_tokens(prompt)})

    def _hooked_generate(self, **arguments: Any) -> Any:
        hook = self._current.get()
        if hook is None:
            return self._generate(**arguments)
        from transformers import StoppingCriteriaList

        hook.decode_threads = self._decode_threads
        hook.max_tokens = self._setting(arguments, "max_new_tokens")
        criteria = StoppingCriteriaList([*(arguments.pop("stopping_criteria", None) or []), hook.should_stop])
        with use_threads(self._prefill_threads):
            generated = self._generate_cached(hook, {**arguments, **hook.arguments, "stopping_criteria": criteria})
        hook.finish()
        return generated

    def _generate_cached(self, hook: GenerationHook, arguments: dict[str, Any]) -> Any:
        """Return the tokens of prompt and answer, shape (1, tokens); only the prompt if cancelled during prefill."""
        ids, mask = arguments.get("input_ids"), arguments.get("attention_mask")
        prompt: list[int] = [] if ids is None or len(ids) > 1 else ids[0].tolist()
        has_padding = mask is not None and not mask.all()
        if not prompt or has_padding or not self._is_cacheable(arguments) or not self._cache.can_serve(prompt):
            hook.on_prefill(0, len(prompt))
            return self._generate(**arguments)
        slot = self._cache.acquire(prompt, hook.max_tokens or 0, hook.needs_exact_cache)
        hook.cached_tokens = len(slot.tokens)
        hook.on_prefill(len(slot.tokens), len(prompt))
        while not hook.cancel.is_set() and (
            end := self._cache.next_chunk_end(slot, len(prompt), hook.needs_exact_cache)
        ):
            self._cache.prefill(slot, ids, mask, end)
            hook.on_prefill(end, len(prompt))
        generated: Any = ids if hook.cancel.is_set() else self._generate(**arguments, past_key_values=slot.cache)
        # After an error, the state of the cache is unknown, so the slot is not released.
        self._cache.release(slot, generated[0].tolist())
        return generated

    def _is_cacheable(self, arguments: dict[str, Any]) -> bool:
        return all(self._setting(arguments, name) in (None, value) for name, value in _CACHEABLE_SETTINGS.items())

    def _setting(self, arguments: dict[str, Any], name: str) -> Any:
        """Return the value that `generate` uses: its argument, else the given generation config, else the model's own."""
        if name in arguments:
            return arguments[name]
        return getattr(arguments.get("generation_config") or self._model.generation_config, name, None)
