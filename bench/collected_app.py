"""The app, which collects its garbage when it is sent SIGUSR1: what it holds on to then, it holds."""

import gc
import os
import runpy
import signal
import sys

signal.signal(signal.SIGUSR1, lambda *_: gc.collect() and None)
sys.path[0] = os.getcwd()  # as for app.py itself, and not this folder
runpy.run_path("app.py", run_name="__main__")
