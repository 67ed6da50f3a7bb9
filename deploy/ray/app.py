"""The Serve application for `serve run deploy.ray.app:app` and for KubeRay's `import_path`."""

from ray import serve

from deploy.ray.ingress import Ingress
from deploy.ray.rollout import LOGGING, Rollout
from deploy.ray.settings import RaySettings

_MAX_REQUESTS = 1000
"""Streams that one ingress holds at once; the replicas' own limits come first."""


def build_app(settings: RaySettings) -> serve.Application:
    """The ingress with the rollout, which deploys the models as applications of their own."""
    rollout = serve.deployment(
        name="Rollout", num_replicas=1, ray_actor_options={"num_cpus": 0}, logging_config=LOGGING
    )
    ingress = serve.deployment(
        name="Ingress",
        num_replicas=1,
        max_ongoing_requests=_MAX_REQUESTS,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=settings.answer_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=LOGGING,
    )
    return ingress(Ingress).bind(rollout(Rollout).bind())


app = build_app(RaySettings.read())
