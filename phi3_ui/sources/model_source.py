"""The one interface to models, wherever they run, for the page, comparisons, evaluations, the API and the command line."""

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
    """A model that accepts requests, even while it is loading."""

    @property
    def ready(self) -> "Future[StreamingMode]":
        """A future that resolves when the model is loaded, or raises the UserError that ended the load."""
        ...


@dataclass(frozen=True)
class OpenState:
    """Whether a model is ready to answer."""

    phase: Literal["closed", "loading", "ready", "failed"] = "closed"
    """A remote model is closed until its server has been queried."""
    seconds: float = 0.0
    """The time since it started to load."""
    streaming: StreamingMode | None = None
    """How it delivers text, once it is ready."""
    error: UserError | None = None
    """Why it failed."""
    cache: CacheStats | None = None
    batching: Batching | None = None


CLOSED = OpenState()


class ModelSource(Protocol):
    """Lists, finds and opens models. Thread-safe. Methods raise the documented UserErrors, and those of translate_store_errors."""

    def list_models(self) -> list[ModelEntry]:
        """Return all models, in the order in which they are listed."""
        ...

    def find(self, name: str | None) -> ModelEntry:
        """Return the model with this name or id. Raises UserError: no_model, model_gone, remote_gone, model_unreadable."""
        ...

    def is_usable(self, entry: ModelEntry) -> bool:
        """Return whether a model may be opened, as far as that is known."""
        ...

    def require(self, entry: ModelEntry) -> None:
        """Raise the UserError that explains why a model must not be opened, if so."""
        ...

    def open(self, entry: ModelEntry, template: str | None = None) -> OpenModel:
        """Return the model, starting to load it if necessary; `template` overrides its prompt template.

        Raises:
            UserError: Those of `require`, and too_many_models.
        """
        ...

    def get_state(self, entry: ModelEntry) -> OpenState:
        """Return whether a model is ready to answer, without waiting."""
        ...

    def list_ready(self) -> list[str]:
        """Return the ids of the models that are ready to answer, without waiting."""
        ...

    def load_card(self, entry: ModelEntry) -> ModelCard:
        """Return the details of a model."""
        ...

    def diagnose(self, entry: ModelEntry) -> Diagnosis:
        """Check a model for problems."""
        ...

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        """Return the number of tokens of each prompt; None if they cannot be counted now."""
        ...
