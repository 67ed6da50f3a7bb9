"""The models of remote servers, both configured in the settings and added on the page."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.host.remote.http_loop import HttpLoop
from phi3_ui.host.remote.remote_model import RemoteModel
from phi3_ui.host.remote.server_report import FoundModel, ServerReport
from phi3_ui.host.remote.server_reports import ServerReports
from phi3_ui.remote_servers import REMOTE_PREFIX, RemoteServer, RemoteServers
from phi3_ui.settings import Settings
from phi3_ui.sources.added_servers import AddedServers
from phi3_ui.sources.model_source import OpenState
from phi3_ui.store.registry.cards import ModelCard, ModelEntry
from phi3_ui.store.registry.doctor import Diagnosis, Finding

OPENAI_SERVER = "openai"
"""The name of the server that answers for models logged by MLflow's openai flavour."""


class RemoteSource:
    """A ModelSource over servers with OpenAI-compatible APIs. Thread-safe. Only `add`, `query` and `query_all` wait for a server."""

    def __init__(self, settings: Settings, loop: HttpLoop | None = None) -> None:
        """Query no server yet. `loop` replaces the network, in tests."""
        self._configured = settings.remote_servers
        self._max_answers = settings.max_answers
        self._added = AddedServers(settings.added_servers)
        self._loop = loop or HttpLoop()
        self._reports = ServerReports(self._loop)
        self._lock = threading.Lock()  # guards the attribute below
        self._models = dict[str, RemoteModel]()

    def start_refresh(self) -> None:
        """Query all servers in the background, so that a page opened soon afterwards can list their models."""
        for server in self.servers:
            self._reports.get(server)

    def query_all(self) -> list[UserError]:
        """Query all servers and wait for them. Return why some cannot be used."""
        self.start_refresh()  # all concurrently
        reports = [self._reports.fetch(server) for server in self.servers]
        return [report.error for report in reports if report.error]

    def query(self, entry: ModelEntry) -> None:
        """Query the server of one model, and wait for it."""
        if server := self._find_server(entry):
            self._reports.fetch(server)

    def list_failures(self) -> list[tuple[RemoteServer, UserError]]:
        """Return the servers whose last query failed, and why, without waiting."""
        reports = ((server, self._reports.get(server)) for server in self.servers)
        return [(server, report.error) for server, report in reports if report and report.error]

    def close(self) -> None:
        """Cancel all requests in flight."""
        self._loop.close()

    # Servers

    @property
    def servers(self) -> RemoteServers:
        """All servers. A configured server hides one that was added under the same name."""
        configured = {server.name for server in self._configured}
        return (*self._configured, *(one for one in self._added.list_servers() if one.name not in configured))

    def add(self, server: RemoteServer) -> int:
        """Query a server, store it if it can be used, and return the number of its models.

        Raises:
            UserError: remote_name_taken, not_writable, or why the server cannot be used.
        """
        if any(one.name == server.name for one in self.servers):
            raise UserError("remote_name_taken", name=server.name)
        report = self._reports.fetch(server)
        if report.error:
            self._reports.forget(server)
            raise report.error
        self._added.add(server)
        return len(self._list_models(server))

    def remove(self, name: str) -> None:
        """Remove a server that was added on the page. Raises UserError("not_writable")."""
        for server in self._added.list_servers():
            if server.name == name:
                self._added.remove(name)
                self._reports.forget(server)

    def is_added(self, entry: ModelEntry) -> bool:
        """Return whether a model's server was added on the page."""
        return self._find_server(entry) in self._added.list_servers()

    # ModelSource

    def list_models(self) -> list[ModelEntry]:
        """See ModelSource. The order is that of the servers."""
        return [_build_entry(server, model) for server in self.servers for model in self._list_models(server)]

    def find(self, name: str | None) -> ModelEntry:
        """See ModelSource. Raises UserError("remote_gone")."""
        server_name, _, model = (name or "").removeprefix(REMOTE_PREFIX).partition("/")
        server = next((one for one in self.servers if one.name == server_name), None)
        # A server that does not list models now may still have it, and will report it if not.
        if server is None or not model or (server.models and model not in server.models):
            raise UserError("remote_gone", model=model or server_name, name=server_name)
        report = self._reports.get(server) or ServerReport()
        return _build_entry(server, report.find(model) or FoundModel(model))

    def add_server_details(self, entry: ModelEntry) -> ModelEntry:
        """Return the entry of a logged model that a server answers for, with the properties of the server."""
        server = self._find_server(entry)
        if server is None:
            return entry
        params = tuple(sorted(server.supported_params))
        return replace(entry, host=server.host, is_elsewhere=not server.is_on_this_machine, supported_params=params)

    def is_usable(self, entry: ModelEntry) -> bool:
        """See ModelSource."""
        return self._find_server(entry) is not None

    def require(self, entry: ModelEntry) -> None:
        """See ModelSource. Raises UserError: remote_gone, openai_not_configured."""
        self._require_server(entry)

    def open(self, entry: ModelEntry, template: str | None = None) -> RemoteModel:
        """See ModelSource."""
        server = self._require_server(entry)
        opening = entry.logged_request.messages if entry.logged_request else ()
        with self._lock:
            opened = self._models.get(entry.model_id)
            if opened is None or opened.target.server is not server:
                opened = RemoteModel(
                    server, _model_name(entry), self._loop, opening=opening, max_answers=self._max_answers
                )
                self._models[entry.model_id] = opened
            return opened

    def get_state(self, entry: ModelEntry) -> OpenState:
        """See ModelSource."""
        server = self._find_server(entry)
        if server is None:
            return OpenState()
        report = self._reports.get(server)
        if report is None:
            return OpenState()
        if report.error:
            return OpenState("failed", error=report.error)
        return OpenState("ready", streaming="stream")

    def list_ready(self) -> list[str]:
        """See ModelSource. These are the models of reachable servers."""
        reports = ((server, self._reports.get(server)) for server in self.servers)
        ready = [server for server, report in reports if report and not report.error]
        return [_build_id(server, model.id) for server in ready for model in self._list_models(server)]

    def load_card(self, entry: ModelEntry) -> ModelCard:
        """See ModelSource."""
        return ModelCard(entry, "", "", entry.context_length, {}, None)

    def diagnose(self, entry: ModelEntry) -> Diagnosis:
        """See ModelSource. Uses the latest report of the server."""
        findings = tuple(self._check(entry))
        return Diagnosis(entry.model_id, findings, can_relog=False)

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        """See ModelSource. Always None, since servers do not count tokens."""
        return None

    def _check(self, entry: ModelEntry) -> list[Finding]:
        server = self._find_server(entry)
        if server is None:
            return [Finding("remote_not_configured", {"name": OPENAI_SERVER})]
        report, model = self._reports.get(server), _model_name(entry)
        if report is None:
            return [Finding("remote_unseen", {"host": server.host})]
        if report.error:
            return [Finding("remote_failed", {**report.error.values, "error": report.error.code})]
        # Azure lists the models that could be deployed, not those that are.
        if report.models is not None and report.find(model) is None and server.kind != "azure":
            return [Finding("remote_no_model", {"host": server.host, "model": model})]
        return [Finding("remote_reachable", {"host": server.host})]

    def _list_models(self, server: RemoteServer) -> list[FoundModel]:
        """Return the models that are listed for a server, with their reported properties."""
        report = self._reports.get(server) or ServerReport()
        found = {model.id: model for model in report.models or ()}
        return [found.get(name) or FoundModel(name) for name in server.models or found]

    def _find_server(self, entry: ModelEntry) -> RemoteServer | None:
        """Return the server that answers for a model."""
        name = OPENAI_SERVER
        if not entry.logged_request:
            name = entry.model_id.removeprefix(REMOTE_PREFIX).partition("/")[0]
        return next((server for server in self.servers if server.name == name), None)

    def _require_server(self, entry: ModelEntry) -> RemoteServer:
        if server := self._find_server(entry):
            return server
        if entry.logged_request:
            raise UserError("openai_not_configured", model=entry.name, name=OPENAI_SERVER)
        raise UserError("remote_gone", model=_model_name(entry), name=entry.name.partition("/")[0])


def _build_id(server: RemoteServer, model: str) -> str:
    return f"{REMOTE_PREFIX}{server.name}/{model}"


def _build_entry(server: RemoteServer, model: FoundModel) -> ModelEntry:
    params = server.supported_params if model.params is None else server.supported_params & model.params
    return ModelEntry(
        name=f"{server.name}/{model.id}",
        model_id=_build_id(server, model.id),
        uri=_build_id(server, model.id),
        contract="remote",
        flavor="remote",
        engine="remote",
        created=datetime.fromtimestamp(model.created, UTC),
        size_bytes=None,
        run_id=None,
        preset=None,
        tracking_uri="",
        supported_params=tuple(sorted(params)),
        streamable=True,
        context_length=server.context_length or model.context_length,
        host=server.host,
        is_elsewhere=not server.is_on_this_machine,
    )


def _model_name(entry: ModelEntry) -> str:
    """Return the server's name for a model."""
    if entry.logged_request:
        return entry.logged_request.model
    return entry.model_id.removeprefix(REMOTE_PREFIX).partition("/")[2]
