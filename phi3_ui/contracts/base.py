"""What a contract provides: how one kind of logged model is recognised, called through pyfunc, and read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import ChatRequest, Delivery
from phi3_ui.contracts.declaration import ModelDeclaration


@dataclass(frozen=True)
class PyfuncCall:
    """What pyfunc is given, and the texts at which the answer is cut here."""

    data: Any
    params: dict[str, Any] | None = None
    stops: tuple[str, ...] = ()


class Adapter(ChatModel, Protocol):
    """A ChatModel over a loaded pyfunc model, in the model's own process."""

    delivery: Delivery


@runtime_checkable
class SupportsPrepare(Protocol):
    """An Adapter that can do some of the next answer's work beforehand."""

    def prepare(self) -> None:
        """For a moment in which nobody asks: an answer that comes meanwhile waits for it."""
        ...


class Contract(Protocol):
    """One kind of logged model that can be chatted with: told by what it declares, and how it is talked to."""

    name: ClassVar[str]

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        """Is this a model of this kind?"""
        ...

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        """Must a person pick a prompt template, because it declares none?"""
        ...

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        """The settings (fields of GenerationParams) that have an effect; the others do not reach the model."""
        ...

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        """How a request, which fits the context, is put to pyfunc. Calling it raises NoTemplateError or TemplateError."""
        ...

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        """Talk to a loaded pyfunc model; `template` is a key of TEMPLATES, for requests that name none.

        `cache_mb` may be kept of the prompts that were read (0: an eighth of the memory), where the adapter does that.
        """
        ...
