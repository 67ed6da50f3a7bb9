"""Models as values: an entry of the model list, and the details of one model."""

from dataclasses import dataclass, field
from datetime import datetime

from phi3_ui.chat.types import Message


@dataclass(frozen=True)
class LoggedRequest:
    """The content of a model that MLflow's openai flavour logged: a model name and messages for a remote server."""

    model: str
    """The server's name for it."""
    messages: tuple[Message, ...] = ()
    """The messages that precede each conversation."""


@dataclass(frozen=True)
class ModelEntry:
    """A chat-capable model, logged or on a remote server."""

    name: str
    model_id: str
    uri: str
    contract: str
    """The name of a contract in CONTRACTS; `remote` or `openai` if a remote server answers."""
    flavor: str
    """`transformers`, `openai`, `pyfunc` or `remote`."""
    engine: str
    """`transformers`, `onnxruntime-genai`, `openai`, `remote`, or `python` for any other wrapper."""
    created: datetime
    """UTC; 1970 for a remote model whose server does not report it."""
    size_bytes: int | None
    run_id: str | None
    """None for a model that was logged outside a run."""
    preset: str | None
    """The preset it was built from, if any."""
    tracking_uri: str
    template: str | None = None
    """The prompt template stored for it, a key of TEMPLATES."""
    requires_template: bool = False
    """Whether it has no prompt template of its own."""
    supported_params: tuple[str, ...] = ()
    """The generation parameters that have an effect, sorted."""
    streamable: bool = False
    context_length: int | None = None
    """Tokens."""
    degrades_after: int | None = None
    """The number of context tokens beyond which its answers are known to degrade."""
    folder: str | None = None
    """The folder of its files; None if they are not on this machine."""
    declares_code: bool = False
    """Whether its MLmodel declares code. If not, its files may still contain code."""
    can_continue: bool = False
    """Whether it can continue a truncated answer."""
    logged_request: LoggedRequest | None = None
    """Set for a model of MLflow's openai flavour."""
    host: str | None = None
    """The host, with port, that its requests are sent to; None if there is none, or it is unknown."""
    is_elsewhere: bool = False
    """Whether that host is another machine."""

    @property
    def is_remote(self) -> bool:
        """Whether a remote server answers, not a process of this app."""
        return self.is_unlogged or self.logged_request is not None

    @property
    def is_unlogged(self) -> bool:
        """Whether the tracking store does not contain it."""
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
    """Without MLflow's own tags."""
    experiment_id: str = ""
    is_deleted: bool = False
    """Whether it is in MLflow's bin, from which it can be restored."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version of a logged model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    """The aliases that point to it, sorted."""


@dataclass(frozen=True)
class ModelCard:
    """The details of one model, as shown on the page."""

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
