"""All tests. Telemetry is disabled before any test imports a dependency that would send it."""

import gc

from models import disable_telemetry

disable_telemetry()
gc.disable()  # until collection ends: imported modules are never freed, and scanning them repeatedly takes seconds
