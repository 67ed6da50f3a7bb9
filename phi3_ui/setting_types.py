"""The types of settings: the allowed values of environment variables, and their conversion to fields."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode


@dataclass(frozen=True)
class Allowed:
    """A description of a variable's allowed values, for the error message."""

    values: str


def parse_switch(value: object) -> object:
    """Parse 1 or 0 as a boolean. Raise ValueError for other strings, including those that pydantic would accept."""
    if isinstance(value, str):
        if value not in ("1", "0"):
            raise ValueError("neither 1 nor 0")
        return value == "1"
    return value


def split_names(value: object) -> object:
    """Split at commas, and drop empty parts."""
    return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


def split_fingerprints(value: object) -> object:
    """Split at commas and white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def parse_networks(value: object) -> object:
    """Parse networks separated by commas; an address is a network of one. Raise ValueError for anything else."""
    if not isinstance(value, str):
        return value
    return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in value.split(",") if part.strip())


def variable(name: str, default: Any = ...) -> Any:
    """Declare a field that the environment variable `name` sets. A callable `default` gets the fields declared before this one."""
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
