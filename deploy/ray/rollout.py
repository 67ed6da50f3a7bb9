"""Keep the deployed models in sync with the registry: one Serve application per model, named by its id."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, LoggingConfig

from deploy.ray.names import DEPLOYMENT, find_model_id, name_application
from deploy.ray.plan import Plan, choose_wanted, make_plan
from deploy.ray.replica import Replica
from deploy.ray.settings import RaySettings
from models import disable_telemetry

logger = logging.getLogger(__name__)

LOGGING = LoggingConfig(enable_access_log=False)
"""Logging of every deployment: an access log entry per call would drown out everything else."""
_INTERVAL = 2.0  # seconds between polls of the registry
_RETIREMENT = 10.0
"""Seconds for which a model without a name keeps running: longer than the ingresses cache names."""
_UPSCALE_DELAY = 5.0  # seconds of overload before scaling up; loading the model in a new replica takes longer
_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"


def bind_replica(settings: RaySettings, model_id: str) -> serve.Application:
    """Build the application of one model."""
    deployment = serve.deployment(
        name=DEPLOYMENT,
        # More than the model accepts, so that it can report a full queue, and for calls of `cancel`.
        max_ongoing_requests=2 * settings.max_answers,
        max_queued_requests=settings.max_answers,
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.replica_answers,
            upscale_delay_s=_UPSCALE_DELAY,
        ),
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),  # type: ignore[arg-type]  # **kwargs: dict
        logging_config=LOGGING,
        graceful_shutdown_timeout_s=settings.answer_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=settings.health_seconds,
    )
    return deployment(Replica).bind(model_id)


@dataclass
class _Retirement:
    """When models were first observed without a name."""

    seconds: float = _RETIREMENT
    clock: Callable[[], float] = time.monotonic
    since: dict[str, float] = field(default_factory=dict)

    def choose(self, nameless: set[str]) -> list[str]:
        """Return the models that have had no name for long enough."""
        now = self.clock()
        self.since = {model_id: self.since.get(model_id, now) for model_id in nameless}
        return [model_id for model_id, since in self.since.items() if now - since >= self.seconds]


class Rollout:
    """The only component that deploys and removes models. A Serve deployment with one replica."""

    def __init__(self) -> None:
        """Start deploying, in a thread."""
        disable_telemetry()
        from phi3_ui.store.registry.admission import open_admission
        from phi3_ui.store.registry.catalogue import Catalogue

        self._settings = RaySettings.read()
        self._catalogue = Catalogue(self._settings.tracking_uri, self._settings.catalogue)
        self._admission = open_admission(self._settings)
        self._retirement = _Retirement()
        self._started = set[str]()  # models that have had a running replica
        self._plan = Plan(frozenset(), {}, tuple(self._settings.served_names) or ("a model",))
        threading.Thread(target=self._run, name="rollout", daemon=True).start()

    async def get_state(self) -> tuple[Mapping[str, str], tuple[str, ...]]:
        """Return the ids of the running models by name, and the wanted names without a running model."""
        return dict(self._plan.names), self._plan.missing

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception:  # the store or the cluster may be unavailable for a while; running models continue
                logger.exception("The models could not be compared with the registry; retrying")
            time.sleep(_INTERVAL)

    def _step(self) -> None:
        from phi3_ui.api.models import name_models

        entries = [entry for entry in self._catalogue.list_models() if self._admission.is_loadable(entry)]
        known = name_models(entries, self._catalogue.list_versions())
        wanted = choose_wanted(self._settings.served_names, known, entries[0].model_id if entries else None)
        applications = _find_applications()
        for model_id, application in applications.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                logger.error("%s could not be deployed; retrying: %s", model_id, application.message)
                serve.delete(name_application(model_id), _blocking=False)
        # A model whose only replica was lost still counts as running: its questions wait for the next replica.
        self._started &= set(applications)
        self._started |= {model_id for model_id, one in applications.items() if _can_answer(one)}
        self._plan = plan = make_plan(wanted, known, self._started, self._plan.names)
        for model_id in plan.deployed - set(applications):
            logger.info("Deploying %s", model_id)
            target = serve.RunTarget(bind_replica(self._settings, model_id), name_application(model_id), None)
            serve.run_many([target], wait_for_applications_running=False)
        for model_id in self._retirement.choose(set(applications) - plan.deployed):
            logger.info("Removing %s once its answers have ended", model_id)
            serve.delete(name_application(model_id), _blocking=False)


def _find_applications() -> dict[str, ApplicationStatusOverview]:
    """Return the models' applications by model id, except those being deleted."""
    found = {find_model_id(name): one for name, one in serve.status().applications.items()}
    return {name: one for name, one in found.items() if name and one.status != ApplicationStatus.DELETING}


def _can_answer(application: ApplicationStatusOverview) -> bool:
    deployment = application.deployments.get(DEPLOYMENT)
    return bool(deployment and any(state == "RUNNING" and count for state, count in deployment.replica_states.items()))
