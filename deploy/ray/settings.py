"""Deployment settings from environment variables, in addition to the app's settings."""

from typing import Annotated

from pydantic import Field

from phi3_ui.setting_types import Allowed, Count, Names, variable
from phi3_ui.settings import Settings

_Share = Annotated[float, Field(ge=0), Allowed("0 or more")]


class RaySettings(Settings):
    """The settings of the app and of Ray Serve. Every process of the cluster reads them from its environment."""

    served_names: Names = variable("PHI3_UI_RAY_MODELS", ())
    """Names of the models to serve, in any form that the API accepts: `name`, `name@alias`, `name/version`, model id. Default: the
    champion of each registered model; if there are none, the newest loadable model."""

    min_replicas: Count = variable("PHI3_UI_RAY_MIN_REPLICAS", 1)
    """Minimum number of replicas per model."""

    max_replicas: Count = variable("PHI3_UI_RAY_MAX_REPLICAS", lambda fields: max(4, fields["min_replicas"]))
    """Maximum number of replicas per model. Serve adds one while there are more than `replica_answers` running and queued answers per replica."""

    replica_answers: Count = variable("PHI3_UI_RAY_REPLICA_ANSWERS", 4)
    """Target for the average number of answers in flight per replica."""

    replica_cpus: _Share = variable("PHI3_UI_RAY_REPLICA_CPUS", 1.0)
    """Cores that Ray reserves per replica."""

    replica_gpus: _Share = variable("PHI3_UI_RAY_REPLICA_GPUS", 0.0)
    """GPUs that Ray reserves per replica."""

    health_seconds: _Share = variable("PHI3_UI_RAY_HEALTH_SECONDS", 5.0)
    """Seconds between health checks of a replica."""
