"""What the environment says of the deployment, besides the app's own settings."""

from typing import Annotated

from pydantic import Field

from phi3_ui.setting_types import Allowed, Count, Names, variable
from phi3_ui.settings import Settings

_Share = Annotated[float, Field(ge=0), Allowed("0 or more")]


class RaySettings(Settings):
    """The app's settings, and those of Ray Serve. Every process of the cluster reads them from its environment."""

    served_names: Names = variable("PHI3_UI_RAY_MODELS", ())
    """Names of the models to serve, in any form of the API's: `name`, `name@alias`, `name/version`, model id. Default: the
    champion of each registered model; without any, the newest model that may be loaded."""

    min_replicas: Count = variable("PHI3_UI_RAY_MIN_REPLICAS", 1)
    """How many replicas each model has at least."""

    max_replicas: Count = variable("PHI3_UI_RAY_MAX_REPLICAS", lambda fields: max(4, fields["min_replicas"]))
    """How many replicas each model has at most. Serve adds one while more answers run or wait than `replica_answers` each."""

    replica_answers: Count = variable("PHI3_UI_RAY_REPLICA_ANSWERS", 4)
    """How many answers a replica should have under way, on average."""

    replica_cpus: _Share = variable("PHI3_UI_RAY_REPLICA_CPUS", 1.0)
    """Cores that Ray reserves for each replica."""

    replica_gpus: _Share = variable("PHI3_UI_RAY_REPLICA_GPUS", 0.0)
    """GPUs that Ray reserves for each replica."""

    health_seconds: _Share = variable("PHI3_UI_RAY_HEALTH_SECONDS", 5.0)
    """Seconds between two health checks of a replica."""
