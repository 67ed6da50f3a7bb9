"""The contract interface: how one kind of logged chat model is recognised, called through pyfunc and reproduced."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import Batching, ChatRequest, StreamingMode, Usage
from phi3_ui.contracts.declaration import ModelDeclaration

PROGRAMS = Path(__file__).with_name("programs")
"""The folder with the Jinja templates of the programs that Reproduce writes."""


@dataclass(frozen=True)
class PyfuncCall:
    """The arguments of one `predict` or `predict_stream`."""

    data: Any
    """The model's input."""

    params: dict[str, Any] | None = None
    """The inference parameters; None: pass none."""

    stop_strings: tuple[str, ...] = ()
    """Stop strings that the adapter applies, not the model."""


@dataclass(frozen=True)
class RecordedAnswer:
    """The parts of an answer in a conversation that a program needs to reproduce it."""

    declaration: ModelDeclaration
    """The declarations of the model that answered."""

    request: ChatRequest
    """The request sent to the model, after fitting it into the context."""

    call: PyfuncCall
    """`request` as the contract's call of pyfunc."""

    usage: Usage | None
    """The answer's token counts, if known."""


class Adapter(ChatModel, Protocol):
    """A ChatModel over a loaded pyfunc model, in the model's own process."""

    delivery: StreamingMode


@runtime_checkable
class SupportsPrepare(Protocol):
    """An Adapter that can do some of the next answer's work in advance."""

    def prepare(self) -> None:
        """Do that work now. Call it while the model is idle, since an answer that starts meanwhile waits for it."""
        ...


@runtime_checkable
class ReportsBatching(Protocol):
    """An Adapter that knows whether its model decodes several answers in one step."""

    batching: Batching


@runtime_checkable
class SupportsCount(Protocol):
    """An Adapter that can count a prompt's tokens without computing anything."""

    def count_tokens(self, request: ChatRequest) -> int | None:
        """Return the tokens of the request's prompt; None if it cannot. Raises TemplateError."""
        ...


class Contract(ABC):
    """One kind of logged model that the app can chat with. Instances are stateless.

    To add one, write a module next to this one and add an instance to CONTRACTS in registry.py or, from outside the project,
    pass the instance to `register_contract`. Nothing else needs to change.
    """

    name: ClassVar[str]
    """Identifies the contract in the catalogue's cache and to the model's process."""

    program_template: ClassVar[Path]
    """The Jinja template of the program that Reproduce writes. It may extend those in PROGRAMS; base.py.jinja lists the
    variables that every template gets."""

    packages: ClassVar[tuple[str, ...]] = ()
    """The distributions, other than mlflow, whose versions affect the generated text."""

    is_repeatable: ClassVar[bool] = False
    """Whether greedy or seeded decoding repeats the same text on the same kind of processor."""

    can_continue: ClassVar[bool] = False
    """Whether its models accept the beginning of an answer, the `prefix` of a ChatRequest."""

    @abstractmethod
    def matches(self, declaration: ModelDeclaration) -> bool:
        """Return whether a model with this declaration is of this kind."""

    def requires_template(self, declaration: ModelDeclaration) -> bool:
        """Return whether the user has to pick a prompt template, because the model declares none."""
        return False

    @abstractmethod
    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        """Return the fields of GenerationParams that have an effect; the others never reach the model."""

    @abstractmethod
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        """Return a function that turns a request, already fitted into the context, into a call of pyfunc.

        `template` is a key of TEMPLATES, for requests that do not name one. The function raises NoTemplateError or
        TemplateError.
        """

    @abstractmethod
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        """Wrap a loaded pyfunc model.

        `template`: see `request_builder`. An adapter with a KV cache may use `cache_mb` megabytes for it (0: an eighth of the
        memory).
        """

    def model_config(self, cache_mb: int) -> dict[str, Any] | None:
        """Return the `model_config` to load the model with; None: the logged one. `cache_mb`: see `create_adapter`."""
        return None

    def program_values(self, answer: RecordedAnswer) -> dict[str, Any]:
        """Return the variables of `program_template` in addition to those that every template gets."""
        return {}

    def caveats(self, answer: RecordedAnswer) -> Iterable[str]:
        """Return sentences that explain why the program's output may differ from this answer."""
        return ()
