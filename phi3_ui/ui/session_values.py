"""Values that make up a session: the selected model, the chat list, and the state of the panels."""

import threading
from dataclasses import dataclass, field, replace

from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.imports import ImportJob


@dataclass(frozen=True)
class ModelSelection:
    """The state of the page's model picker."""

    key: str | None = None
    """A model id, or `name@alias`."""
    entry: ModelEntry | None = None
    """The model that the key refers to, once found."""
    versions: tuple[RegisteredVersion, ...] = ()
    """The registered versions of the model, oldest first."""
    error: UserError | None = None
    """Why the model was not found or cannot be loaded."""

    @property
    def version(self) -> RegisteredVersion | None:
        """The version named by the key's alias, else the newest."""
        name, _, alias = (self.key or "").rpartition("@")
        picked = (one for one in self.versions if one.name == name and alias in one.aliases)
        return next(picked, self.versions[-1] if self.versions else None)


@dataclass(frozen=True)
class PendingDelete:
    """A deletion that can still be undone."""

    chat_id: str
    title: str
    was_shown: bool
    """Whether the page showed the chat when it was deleted."""


@dataclass(frozen=True)
class ChatListState:
    """The state of the chat list."""

    query: str = ""
    start: int = 0
    """Position of the first chat that is sent to the page."""
    pending_delete: PendingDelete | None = None


@dataclass(frozen=True)
class Promotion:
    """A registry change awaiting confirmation."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True)
class Approval:
    """A model's files as shown on its card, with a button to allow their code."""

    model_id: str
    fingerprint: str


@dataclass(frozen=True)
class RatedTurn:
    """The answer rated last, to which a comment can be added."""

    chat: Chat
    turn_id: str


@dataclass(frozen=True)
class RatingsChoice:
    """Which votes the leaderboard counts, and how it shows them."""

    person: str = "me"
    """`me`, `all`, or a user id."""
    period: str = "all"
    """A key of PERIODS in handlers/ratings.py."""
    grouping: str = "version"
    """What a contestant is: `version`, each logged model on its own, or `registered`, a registered model with all its versions."""
    prompt_set: str = ""
    """Id of the prompt set whose questions count; empty: all do."""
    pair: tuple[str, str] | None = None
    """The contestants whose rounds are listed; None: all."""


@dataclass(frozen=True)
class EvaluationsChoice:
    """The state of the evaluations view."""

    page: str = "home"
    """`home`, `set`, `new` (an evaluation) or `results`."""
    set_id: str = ""
    version: int | None = None
    """Of the set; None: the newest."""
    evaluation_id: str = ""
    rows: str = "all"
    """Which rows of the results are shown: a key of ROW_FILTERS in render/evaluation_results.py."""
    start: int = 0
    """Position of the first row or record that is shown."""
    is_live: bool = False
    """Whether anything shown was in progress when it was drawn."""


@dataclass
class PanelState:
    """Independent values, each read and set on its own; a read-modify-write has a method that holds the lock."""

    usage_open: bool = False
    """Whether the page shows all usage."""
    replay_open: bool = False
    """Whether the page shows the comparison of a replay."""
    compare_open: bool = False
    """Whether the page shows the comparison."""
    awaits_answer: bool = False
    """Whether the chat was drawn with an answer in progress, by an event that will not draw the answer's end."""
    evaluations: EvaluationsChoice | None = None
    """State of the evaluations view; None while it is closed."""
    links_shown: bool = False
    """Whether the page shows links into MLflow."""
    rated: RatedTurn | None = None
    promotion: Promotion | None = None
    offered: Approval | None = None
    listed_import: ImportJob | None = None
    """The import whose chats the page has listed."""
    closed_import: ImportJob | None = None
    """The import whose result the page no longer shows."""
    _ratings: RatingsChoice | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def ratings(self) -> RatingsChoice | None:
        """State of the leaderboard; None while it is closed."""
        return self._ratings

    @ratings.setter
    def ratings(self, choice: RatingsChoice | None) -> None:
        with self._lock:
            self._ratings = choice

    def change_ratings(self, **changes: object) -> RatingsChoice | None:
        """Change fields of the leaderboard's state and return the new state; None while it is closed."""
        with self._lock:
            self._ratings = self._ratings and replace(self._ratings, **changes)  # type: ignore[arg-type]  # of its fields
            return self._ratings
