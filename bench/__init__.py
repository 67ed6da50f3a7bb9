"""Measured comparisons, run by hand: `make bench`. Ratios side by side in one run, for machines are noisy."""

from models import disable_telemetry

disable_telemetry()  # before any of its modules imports a dependency that would report
