"""All tests. Telemetry is disabled before any of them imports a dependency that would report."""

import gc

from models import disable_telemetry

disable_telemetry()
gc.disable()  # until all tests are collected: imported modules stay, and scanning them again and again takes seconds
