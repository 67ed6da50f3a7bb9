"""All tests. Telemetry is off before any of them imports a dependency that would report."""

from models import disable_telemetry

disable_telemetry()
