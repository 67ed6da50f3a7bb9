"""A logged model's own declarations in its MLmodel, as plain values; nothing is guessed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from phi3_ui.chat.types import GenerationParams

PARAMS = frozenset(field.name for field in fields(GenerationParams))
"""The names of all generation parameters that a request may contain."""


@dataclass(frozen=True)
class Field:
    """One column or parameter of a signature."""

    name: str | None
    """None: an unnamed column."""

    type: str
    """MLflow's name of the type, such as "string" or "tensor"."""

    required: bool


@dataclass(frozen=True)
class ModelDeclaration:
    """The parts of an MLmodel by which contracts recognise a model."""

    flavors: frozenset[str]

    loader: str
    """The module that loads the model through pyfunc."""

    task: str
    """MLflow's name of the model's task; empty: not declared."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    params: tuple[Field, ...]

    streamable: bool
    """Whether it has a predict_stream. MLflow sets it for every agent, even without one."""

    metadata: Mapping[str, Any]

    config: Mapping[str, Any] = field(default_factory=dict)
    """The `model_config` it was logged with."""

    @classmethod
    def from_mlmodel(cls, info: Any) -> "ModelDeclaration":
        """Read a mlflow.models.Model."""
        function = info.flavors.get("python_function", {})
        metadata = info.metadata or {}
        signature = info.signature
        return cls(
            flavors=frozenset(info.flavors),
            loader=function.get("loader_module", ""),
            task=str(metadata.get("task", "")),
            inputs=_fields(signature and signature.inputs),
            outputs=_fields(signature and signature.outputs),
            params=_fields(signature and signature.params),
            streamable=bool(function.get("streamable")),
            metadata=metadata,
            config=function.get("config") or {},
        )

    @property
    def is_python(self) -> bool:
        """Whether it is one of MLflow's Python model classes, rather than another flavour."""
        return self.loader.startswith("mlflow.pyfunc.")

    @property
    def declared_params(self) -> frozenset[str]:
        """The generation parameters among the signature's params."""
        return PARAMS & {field.name for field in self.params if field.name}


def _fields(schema: Any) -> tuple[Field, ...]:
    """Convert the columns of a Schema or the parameters of a ParamSchema; none where there is no schema."""
    return tuple(
        Field(field.name, _type_name(field), getattr(field, "required", False))
        for field in schema or ()
        if field is not None
    )


def _type_name(field: Any) -> str:
    # Columns have a type, params a dtype; tensors have their own class and a numpy dtype.
    if type(field).__name__ == "TensorSpec":
        return "tensor"
    kind = getattr(field, "dtype", None) or field.type
    return str(getattr(kind, "name", kind))
