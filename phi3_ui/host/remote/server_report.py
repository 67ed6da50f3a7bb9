"""The status of a remote server: whether it is reachable and accepts the key, and which models it lists."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from phi3_ui.chat.json_values import has_more_values
from phi3_ui.contracts.declaration import PARAMS
from phi3_ui.errors import UserError
from phi3_ui.host.remote.failures import RemoteTarget, RequestError, failure_from_network, failure_from_status
from phi3_ui.host.remote.http_loop import read_body
from phi3_ui.remote_servers import REMOTE_PREFIX, RemoteServer, is_model_name

REPORT_SECONDS = 10.0
_MAX_BODY = 8_000_000  # bytes
_MAX_VALUES = 100_000  # JSON values in it
_MAX_MODELS = 1000
_MAX_CREATED = 2**33  # seconds since 1970
_MAX_TOKENS = 2**31
_UNLISTED = (404, 405, 501)
"""HTTP statuses of usable servers that do not list their models."""


@dataclass(frozen=True)
class FoundModel:
    """A model that a server lists."""

    id: str
    created: int = 0
    """Seconds since 1970; 0: unknown."""
    context_length: int | None = None
    """Tokens."""
    params: frozenset[str] | None = None
    """The fields of GenerationParams that it supports; None: unknown."""


@dataclass(frozen=True)
class ServerReport:
    """The result of one status request."""

    error: UserError | None = None
    """Why the server cannot be used; None: it can."""
    models: tuple[FoundModel, ...] | None = None
    """None: the server does not list its models, as some never do."""
    ignored: int = 0
    """The number of other models listed, whose names cannot be shown."""

    def find(self, model: str) -> FoundModel | None:
        """Return the listed model with this id."""
        return next((one for one in self.models or () if one.id == model), None)


async def fetch_report(client: httpx.AsyncClient, server: RemoteServer) -> ServerReport:
    """Request the list of models from a server."""
    target = RemoteTarget(server, server.models[0] if server.models else server.name)
    try:
        with anyio.fail_after(REPORT_SECONDS):
            status, headers, body = await _get(client, server)
    except TimeoutError:
        return ServerReport(target.error("remote_timeout"))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return ServerReport(failure_from_network(target, error, has_response=False).error)
    except UserError as error:
        return ServerReport(error)
    if status in _UNLISTED and server.models:
        return ServerReport()
    if status != httpx.codes.OK:
        failure: RequestError = failure_from_status(target, status, headers, body)
        # The request cannot have been too long or wrong, so it is another kind of server, or the wrong URL.
        is_wrong_address = failure.error.code in ("remote_no_model", "remote_refused", "remote_context")
        where = target.malformed_error(f"status {status} from {server.models_url}")
        return ServerReport(where if is_wrong_address else failure.error)
    try:
        listed = _parse_models(server, body)
        models = tuple(model for model in listed if is_model_name(model.id))
        return ServerReport(models=models, ignored=len(listed) - len(models))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if server.models:
            return ServerReport()
        if headers.get("content-type", "").startswith("text/html"):
            return ServerReport(target.error("remote_web_page"))
        return ServerReport(target.malformed_error(f"{server.models_url} is not a list of models"))


async def _get(client: httpx.AsyncClient, server: RemoteServer) -> tuple[int, httpx.Headers, bytes]:
    async with client.stream("GET", server.models_url, headers=server.headers()) as response:
        return response.status_code, response.headers, await read_body(response, _MAX_BODY)


def _parse_models(server: RemoteServer, body: bytes) -> tuple[FoundModel, ...]:
    """Parse a list of models. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    if has_more_values(body, _MAX_VALUES):
        raise ValueError("the list has too many values")
    content = json.loads(body)
    if server.kind == "databricks":
        rows = [row for row in content["endpoints"] if row.get("task") in (None, "", "llm/v1/chat")]
        return tuple(FoundModel(str(row["name"])) for row in rows[:_MAX_MODELS])
    rows = content["data"][:_MAX_MODELS]
    if server.kind == "phi3-chat":
        # Each model is listed under several names, the preferred one first. Skip its remote models: they may be this app's own.
        roots = {row["root"]: row for row in reversed(rows) if not str(row["root"]).startswith(REMOTE_PREFIX)}
        rows = list(reversed(roots.values()))
    return tuple(map(_parse_model, rows))


def _parse_model(row: Mapping[str, Any]) -> FoundModel:
    meta = row.get("meta") or {}
    lengths = (row.get("context_length"), row.get("max_model_len"), meta.get("n_ctx"), meta.get("n_ctx_train"))
    length = next((one for one in lengths if isinstance(one, int) and 0 < one < _MAX_TOKENS), None)
    params = row.get("supported_parameters")
    known = PARAMS & set(map(str, params)) if isinstance(params, list) else None
    created = row.get("created")
    if not isinstance(created, int) or not 0 < created < _MAX_CREATED:
        created = 0
    return FoundModel(str(row["id"]), created, length, known)
