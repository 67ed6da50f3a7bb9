"""What the store knows of models, as values: an entry of the list, and the details of one model."""

from dataclasses import dataclass, field
from datetime import datetime

from phi3_ui.chat.types import Message


@dataclass(frozen=True)
class LoggedRequest:
    """What a model that MLflow's openai flavour logged consists of: a name, and messages, for a server elsewhere."""

    model: str
    """What the server calls it."""
    messages: tuple[Message, ...] = ()
    """What comes before each conversation."""


@dataclass(frozen=True)
class ModelEntry:
    """A chat-capable model, logged or of a remote server."""

    name: str
    model_id: str
    uri: str
    contract: str
    """The name of a contract in CONTRACTS; `remote` or `openai` where a server answers."""
    flavor: str
    """`transformers`, `openai`, `pyfunc` or `remote`."""
    engine: str
    """`transformers`, `onnxruntime-genai`, `openai`, `remote`, or `python` for any other wrapper."""
    created: datetime
    """UTC; of a remote model 1970, if its server does not say it."""
    size_bytes: int | None
    run_id: str | None
    """None for a model that was logged outside a run."""
    preset: str | None
    """The preset it was built from, if any."""
    tracking_uri: str
    template: str | None = None
    """The prompt template stored for it, a key of TEMPLATES."""
    requires_template: bool = False
    """It brings no prompt template of its own."""
    supported_params: tuple[str, ...] = ()
    """The generation parameters that have an effect, sorted."""
    streamable: bool = False
    context_length: int | None = None
    """Tokens."""
    degrades_after: int | None = None
    """Number of context tokens beyond which its answers are known to get worse."""
    folder: str | None = None
    """Where its files are; None if they are not on this machine."""
    declares_code: bool = False
    """Its MLmodel alone tells that it brings code; its files may tell more."""
    can_continue: bool = False
    """It can go on with an answer that was cut."""
    logged_request: LoggedRequest | None = None
    """Set for a model of MLflow's openai flavour."""
    host: str | None = None
    """Where its questions go, with the port; None: to no server that is known."""
    is_elsewhere: bool = False
    """That is another machine."""

    @property
    def is_remote(self) -> bool:
        """Whether a server answers for it, not a process of this app."""
        return self.is_unlogged or self.logged_request is not None

    @property
    def is_unlogged(self) -> bool:
        """Whether the tracking store knows nothing of it."""
        return self.engine == "remote"


@dataclass(frozen=True)
class RunSummary:
    """The run that logged a model."""

    run_id: str
    name: str
    experiment: str
    """The experiment's name."""
    status: str
    started: datetime
    """UTC."""
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    """Without those of MLflow."""
    experiment_id: str = ""
    is_deleted: bool = False
    """It is in MLflow's bin, from which it can be restored."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version of a logged model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    """The aliases that point at it, sorted."""


@dataclass(frozen=True)
class ModelCard:
    """The details of one model, as the page shows them."""

    entry: ModelEntry
    title: str
    license: str
    context_length: int | None
    """Tokens."""
    signature: dict[str, tuple[str, ...]]
    """For inputs, outputs and params, one text per field."""
    run: RunSummary | None
    versions: tuple[RegisteredVersion, ...] = field(default=())
    experiment_id: str = ""
    """The experiment of the logged model."""
