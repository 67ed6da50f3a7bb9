"""Token counts of the files attached to sent questions."""

import logging
import threading
from collections.abc import Sequence

from phi3_ui.chat.conversation import Turn, split_files
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.sources.model_source import ModelSource

logger = logging.getLogger(__name__)

_MAX_KNOWN = 1000  # files


class FileTokens:
    """Token counts of files; the model that was asked counts each file once. Thread-safe."""

    def __init__(self, models: ModelSource) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str | None, str], int] = {}

    def note(self, model_id: str, template: str | None, files: Sequence[str], tokens: Sequence[int]) -> None:
        """Keep a model's token counts for these files, in the form they have in a question."""
        with self._lock:
            if len(self._known) + len(files) > _MAX_KNOWN:
                self._known.clear()
            self._known |= {(model_id, template, file): count for file, count in zip(files, tokens, strict=True)}

    def count(self, turn: Turn) -> list[int] | None:
        """Return the token count of each file of a question; None while unknown because the model is not loaded, or busy."""
        files = [block for _, block in split_files(turn.question)[0]]
        if not files or turn.request is None:
            return None
        model_id, template = turn.request.model_id, turn.request.template
        with self._lock:
            known = [self._known.get((model_id, template, file)) for file in files]
        if None not in known:
            return [count or 0 for count in known]
        if model_id not in self._models.list_ready():
            return None
        prompts = [[Message("user", text)] for text in ("", *files)]
        try:
            counts = self._models.count_tokens(self._models.find(model_id), prompts, template)
        except UserError as error:
            logger.info("The files of a question are not counted: %s", error)
            return None
        if counts is None:
            return None
        tokens = [max(count - counts[0], 0) for count in counts[1:]]
        self.note(model_id, template, files, tokens)
        return tokens
