"""Every program disables telemetry before it imports a dependency, and the page opens without importing an engine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models import TELEMETRY_OFF
from phi3_ui.paths import ROOT
from tests.conftest import Demo
from tests.support import offline
from tests.support.env import environment

_ENGINES = {"torch", "transformers", "onnxruntime_genai"}


def _run_python(script: str, variables: dict[str, str]) -> Any:
    """Run `script` in a new process, and return the last line that it prints, parsed as JSON."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.server
def test_the_page_opens_without_importing_an_engine() -> None:
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


# Runs an entry point until it has imported the expected dependencies, and prints the switches at each import.
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
                ("log_onnx", {"mlflow"}),
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


_CONNECT = """
import contextlib, socket

for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ("198.51.100.7", 443)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8:1::7", 443)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("198.51.100.7", 443)),
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 9)),
):
    with socket.socket(family, kind) as client, contextlib.suppress(OSError):
        client.settimeout(0)
        client.connect(address)
        client.send(b"x")
with contextlib.suppress(OSError):
    socket.getaddrinfo("example.com", 443)
"""

# Starts the app, opens its page, asks one engine through the app and the other on the command line, and stops the app.
_USE_APP = """
import json, subprocess, sys, urllib.request
from pathlib import Path
from tests.support.app_server import serve
from tests.support.env import environment

home, log = map(Path, sys.argv[1:3])
app_model, cli_model = sys.argv[3:]
with serve(home, log) as server:
    assert urllib.request.urlopen(server.url).read()
    body = {"model": app_model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    header = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(), header)
    assert json.load(urllib.request.urlopen(request))["usage"]["completion_tokens"]
    chat = [sys.executable, "-m", "phi3_ui", "chat", cli_model, "Hello", "--max-tokens", "8"]
    subprocess.run(chat, env=environment(home), check=True)
"""


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has network namespaces")
def test_no_packet_leaves_the_machine(demo: Demo, tmp_path: Path) -> None:
    offline.check_support()

    def run(*command: str) -> list[str]:
        file = tmp_path / "packets"
        # A minimal environment, because the variables of test runners and CI services also disable MLflow's telemetry.
        variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PHI3_UI_HOME": str(demo.settings.home)}
        variables["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        isolated = offline.isolated(file, sys.executable, "-c", *command)
        done = subprocess.run(isolated, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return file.read_text().splitlines()

    expected = {"tcp 198.51.100.7 443", "tcp 2001:db8:1::7 443", "udp 198.51.100.7 443", "udp 192.0.2.2 53"}
    assert set(run(_CONNECT)) == expected
    models = [demo.entry(contract).name for contract in ("chat", "prompt")]
    assert run(_USE_APP, str(demo.settings.home), str(tmp_path / "app.log"), *models) == []
