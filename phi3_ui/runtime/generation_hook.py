"""The tokens of a transformers pipeline, tapped while `pyfunc.predict` computes them.

MLflow's flavour has no predict_stream. The pipeline it loaded can be had, though, and its model's `generate` is one
public method: here it is given a stopping criterion, the parameters which the flavour does not pass on, and what the model
has read before, for the request of the current thread.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from phi3_ui.chat.types import CacheUse, Cancel, GenerationParams
from phi3_ui.runtime.detokenizer import Detokenizer
from phi3_ui.runtime.memory import memory_budget
from phi3_ui.runtime.pipeline_kv_cache import PipelineKVCache
from phi3_ui.runtime.sampling import check, generate_arguments
from phi3_ui.runtime.stop_strings import StopStrings
from phi3_ui.runtime.torch_threads import thread_counts, threads


class GenerationHook:
    """One answer's tokens: `on_text` is called with each piece of text up to a stop string, `on_token` at each token.

    While the prompt is read, `on_read` is called with how many of its tokens are, and of how many; first with those that
    were so before. `ends` are stop strings besides the request's own. Raises UnusableParamError for a parameter out of its range.
    """

    def __init__(
        self,
        tokenizer: Any,
        on_text: Callable[[str], None],
        on_token: Callable[[], None],
        cancel: Cancel,
        params: GenerationParams,
        ends: tuple[str, ...] = (),
        on_read: Callable[[int, int], None] = lambda _read, _of: None,
    ) -> None:
        check(params)
        stops = (*params.stop, *ends)
        self._stops = StopStrings(stops)
        # A stop string that is a control token comes as a token, and never as text.
        special = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._stop_tokens = {special[stop] for stop in stops if stop in special}
        self._stream = Detokenizer(tokenizer.backend_tokenizer)
        self._on_text, self._on_token, self.on_read = on_text, on_token, on_read
        self.started = False  # the prompt is read, and there is a token
        self.cancel = cancel
        self.cut = False  # a stop string was found: the text given so far is the answer
        self.ended = False  # by a stop string or token
        self.cached_tokens = 0  # of the prompt: read before
        self.arguments = generate_arguments(params)
        self.exact = params.seed is not None  # what makes the answer repeatable must be the same to the last bit
        self.decode_threads = 0  # 0: as many as the prompt was read with

    def stop(self, ids: Any, _scores: Any, **_: Any) -> bool:
        """A stopping criterion: called by generate after each token, the last of `ids` (1, tokens so far).

        A streamer is called after it, when a stop string would already have cost a token more.
        """
        if not self.started and self.decode_threads:
            import torch

            torch.set_num_threads(self.decode_threads)
        self.started = True
        self._on_token()
        token = int(ids[0, -1])
        self.ended |= token in self._stop_tokens
        self._give(self._stops.push(self._stream.push(token)))
        return self.ended or self.cancel.is_set()

    def end(self) -> None:
        """No more tokens come. What the decoder still holds comes with the whole answer."""
        self._give(self._stops.flush())

    def _give(self, text: str) -> None:
        if self._stops.hit:
            self.cut = self.ended = True
        if text:
            self._on_text(text)


# What `generate` may be told that it cannot do with a cache of ours, but for these values.
_PLAIN = {
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


class HookedPipeline:
    """Makes one pipeline tappable, once, for its whole life. One request at a time.

    `budget` is how many bytes it may keep of what it has read; None: as memory_budget says.
    """

    def __init__(self, pipeline: Any, budget: int | None = None) -> None:
        self.tokenizer = pipeline.tokenizer
        self._model = pipeline.model
        self._prompt_threads, self._decode_threads = thread_counts(pipeline.model)
        self._slots = PipelineKVCache(
            pipeline.model, memory_budget(pipeline.model.device) if budget is None else budget
        )
        self._current: ContextVar[GenerationHook | None] = ContextVar("tap", default=None)
        self._generate = pipeline.model.generate
        pipeline.model.generate = self._hooked_generate

    def cache_use(self) -> CacheUse:
        return self._slots.use()

    @contextlib.contextmanager
    def request(self, tap: GenerationHook) -> Iterator[None]:
        """Within the block, what this thread generates goes through `tap`."""
        token = self._current.set(tap)
        try:
            yield
        finally:
            self._current.reset(token)

    def _hooked_generate(self, **arguments: Any) -> Any:
        tap = self._current.get()
        if tap is None:
            return self._generate(**arguments)
        from transformers import StoppingCriteriaList

        tap.decode_threads = self._decode_threads
        criteria = StoppingCriteriaList([*(arguments.pop("stopping_criteria", None) or []), tap.stop])
        with threads(self._prompt_threads):
            generated = self._in_slot(tap, {**arguments, **tap.arguments, "stopping_criteria": criteria})
        tap.end()
        return generated

    def _in_slot(self, tap: GenerationHook, arguments: dict[str, Any]) -> Any:
        """What `generate` returns, (1, tokens of prompt and answer): the prompt alone if it was cancelled before its end."""
        ids, mask = arguments.get("input_ids"), arguments.get("attention_mask")
        prompt: list[int] = [] if ids is None or len(ids) > 1 else ids[0].tolist()
        masked = mask is not None and not mask.all()
        if not prompt or masked or not self._is_plain(arguments) or not self._slots.serves(prompt):
            tap.on_read(0, len(prompt))
            return self._generate(**arguments)
        slot = self._slots.take(prompt, self._said(arguments, "max_new_tokens") or 0, tap.exact)
        tap.cached_tokens = len(slot.tokens)
        tap.on_read(len(slot.tokens), len(prompt))
        while not tap.cancel.is_set() and (end := self._slots.next_end(slot, len(prompt), tap.exact)):
            self._slots.read(slot, ids, mask, end)
            tap.on_read(end, len(prompt))
        generated: Any = ids if tap.cancel.is_set() else self._generate(**arguments, past_key_values=slot.cache)
        # Not so after an error, when nobody knows what the cache holds.
        self._slots.keep(slot, generated[0].tolist())
        return generated

    def _is_plain(self, arguments: dict[str, Any]) -> bool:
        return all(self._said(arguments, name) in (None, value) for name, value in _PLAIN.items())

    def _said(self, arguments: dict[str, Any], name: str) -> Any:
        """What `generate` goes by: its argument, or else the configuration that it is given, or the model's own."""
        if name in arguments:
            return arguments[name]
        return getattr(arguments.get("generation_config") or self._model.generation_config, name, None)
