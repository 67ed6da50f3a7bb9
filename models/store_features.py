"""Detect the features of a tracking store that not every MLflow server has, with one query per store and process."""

import threading
from dataclasses import dataclass
from typing import Any

_LOGGED_MODELS = "/api/2.0/mlflow/logged-models/search"
_SPANS = "/v1/traces"
# Status codes of servers and proxies for an unknown path or method.
_NO_SUCH_ENDPOINT = (404, 405, 501)

_lock = threading.Lock()
_known: dict[str, "StoreFeatures"] = {}


@dataclass(frozen=True)
class StoreFeatures:
    """The features that MLflow 2 servers and Azure ML lack."""

    logged_models: bool
    """Models are entities of their own. Otherwise they are artifacts of runs, and possibly registered."""
    traces: bool
    """Traces are stored with their spans."""


def find_features(tracking_uri: str) -> StoreFeatures:
    """Return the features of a store. Thread-safe; only the first call for each store queries it.

    Raises MlflowException if the server cannot be reached or refuses to answer; the next call then queries it again.
    """
    with _lock:
        features = _known.get(tracking_uri)
    if features is None:
        features = _query_features(tracking_uri)
        with _lock:
            _known[tracking_uri] = features
    return features


def _query_features(tracking_uri: str) -> StoreFeatures:
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.tracing.client import TracingClient
    from mlflow.utils.uri import is_databricks_uri

    store = TracingClient(tracking_uri).store
    if not isinstance(store, RestStore) or is_databricks_uri(tracking_uri):
        return StoreFeatures(logged_models=True, traces=True)  # the installed MLflow itself, or hosted by Databricks
    credentials = store.get_host_creds()
    return StoreFeatures(
        logged_models=_has_endpoint(credentials, _LOGGED_MODELS, json={"experiment_ids": ["0"], "max_results": 1}),
        # An empty trace export, which the endpoint rejects or ignores.
        traces=_has_endpoint(credentials, _SPANS, data=b""),
    )


def _has_endpoint(credentials: Any, path: str, **body: Any) -> bool:
    """Whether the server has an endpoint for POST requests. Raises MlflowException if its answer leaves that open."""
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    response = http_request(credentials, path, "POST", raise_on_status=False, **body)
    if response.status_code in _NO_SUCH_ENDPOINT:
        return False
    if response.status_code in (401, 403) or response.status_code >= 500:
        verify_rest_response(response, path)
    return True
