"""URLs of pages in MLflow's own UI, as of MLflow 3.17.2, and a check whether that UI is running.

`base` is Settings.mlflow_url. The URLs are not escaped for HTML.
"""

import ipaddress
import threading
import time
from urllib.parse import quote, urlsplit

import httpx

_TIMEOUT = 1.0  # seconds for each step of a probe
_MAX_AGE = 5.0  # seconds; an older probe is repeated


def experiment_url(base: str, experiment_id: str) -> str:
    """Return the URL of an experiment's traces."""
    return f"{_experiment_url(base, experiment_id)}/traces?startTimeLabel=ALL"


def trace_url(base: str, experiment_id: str, trace_id: str) -> str:
    """Return the URL of one trace."""
    # The list behind the trace shows all times: without a trace of the last seven days, it would load a video from mlflow.org.
    query = f"selectedEvaluationId={_quote(trace_id)}&startTimeLabel=ALL"
    return f"{_experiment_url(base, experiment_id)}/traces?{query}"


def session_url(base: str, experiment_id: str, session_id: str) -> str:
    """Return the URL of a conversation with all its turns."""
    return f"{_experiment_url(base, experiment_id)}/chat-sessions/{_quote(session_id)}"


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    """Return the URL of a run."""
    return f"{_experiment_url(base, experiment_id)}/runs/{_quote(run_id)}"


def dataset_url(base: str, experiment_id: str, dataset_id: str) -> str:
    """Return the URL of an evaluation dataset."""
    return f"{_experiment_url(base, experiment_id)}/datasets/{_quote(dataset_id)}"


def evaluation_run_url(base: str, experiment_id: str, run_id: str) -> str:
    """Return the URL of an evaluation's run, with its answers and their scores."""
    return f"{_experiment_url(base, experiment_id)}/evaluation-runs?selectedRunUuid={_quote(run_id)}"


def logged_model_url(base: str, experiment_id: str, model_id: str) -> str:
    """Return the URL of a logged model."""
    return f"{_experiment_url(base, experiment_id)}/models/{_quote(model_id)}"


def model_version_url(base: str, name: str, version: str) -> str:
    """Return the URL of a registered version."""
    return f"{base}/#/models/{_quote(name)}/versions/{_quote(version)}"


def _experiment_url(base: str, experiment_id: str) -> str:
    return f"{base}/#/experiments/{_quote(experiment_id)}"


def _quote(value: str) -> str:
    return quote(value, safe="")


class MlflowUi:
    """Checks whether an MLflow UI is running at `url`, to avoid dead links. `url` is None if there is none. Thread-safe."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._is_running = False
        self._probed_at = float("-inf")  # of time.monotonic()
        self._probe: threading.Thread | None = None

    def is_available(self) -> bool:
        """Return the result of the last probe without waiting; False before the first. Start a new probe if it is stale."""
        if self.url is None:
            return False
        with self._lock:
            if self._probe is None and time.monotonic() - self._probed_at > _MAX_AGE:
                self._probe = threading.Thread(target=self._run_probe, args=(self.url,), name="mlflow-ui", daemon=True)
                self._probe.start()
            return self._is_running

    def wait_until_available(self, timeout: float) -> bool:
        """Like `is_available`, but wait up to `timeout` seconds for a running probe."""
        self.is_available()
        with self._lock:
            probe = self._probe
        if probe:
            probe.join(timeout)
        return self.is_available()

    def _run_probe(self, url: str) -> None:
        is_running = is_mlflow_ui(url)
        with self._lock:
            self._is_running, self._probed_at, self._probe = is_running, time.monotonic(), None


def is_mlflow_ui(url: str) -> bool:
    """Return whether an MLflow UI, or a login page in front of one, responds at `url`. Takes about a second at most."""
    try:
        response = httpx.get(f"{url}/health", timeout=_TIMEOUT, trust_env=not _is_loopback(url))
    except httpx.HTTPError:
        return False
    if response.is_success:
        return response.text.strip() == "OK"
    return response.is_redirect or response.status_code in (401, 403)


def _is_loopback(url: str) -> bool:
    """Return whether the host is this machine, which a proxy cannot reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
