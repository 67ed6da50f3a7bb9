"""Phi-3 Chat on MLflow. Importing this package turns the telemetry of every dependency off, before any is imported."""

import models as _telemetry_off  # noqa: F401

__version__ = "0.1.0"
