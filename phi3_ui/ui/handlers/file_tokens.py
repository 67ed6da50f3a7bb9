"""How many tokens the files of questions have that were sent."""

import threading

from phi3_ui.chat.conversation import Turn, split_files
from phi3_ui.chat.types import Message
from phi3_ui.host.pool import Pool

_MAX_KNOWN = 1000  # questions


class FileTokens:
    """Counts the files of each question once, by the model that was asked. Thread-safe."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str | None, str], list[int]] = {}

    def count(self, turn: Turn) -> list[int] | None:
        """The tokens of each file; None while that cannot be known, as the model is not loaded, or busy."""
        files, _ = split_files(turn.question)
        if not files or turn.request is None:
            return None
        model_id, template = turn.request.model_id, turn.request.template
        with self._lock:
            if known := self._known.get((model_id, template, turn.question)):
                return known
        model = self._pool.peek(model_id)
        prompts = [[Message("user", text)] for text in ("", *(block for _, block in files))]
        if model is None or (counts := model.count_tokens(prompts, template)) is None:
            return None
        tokens = [max(count - counts[0], 0) for count in counts[1:]]
        with self._lock:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[model_id, template, turn.question] = tokens
        return tokens
