"""The cluster's API: the API of the app, with models that run in replicas."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from deploy.ray.ray_model import RayLoader
from deploy.ray.settings import RaySettings
from models import disable_telemetry
from phi3_ui import __version__
from phi3_ui.accounts.quotas import Quotas
from phi3_ui.api.answering import Answering
from phi3_ui.api.application import mount_api
from phi3_ui.api.callers import Callers
from phi3_ui.api.metrics import Metrics
from phi3_ui.api.models import describe_model, no_such_model
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.request_limits import RequestLimits

logger = logging.getLogger(__name__)

_INTERVAL = 1.0  # seconds between polls of the rollout
_TIMEOUT = 5.0


class ServedModels:
    """The running models, by the names that requests may use. Thread-safe."""

    def __init__(self, rollout: "DeploymentHandle[Any]", catalogue: Catalogue) -> None:
        """Start a thread that polls `rollout` for the names. While it does not respond, the known names are kept."""
        self._rollout = rollout
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._models: Mapping[str, ModelEntry] = {}
        self._missing: tuple[str, ...] = ("a model",)
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="served-models", daemon=True).start()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names that should be served, but are not available yet."""
        with self._lock:
            return self._missing

    def list(self) -> list[dict[str, Any]]:
        """List every name of each running model, in OpenAI's format."""
        with self._lock:
            return [describe_model(name, entry) for name, entry in self._models.items()]

    def find(self, name: str) -> ModelEntry:
        """Return the running model with this name. Raises ApiError 404 if there is none."""
        with self._lock:
            entry = self._models.get(name)
        if entry is None:
            raise no_such_model(name)
        return entry

    def count(self) -> int:
        """Return the number of running models."""
        with self._lock:
            return len({entry.model_id for entry in self._models.values()})

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._refresh()
            except (RayError, RayServeException, TimeoutError) as error:
                logger.warning("The rollout does not respond: %s", error)
            except Exception:  # the store may be unavailable for a while; the known models are kept
                logger.exception("The names of the models could not be refreshed; retrying")
            self._closed.wait(_INTERVAL)

    def _refresh(self) -> None:
        names, missing = self._rollout.get_state.remote().result(timeout_s=_TIMEOUT)
        known = {entry.model_id: entry for entry in self._models.values()}
        entries = {model_id: known.get(model_id) or self._catalogue.find(model_id) for model_id in set(names.values())}
        with self._lock:
            self._models = {name: entries[model_id] for name, model_id in names.items()}
            self._missing = missing


def build_ingress() -> FastAPI:
    """Build the application of one ingress replica: `/v1`, `/health` and `/metrics`."""
    disable_telemetry()
    from phi3_ui.store.conversations.open_store import open_conversation_store

    settings = RaySettings.read()
    conversations, _ = open_conversation_store(settings)
    rollout = serve.get_deployment_handle("Rollout", serve.get_replica_context().app_name)
    models = ServedModels(rollout, Catalogue(settings.tracking_uri, settings.catalogue))
    callers = Callers(settings)
    answering = Answering(settings, models, RayLoader(), conversations, Quotas(settings), Metrics())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        models.close()
        await asyncio.to_thread(conversations.recorder.close)

    app = FastAPI(
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        middleware=[Middleware(RequestLimits, settings=settings)],
    )

    @app.get("/health")
    def health() -> JSONResponse:
        missing = models.missing
        state = {"status": "loading" if missing else "ok", "version": __version__, "missing": missing}
        return JSONResponse(state, 503 if missing else 200)

    mount_api(app, callers, models, answering, models.count)
    return app


@serve.ingress(build_ingress)
class Ingress:
    """The deployment of the API."""

    def __init__(self, rollout: "DeploymentHandle[Any]") -> None:
        """Take `rollout` to make it part of the same application, where `build_ingress` looks it up."""
