"""The Serve application for `serve run deploy.ray.app:app` and for KubeRay's `import_path`."""

from ray import serve

from deploy.ray.ingress import Ingress
from deploy.ray.rollout import LOGGING, Rollout
from deploy.ray.settings import RaySettings

_MAX_REQUESTS = 1000
"""Maximum concurrent streams per ingress; the limits of the replicas are reached first."""


def build_app(settings: RaySettings) -> serve.Application:
    """Build the application of ingress and rollout; the rollout deploys each model as a separate application."""
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
