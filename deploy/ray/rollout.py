"""Keeps the deployed models in line with the registry: one Serve application for each model, by its id."""

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
"""Of every deployment: a line for each call would drown what matters."""
_INTERVAL = 2.0  # seconds between two looks at the registry
_RETIREMENT = 10.0
"""Seconds for which a model that no name stands for goes on: longer than the ingresses keep the names that they know."""
_UPSCALE_DELAY = 5.0  # seconds of too many answers; a new replica takes longer to load its model
_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"


def bind_replica(settings: RaySettings, model_id: str) -> serve.Application:
    """The application of one model."""
    deployment = serve.deployment(
        name=DEPLOYMENT,
        # More than the model takes, which then says that its queue is full; and calls that stop answers.
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
    """When models were first seen without a name."""

    seconds: float = _RETIREMENT
    clock: Callable[[], float] = time.monotonic
    since: dict[str, float] = field(default_factory=dict)

    def choose(self, nameless: set[str]) -> list[str]:
        """Those that have had no name for long enough."""
        now = self.clock()
        self.since = {model_id: self.since.get(model_id, now) for model_id in nameless}
        return [model_id for model_id, since in self.since.items() if now - since >= self.seconds]


class Rollout:
    """The only one that deploys models and removes them. A Serve deployment with one replica."""

    def __init__(self) -> None:
        """Begin to deploy, in a thread."""
        disable_telemetry()
        from phi3_ui.store.registry.admission import open_admission
        from phi3_ui.store.registry.catalogue import Catalogue

        self._settings = RaySettings.read()
        self._catalogue = Catalogue(self._settings.tracking_uri, self._settings.catalogue)
        self._admission = open_admission(self._settings)
        self._retirement = _Retirement()
        self._started = set[str]()  # the models that have had a running replica
        self._plan = Plan(frozenset(), {}, tuple(self._settings.served_names) or ("a model",))
        threading.Thread(target=self._run, name="rollout", daemon=True).start()

    async def get_state(self) -> tuple[Mapping[str, str], tuple[str, ...]]:
        """The ids of the running models by name, and the wanted names that no running model has."""
        return dict(self._plan.names), self._plan.missing

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception:  # the store or the cluster may be away for a while; what runs goes on
                logger.exception("The models could not be compared with the registry; trying again")
            time.sleep(_INTERVAL)

    def _step(self) -> None:
        from phi3_ui.api.models import name_models

        entries = [entry for entry in self._catalogue.list_models() if self._admission.is_loadable(entry)]
        known = name_models(entries, self._catalogue.list_versions())
        wanted = choose_wanted(self._settings.served_names, known, entries[0].model_id if entries else None)
        applications = _find_applications()
        for model_id, application in applications.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                logger.error("%s could not be deployed, which is tried again: %s", model_id, application.message)
                serve.delete(name_application(model_id), _blocking=False)
        # A model whose only replica was lost is running: questions wait for the next replica.
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
    """The models' applications by model id, but for those that end."""
    found = {find_model_id(name): one for name, one in serve.status().applications.items()}
    return {name: one for name, one in found.items() if name and one.status != ApplicationStatus.DELETING}


def _can_answer(application: ApplicationStatusOverview) -> bool:
    deployment = application.deployments.get(DEPLOYMENT)
    return bool(deployment and any(state == "RUNNING" and count for state, count in deployment.replica_states.items()))
