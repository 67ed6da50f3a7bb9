"""What the store holds, as values: a model in the list, and all that is known of one."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ModelEntry:
    """One chat-capable logged model. `contract` is the name of one of CONTRACTS; `created` is in UTC.

    `engine` is what computes: `transformers`, `onnxruntime-genai`, or `python` for any other wrapper. `run_id` is None for
    a model logged outside a run, `preset` for one that no preset made. `template` is the key of the prompt template picked
    for it in the store, of which it `requires_template`. `honours` names the settings that have an effect. `context_length` is
    in tokens; its answers are known to get worse after `degrades_after` of them.
    """

    name: str
    model_id: str
    uri: str
    contract: str
    flavor: str
    engine: str
    created: datetime
    size_bytes: int | None
    run_id: str | None
    preset: str | None
    tracking_uri: str
    template: str | None = None
    requires_template: bool = False
    supported_params: tuple[str, ...] = ()
    streamable: bool = False
    context_length: int | None = None
    degrades_after: int | None = None


@dataclass(frozen=True)
class RunSummary:
    """The run that logged a model; times in UTC. `experiment` is a name."""

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    experiment_id: str = ""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version of the model; `aliases` are those that point at it."""

    name: str
    version: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class RegisteredAlias:
    """An alias of the registry, the version it points at, and the logged model behind that."""

    name: str
    alias: str
    version: str
    model_id: str


@dataclass(frozen=True)
class ModelCard:
    """All that the page shows of a model. `signature` maps inputs, outputs and params to one line a field.

    `experiment_id` is that of the logged model.
    """

    entry: ModelEntry
    title: str
    license: str
    context_length: int | None
    signature: dict[str, tuple[str, ...]]
    run: RunSummary | None
    versions: tuple[RegisteredVersion, ...] = field(default=())
    experiment_id: str = ""
