"""The values of which a session consists: the picked model, the list of chats, and what its panels show."""

import threading
from dataclasses import dataclass, field, replace

from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.imports import ImportJob


@dataclass(frozen=True)
class ModelSelection:
    """What the page's model picker holds."""

    key: str | None = None
    """A model id, or `name@alias`."""
    entry: ModelEntry | None = None
    """The model that the key means, once it was found."""
    versions: tuple[RegisteredVersion, ...] = ()
    """The registered versions of the model, oldest first."""
    error: UserError | None = None
    """Why the model was not found or cannot be loaded."""

    @property
    def version(self) -> RegisteredVersion | None:
        """The version that the key names by its alias, else the newest."""
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
    """What the list of chats shows."""

    query: str = ""
    start: int = 0
    """Position of the first chat that is sent to the page."""
    pending_delete: PendingDelete | None = None


@dataclass(frozen=True)
class Promotion:
    """A registry change that waits for confirmation."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True)
class Approval:
    """The files of a model, as its card shows them with a button to allow their code."""

    model_id: str
    fingerprint: str


@dataclass(frozen=True)
class RatedTurn:
    """The answer that was rated last, to which a comment can be added."""

    chat: Chat
    turn_id: str


@dataclass(frozen=True)
class RatingsChoice:
    """Which votes the leaderboard counts, and how it shows them."""

    person: str = "me"
    """`me`, `all`, or the id of a person."""
    period: str = "all"
    """A key of PERIODS in handlers/ratings.py."""
    grouping: str = "version"
    """What a contestant is: `version`, each logged model by itself, or `registered`, a registered model with all its versions."""
    prompt_set: str = ""
    """Id of the prompt set whose questions count; empty: all do."""
    pair: tuple[str, str] | None = None
    """The contestants whose rounds are listed; None: all."""


@dataclass(frozen=True)
class EvaluationsChoice:
    """What the view of evaluations shows."""

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
    """Whether something that is shown was under way when it was drawn."""


@dataclass
class PanelState:
    """Independent values, each of them set and read by itself; what is read and set as one has a method and the lock."""

    usage_open: bool = False
    """Whether the page shows all usage."""
    replay_open: bool = False
    """Whether the page shows the comparison of a replay."""
    compare_open: bool = False
    """Whether the page shows the comparison."""
    awaits_answer: bool = False
    """Whether the chat was drawn while it was being answered, by an event that does not draw the answer's end."""
    evaluations: EvaluationsChoice | None = None
    """What the view of evaluations shows; None while it is closed."""
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
        """What the leaderboard shows; None while it is closed."""
        return self._ratings

    @ratings.setter
    def ratings(self, choice: RatingsChoice | None) -> None:
        with self._lock:
            self._ratings = choice

    def change_ratings(self, **changes: object) -> RatingsChoice | None:
        """Change fields of what the leaderboard shows; returns what it shows now, None while it is closed."""
        with self._lock:
            self._ratings = self._ratings and replace(self._ratings, **changes)  # type: ignore[arg-type]  # of its fields
            return self._ratings
