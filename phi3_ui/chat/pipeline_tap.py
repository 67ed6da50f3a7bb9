"""The tokens of a transformers pipeline, tapped while `pyfunc.predict` computes them.

MLflow's flavour has no predict_stream. The pipeline it loaded can be had, though, and its model's `generate` is one
public method: here it is given a stopping criterion and the parameters which the flavour does not pass on, for the request
of the current thread.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from phi3_ui.chat.sampling import check, generate_arguments
from phi3_ui.chat.stops import StopStrings
from phi3_ui.chat.text_stream import TextStream
from phi3_ui.chat.torch_threads import thread_counts, threads
from phi3_ui.chat.types import Cancel, GenerationParams


class Tap:
    """One answer's tokens: `on_text` is called with each piece of text up to a stop string, `on_token` at each token.

    `ends` are stop strings besides the request's own. Raises UnusableParamError for a parameter out of its range.
    """

    def __init__(
        self,
        tokenizer: Any,
        on_text: Callable[[str], None],
        on_token: Callable[[], None],
        cancel: Cancel,
        params: GenerationParams,
        ends: tuple[str, ...] = (),
    ) -> None:
        check(params)
        stops = (*params.stop, *ends)
        self._stops = StopStrings(stops)
        # A stop string that is a control token comes as a token, and never as text.
        special = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._stop_tokens = {special[stop] for stop in stops if stop in special}
        self._stream = TextStream(tokenizer.backend_tokenizer)
        self._on_text, self._on_token = on_text, on_token
        self._started = False
        self.cancel = cancel
        self.cut = False  # a stop string was found: the text given so far is the answer
        self.ended = False  # by a stop string or token
        self.arguments = generate_arguments(params)
        self.decode_threads = 0  # 0: as many as the prompt was read with

    def stop(self, ids: Any, _scores: Any, **_: Any) -> bool:
        """A stopping criterion: called by generate after each token, the last of `ids` (1, tokens so far).

        A streamer is called after it, when a stop string would already have cost a token more.
        """
        if not self._started and self.decode_threads:
            import torch

            torch.set_num_threads(self.decode_threads)
        self._started = True
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


class TappedPipeline:
    """Makes one pipeline tappable, once, for its whole life."""

    def __init__(self, pipeline: Any) -> None:
        self.tokenizer = pipeline.tokenizer
        self._prompt_threads, self._decode_threads = thread_counts(pipeline.model)
        self._current: ContextVar[Tap | None] = ContextVar("tap", default=None)
        self._generate = pipeline.model.generate
        pipeline.model.generate = self._tapped_generate

    @contextlib.contextmanager
    def request(self, tap: Tap) -> Iterator[None]:
        """Within the block, what this thread generates goes through `tap`."""
        token = self._current.set(tap)
        try:
            yield
        finally:
            self._current.reset(token)

    def _tapped_generate(self, **arguments: Any) -> Any:
        tap = self._current.get()
        if tap is None:
            return self._generate(**arguments)
        from transformers import StoppingCriteriaList

        tap.decode_threads = self._decode_threads
        criteria = StoppingCriteriaList([*(arguments.pop("stopping_criteria", None) or []), tap.stop])
        with threads(self._prompt_threads):
            generated = self._generate(**{**arguments, **tap.arguments}, stopping_criteria=criteria)
        tap.end()
        return generated
