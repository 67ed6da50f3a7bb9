"""A store and models with scripted answers, for evaluation tests that need no model process."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from models.tracking import Store
from phi3_ui.addresses import sqlite_uri
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    Message,
    TextDelta,
    Timings,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.evaluation.evaluations import Evaluations, ModelAccess
from phi3_ui.evaluation.prompt_set import PromptRecord
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.registry.cards import ModelEntry
from tests.support.build_cache import create_store


def make_record(question: str, **expectations: object) -> PromptRecord:
    return PromptRecord((Message("user", question),), expectations)


def make_entry(model_id: str, tracking_uri: str = "") -> ModelEntry:
    """Return the entry of a stored model, with the fields that evaluations need."""
    return ModelEntry(
        name=model_id,
        model_id=model_id,
        uri=f"models:/{model_id}",
        contract="prompt",
        flavor="pyfunc",
        engine="python",
        created=datetime.now(UTC),
        size_bytes=None,
        run_id=None,
        preset=None,
        tracking_uri=tracking_uri,
        supported_params=("max_tokens", "seed", "temperature"),
    )


@dataclass
class TableModel:
    """A fake model that answers from a table. It echoes unknown questions, and raises answers that are errors."""

    answers: dict[str, str | UserError] = field(default_factory=dict)
    seconds: float = 0.5
    requests: list[ChatRequest] = field(default_factory=list)
    on_request: Callable[[ChatRequest], None] = lambda _: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        self.on_request(request)
        if cancel.is_set():
            yield Completed("", None, Timings(None, 0.0, None), "cancelled")
            return
        answer = self.answers.get(request.messages[-1].content, request.messages[-1].content)
        if isinstance(answer, UserError):
            raise answer
        yield TextDelta(answer)
        timings = Timings(self.seconds / 10 + number / 1000, self.seconds + number / 100, 40.0)
        yield Completed(answer, Usage(10, 4), timings, "stop")

    @property
    def questions(self) -> list[str]:
        return [request.messages[-1].content for request in self.requests]


@dataclass(frozen=True)
class Bench:
    """A store, its models by id, and their evaluations."""

    location: ChatLocation
    models: dict[str, ChatModel]
    evaluations: Evaluations


def open_bench(folder: Path, models: dict[str, ChatModel], untrusted: Sequence[str] = (), judge_key: str = "") -> Bench:
    """Open evaluations in the store of `folder`, which is created if missing.

    The `untrusted` models are refused: loading them would run code that nobody has approved.
    """
    uri = sqlite_uri(folder / "mlflow.db")
    if not (folder / "mlflow.db").exists():
        create_store(folder, "phi3-chat")
    location = ChatLocation(uri, Store(uri).experiment_id())

    def find_entry(model_id: str) -> ModelEntry:
        if model_id not in models:
            raise UserError("model_gone")
        return make_entry(model_id, uri)

    def require_trust(entry: ModelEntry) -> None:
        if entry.model_id in untrusted:
            raise UserError("model_not_trusted", model=entry.name, id=entry.model_id, files="code.py")

    access = ModelAccess(find_entry, require_trust, lambda entry, _: models[entry.model_id])
    return Bench(location, models, Evaluations(lambda: location, access, folder / "locks", lambda: judge_key))
