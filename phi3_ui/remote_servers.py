"""Remote servers in the settings, which run models outside of the tracking store, and the API dialect of each kind."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from phi3_ui.addresses import page_url
from phi3_ui.errors import UserError

Kind = Literal["openai", "vllm", "llama-server", "ollama", "azure", "databricks", "phi3-chat"]

REMOTE_PREFIX = "remote:"
"""The prefix of the ids of their models: remote:SERVER/MODEL."""

_MAX_NAME = 200  # characters of a model's name
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters not allowed in the name of a model: control characters, line breaks, and marks that change the text direction."""

_STANDARD = ("max_tokens", "temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty")
_SAMPLING = {"top_k": "top_k", "repetition_penalty": "repetition_penalty"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Dialect:
    """The API dialect of one kind of servers."""

    params: Mapping[str, str] = field(default_factory=lambda: {name: name for name in _STANDARD})
    """The supported fields of GenerationParams, with the servers' names for them."""
    key_header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict)


_OPENAI = Dialect()
DIALECTS: dict[Kind, Dialect] = {
    "openai": _OPENAI,
    "vllm": Dialect({**_OPENAI.params, **_SAMPLING}),
    "llama-server": Dialect({**_OPENAI.params, "top_k": "top_k", "repetition_penalty": "repeat_penalty"}),
    "ollama": _OPENAI,
    "azure": Dialect(key_header="api-key"),
    "databricks": Dialect({name: name for name in ("max_tokens", "temperature", "top_p", "top_k", "stop")}),
    # The remote app must not record traces, since this app records the chat.
    "phi3-chat": Dialect({**_OPENAI.params, **_SAMPLING}, headers={"X-Phi3-Trace": "off"}),
}


class RemoteServer(BaseModel):
    """One server. Its string representations never contain the key."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,39}$")]
    url: str
    """The base URL of its API, usually …/v1; for Azure the resource's URL, for Databricks …/serving-endpoints."""
    kind: Kind = "openai"
    key: SecretStr = SecretStr("")
    key_file: Path | None = None
    """A file with the key, read for each request, so that the key can be rotated while the app runs."""
    models: tuple[str, ...] = ()
    """Its models (for Azure, the deployments); empty: those that it lists."""
    api_version: str = ""
    """Azure's API version; empty: its API v1, which has none."""
    context_length: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    """Tokens of prompt and answer together, if the server does not report it."""
    params: tuple[str, ...] | None = None
    """The parameters that its models support, if fewer than its kind does."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        url = page_url(value)
        if url is None or "@" in urlsplit(value).netloc:
            raise ValueError("url is not http://… or https://…, without a user, a query and a fragment")
        return url

    @field_validator("models")
    @classmethod
    def _check_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(is_model_name, value)):
            raise ValueError(
                f"models has a name that is empty, longer than {_MAX_NAME}, or contains control characters"
            )
        return value

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[\x21-\x7e]*", value.get_secret_value()):
            raise ValueError("key has characters that are not allowed in HTTP headers")
        return value

    @model_validator(mode="after")
    def _check_rest(self) -> Self:
        if self.kind == "azure" and not self.models:
            raise ValueError("models must name the deployments")
        if unknown := set(self.params or ()) - set(self.dialect.params):
            raise ValueError(f"params has {', '.join(sorted(unknown))}, which {self.kind} does not support")
        return self

    @property
    def dialect(self) -> Dialect:
        """The dialect of its kind."""
        return DIALECTS[self.kind]

    @property
    def supported_params(self) -> frozenset[str]:
        """The fields of GenerationParams that it supports."""
        return frozenset(self.dialect.params if self.params is None else self.params)

    @property
    def host(self) -> str:
        """The host and port that requests are sent to."""
        return urlsplit(self.url).netloc

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its host is a loopback address."""
        return urlsplit(self.url).hostname in _LOOPBACK

    def read_key(self) -> str:
        """Return its key; empty: none. Raises UserError("remote_key_missing") if the file cannot be read."""
        if self.key_file is None:
            return self.key.get_secret_value()
        try:
            return self.key_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise UserError("remote_key_missing", name=self.name, file=str(self.key_file)) from error

    def headers(self) -> dict[str, str]:
        """Return the headers of a request. Raises UserError like `read_key`."""
        key, dialect = self.read_key(), self.dialect
        scheme = "Bearer " if dialect.key_header == "Authorization" else ""
        return {**dialect.headers, **({dialect.key_header: f"{scheme}{key}"} if key else {})}

    def chat_url(self, model: str) -> str:
        """Return the URL for chat completions of one of its models."""
        if self.kind == "azure" and self.api_version:
            path = f"openai/deployments/{quote(model, safe='')}/chat/completions?api-version={quote(self.api_version)}"
            return f"{self.url}/{path}"
        return f"{self._api}/chat/completions"

    @property
    def models_url(self) -> str:
        """The URL that lists its models."""
        if self.kind == "databricks":
            return f"{self.url.removesuffix('/serving-endpoints')}/api/2.0/serving-endpoints"
        if self.kind == "azure" and self.api_version:
            return f"{self.url}/openai/models?api-version={quote(self.api_version)}"
        return f"{self._api}/models"

    @property
    def _api(self) -> str:
        return f"{self.url.removesuffix('/openai/v1')}/openai/v1" if self.kind == "azure" else self.url


RemoteServers = tuple[RemoteServer, ...]


def is_model_name(text: str) -> bool:
    """Return whether a text is a valid name of a model: visible, on one line, and not too long."""
    is_visible = any(char.isprintable() and not char.isspace() for char in text)
    return is_visible and len(text) <= _MAX_NAME and not _CONTROL.search(text)


def parse_remote_servers(variable: str, text: str) -> RemoteServers:
    """Parse the servers of a TOML document with one table per server. Raises UserError("bad_setting"), which shows no key."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad_setting(variable, "…", f"TOML ({error})") from error
    return tuple(_parse_server(variable, name, table) for name, table in tables.items())


def read_remote_servers(variable: str, file: Path) -> RemoteServers:
    """Like `parse_remote_servers`, but read the file that an environment variable names."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_setting(variable, str(file), "a TOML file with one table per server") from error
    return parse_remote_servers(variable, text)


def create_remote_server(**fields: Any) -> RemoteServer:
    """Create a server from these fields. Raises ValueError, which says what is invalid without showing the key."""
    try:
        return RemoteServer(**fields)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        raise ValueError(reason if problem["type"] == "value_error" else f"{place}: {reason}") from None


def _parse_server(variable: str, name: str, table: object) -> RemoteServer:
    if not isinstance(table, dict):
        raise _bad_setting(variable, name, f"tables, such as [{name}] with url and models")
    try:
        return create_remote_server(**{**table, "name": name})
    except (ValueError, TypeError) as error:
        raise _bad_setting(variable, f"[{name}] …", f"a valid server ({error})") from error


def _bad_setting(variable: str, value: str, wanted: str) -> UserError:
    return UserError("bad_setting", name=variable, value=value, wanted=wanted)
