"""The types of settings: what an environment variable may hold, and how it becomes a field."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


@dataclass(frozen=True)
class Allowed:
    """What a variable may be set to, in words, for the error message."""

    values: str


def parse_switch(value: object) -> object:
    """The boolean that 1 or 0 stands for. ValueError for other texts, also for those that pydantic would accept."""
    if isinstance(value, str):
        if value not in ("1", "0"):
            raise ValueError("neither 1 nor 0")
        return value == "1"
    return value


def variable(name: str, default: Any = ...) -> Any:
    """A field that environment variable `name` sets. A callable `default` gets the fields declared before this one."""
    if callable(default):
        return Field(validation_alias=name, default_factory=default)
    return Field(default, validation_alias=name)


Count = Annotated[int, Field(ge=1), Allowed("1 or more")]
Limit = Annotated[int, Field(ge=0), Allowed("0 or more")]
Port = Annotated[int, Field(ge=1, le=65535)]
Switch = Annotated[bool, BeforeValidator(parse_switch), Allowed("1 / 0")]
Device = Literal["cpu", "cuda", "directml"]
Networks = tuple[str, ...]
Names = tuple[str, ...]
Fingerprints = tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]
