"""Benchmarks, run manually with `make bench`. Ratios are measured side by side in one run, because machines are noisy."""

from models import disable_telemetry

disable_telemetry()  # before any module imports a dependency that sends telemetry
