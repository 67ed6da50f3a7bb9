"""The one interface to models for the page, comparisons, evaluations, the API and the command line, wherever they run."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import Batching, CacheStats, Message, StreamingMode
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelCard, ModelEntry
from phi3_ui.store.registry.doctor import Diagnosis


class OpenModel(ChatModel, Protocol):
    """A model that can be asked now, also while it is loading."""

    @property
    def ready(self) -> "Future[StreamingMode]":
        """Resolves when it is loaded, or raises the UserError that ended the load."""
        ...


@dataclass(frozen=True)
class OpenState:
    """Whether a model can answer at once."""

    phase: Literal["closed", "loading", "ready", "failed"] = "closed"
    """A remote model is closed while its server was not asked yet."""
    seconds: float = 0.0
    """Since it began to load."""
    streaming: StreamingMode | None = None
    """How it streams, once it is ready."""
    error: UserError | None = None
    """Why it has failed."""
    cache: CacheStats | None = None
    batching: Batching | None = None


CLOSED = OpenState()


class ModelSource(Protocol):
    """Lists, finds and opens models. Thread-safe. Methods raise UserError as they say, and those of translate_store_errors."""

    def list_models(self) -> list[ModelEntry]:
        """All models, in the order in which they are offered."""
        ...

    def find(self, name: str | None) -> ModelEntry:
        """The model with this name or id. UserError: no_model, model_gone, remote_gone, model_unreadable."""
        ...

    def is_usable(self, entry: ModelEntry) -> bool:
        """Whether a model may be opened, as far as it is known."""
        ...

    def require(self, entry: ModelEntry) -> None:
        """Raise the UserError that says why a model must not be opened."""
        ...

    def open(self, entry: ModelEntry, template: str | None = None) -> OpenModel:
        """The model, which begins to load if need be; `template` replaces its prompt template. UserError as `require`, too_many_models."""
        ...

    def get_state(self, entry: ModelEntry) -> OpenState:
        """Whether a model can answer at once; never waits."""
        ...

    def list_ready(self) -> list[str]:
        """The ids of the models that can answer at once; never waits."""
        ...

    def load_card(self, entry: ModelEntry) -> ModelCard:
        """The details of a model."""
        ...

    def diagnose(self, entry: ModelEntry) -> Diagnosis:
        """What is wrong with a model."""
        ...

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        """The number of tokens of each prompt; None if that cannot be counted now."""
        ...
