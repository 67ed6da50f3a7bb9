"""The types of settings: what an environment variable may hold, and how it becomes a field."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode


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


def split_names(value: object) -> object:
    """The texts between commas, but for empty ones."""
    return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


def split_fingerprints(value: object) -> object:
    """The texts between commas or white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def parse_networks(value: object) -> object:
    """The networks between commas; an address is one of itself. ValueError if one is neither."""
    if not isinstance(value, str):
        return value
    return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in value.split(",") if part.strip())


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
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names)]
Networks = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(parse_networks),
    Allowed("addresses or networks, such as 10.0.0.0/8,192.0.2.7"),
]
Fingerprints = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...],
    NoDecode,
    BeforeValidator(split_fingerprints),
    Allowed("fingerprints, separated by commas"),
]
