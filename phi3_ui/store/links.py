"""Where MLflow's own UI shows what this app shows. Routes of mlflow 3.17.2, each looked at in a browser.

The base URL is Settings.mlflow_url. What is returned is a URL, not yet escaped for HTML.
"""

import ipaddress
import threading
import time
from urllib.parse import quote, urlsplit

import httpx

_TIMEOUT = 1.0  # seconds for each step of the look
_FRESH = 5.0  # seconds that a look is good for


def trace_url(base: str, experiment_id: str, trace_id: str) -> str:
    # The list behind the trace shows all times: without a trace of the last seven days it asks mlflow.org for a film.
    query = f"selectedEvaluationId={_quoted(trace_id)}&startTimeLabel=ALL"
    return f"{_experiment(base, experiment_id)}/traces?{query}"


def session_url(base: str, experiment_id: str, session_id: str) -> str:
    """All turns of a chat."""
    return f"{_experiment(base, experiment_id)}/chat-sessions/{_quoted(session_id)}"


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    return f"{_experiment(base, experiment_id)}/runs/{_quoted(run_id)}"


def logged_model_url(base: str, experiment_id: str, model_id: str) -> str:
    return f"{_experiment(base, experiment_id)}/models/{_quoted(model_id)}"


def model_version_url(base: str, name: str, version: str) -> str:
    return f"{base}/#/models/{_quoted(name)}/versions/{_quoted(version)}"


def _experiment(base: str, experiment_id: str) -> str:
    return f"{base}/#/experiments/{_quoted(experiment_id)}"


def _quoted(value: str) -> str:
    return quote(value, safe="")


class MlflowUi:
    """Whether an MLflow UI answers at `url`, so that no link is dead. None: there is none. Safe from any thread."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._alive = False
        self._looked = float("-inf")
        self._looking: threading.Thread | None = None

    def is_available(self) -> bool:
        """What the last look found: at once, and False before the first. A look that is no longer fresh is made anew meanwhile."""
        if self.url is None:
            return False
        with self._lock:
            stale = time.monotonic() - self._looked > _FRESH
            if stale and self._looking is None:
                self._looking = threading.Thread(target=self._look, args=(self.url,), name="mlflow-ui", daemon=True)
                self._looking.start()
            return self._alive

    def wait_until_available(self, seconds: float) -> bool:
        """As `alive`, but wait so long for a look that is under way."""
        self.is_available()
        with self._lock:
            looking = self._looking
        if looking:
            looking.join(seconds)
        return self.is_available()

    def _look(self, url: str) -> None:
        found = is_mlflow_ui(url)
        with self._lock:
            self._alive, self._looked, self._looking = found, time.monotonic(), None


def is_mlflow_ui(url: str) -> bool:
    """Does an MLflow UI answer at `url`, or one that first asks who is there? Takes about a second at most."""
    try:
        answer = httpx.get(f"{url}/health", timeout=_TIMEOUT, trust_env=not _is_here(url))
    except httpx.HTTPError:
        return False
    if answer.is_success:
        return answer.text.strip() == "OK"
    return answer.is_redirect or answer.status_code in (401, 403)


def _is_here(url: str) -> bool:
    """On this machine, where no proxy leads."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
