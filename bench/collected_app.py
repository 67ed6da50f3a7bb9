"""The app with a SIGUSR1 handler that collects garbage, so that only live memory is measured."""

import gc
import os
import runpy
import signal
import sys

signal.signal(signal.SIGUSR1, lambda *_: gc.collect() and None)
sys.path[0] = os.getcwd()  # as for app.py itself, and not this folder
runpy.run_path("app.py", run_name="__main__")
