"""The tokens of a transformers pipeline, tapped while `pyfunc.predict` computes them.

MLflow's flavour has no predict_stream. The pipeline it loaded can be had, though, and its model's `generate` is one
public method: here it is given a streamer and a stopping criterion for the request of the current thread.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from phi3_ui.chat.torch_threads import thread_counts, threads
from phi3_ui.chat.types import Cancel


class Tap:
    """One answer's tokens: `on_text` is called with each piece of text, `on_token` with the count so far."""

    def __init__(
        self, tokenizer: Any, on_text: Callable[[str], None], on_token: Callable[[], None], cancel: Cancel
    ) -> None:
        from tokenizers.decoders import DecodeStream

        self._backend = tokenizer.backend_tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._on_text, self._on_token = on_text, on_token
        self._puts = 0
        self.cancel = cancel
        self.overrides: dict[str, Any] = {}
        self.decode_threads = 0  # 0: as many as the prompt was read with

    def put(self, ids: Any) -> None:
        """Called by generate: first with the prompt, then with each new token."""
        self._puts += 1
        if self._puts == 1:
            return
        if self._puts == 2 and self.decode_threads:
            import torch

            torch.set_num_threads(self.decode_threads)
        self._on_token()
        for token in ids.flatten().tolist():
            if piece := self._stream.step(self._backend, token):
                self._on_text(piece)

    def end(self) -> None:
        """Called by generate at its end; what the decoder still holds comes with the whole answer."""

    def stop(self, _ids: Any, _scores: Any, **_: Any) -> bool:
        """A stopping criterion: looked at after each token."""
        return self.cancel.is_set()


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
            return self._generate(**{**arguments, **tap.overrides}, streamer=tap, stopping_criteria=criteria)
