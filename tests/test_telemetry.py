"""Every program turns telemetry off before it imports a dependency, and opens the page without an engine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models import TELEMETRY_OFF
from phi3_ui.paths import ROOT
from tests.support.env import environment

_ENGINES = {"torch", "transformers", "onnxruntime_genai"}


def _run_python(script: str, variables: dict[str, str]) -> Any:
    """Run `script` in a fresh process, and return the last line that it prints, read as JSON."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.server
def test_the_page_opens_without_an_engine() -> None:
    script = """
import gc, json, sys
gc.disable()  # as the server does
import phi3_ui.ui.quick_gradio, phi3_ui.application
print(json.dumps([name for name in sys.modules if "." not in name]))
"""
    loaded = set(_run_python(script, dict(os.environ)))

    assert {"mlflow", "gradio"} <= loaded
    assert loaded & _ENGINES == set()


def test_all_telemetry_switches_are_known() -> None:
    switches = {"DO_NOT_TRACK", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"}
    switches |= {"MLFLOW_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY"}

    assert switches <= TELEMETRY_OFF.keys()


# Runs an entry point until it has imported the expected dependencies, and prints how the switches were set at each import.
_WATCH_IMPORTS = """
import contextlib, importlib.abc, json, os, runpy, sys

seen = {}

class Watcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("gradio", "huggingface_hub", "mlflow", "onnxruntime_genai", "transformers"):
            seen[name] = {switch: os.environ.get(switch) for switch in %(switches)r}
            if seen.keys() >= %(expected)r:
                report_and_exit()

def report_and_exit():
    print(json.dumps(seen), file=sys.__stdout__, flush=True)
    os._exit(0)

sys.meta_path.insert(0, Watcher())
sys.argv = %(argv)r
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
    %(run)s
report_and_exit()
"""


@pytest.mark.server
@pytest.mark.parametrize(
    ("argv", "run", "expected"),
    [
        (
            [],
            "import phi3_ui.server as server; server.create_app(server.Settings.read())",
            {"gradio", "huggingface_hub", "mlflow"},
        ),
        (["phi3_ui", "list"], "runpy.run_module('phi3_ui', run_name='__main__', alter_sys=True)", {"mlflow"}),
        (["x", "chat"], "runpy.run_module('phi3_ui.cli.project', run_name='__main__', alter_sys=True)", {"mlflow"}),
        *(
            ([module, "--help"], f"runpy.run_module('models.{module}', run_name='__main__', alter_sys=True)", expected)
            for module, expected in (
                ("log_onnx", {"mlflow", "onnxruntime_genai"}),
                ("log_pipeline", {"huggingface_hub", "mlflow", "transformers"}),
                ("hub", {"huggingface_hub"}),
            )
        ),
    ],
    ids=["server", "command line", "MLproject", "log_onnx", "log_pipeline", "hub"],
)
def test_telemetry_is_off_before_any_dependency_is_imported(
    argv: list[str], run: str, expected: set[str], tmp_path: Path
) -> None:
    variables = environment(tmp_path, **dict.fromkeys(TELEMETRY_OFF, ""))

    watch = _WATCH_IMPORTS % {"switches": [*TELEMETRY_OFF], "argv": argv, "run": run, "expected": expected}
    seen = _run_python(watch, variables)

    assert seen.keys() >= expected
    assert all(switches == TELEMETRY_OFF for switches in seen.values())
