"""What a logged model declares of itself, as plain values: read of its MLmodel, with nothing guessed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from phi3_ui.chat.types import GenerationParams

PARAMS = frozenset(field.name for field in fields(GenerationParams))
"""The names of all the settings that a request may carry."""


@dataclass(frozen=True)
class Field:
    """One column or parameter of a signature; `name` is None for an unnamed column, `type` MLflow's word for it."""

    name: str | None
    type: str
    required: bool


@dataclass(frozen=True)
class ModelDeclaration:
    """`loader` is the module that loads the model, `task` MLflow's word for what it does (empty: none declared).

    `streamable` says that the model has a predict_stream; MLflow says so of every agent, also of one without.
    """

    flavors: frozenset[str]
    loader: str
    task: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    params: tuple[Field, ...]
    streamable: bool
    metadata: Mapping[str, Any]

    @classmethod
    def from_mlmodel(cls, info: Any) -> "ModelDeclaration":
        """Read of a mlflow.models.Model."""
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
        )

    @property
    def is_python(self) -> bool:
        """Is it one of MLflow's Python classes, and not another flavour's model?"""
        return self.loader.startswith("mlflow.pyfunc.")

    @property
    def declared_params(self) -> frozenset[str]:
        """The settings that the params of the signature name."""
        return PARAMS & {field.name for field in self.params if field.name}


def _fields(schema: Any) -> tuple[Field, ...]:
    """The columns of a Schema or the parameters of a ParamSchema; none where there is no schema."""
    return tuple(
        Field(field.name, _type(field), getattr(field, "required", False))
        for field in schema or ()
        if field is not None
    )


def _type(field: Any) -> str:
    # Columns have a type, params a dtype, tensors a numpy dtype in a class of their own.
    kind = getattr(field, "dtype", None) or field.type
    word = str(getattr(kind, "name", kind))
    return "tensor" if type(field).__name__ == "TensorSpec" else word
