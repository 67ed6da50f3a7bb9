"""The Prometheus metrics at /metrics: counts of answers, tokens and cache hits, and the time to first token."""

import threading
from collections import Counter as Counts
from collections.abc import Iterable
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

_BLIND = "(blind comparison)"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one app, in its own registry. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._turns = WeakSet[RunningTurn]()
        model = ("model",)
        self._answers = self._counter("answers", "Answers that have ended", ("model", "outcome"))
        self._tokens = self._counter("tokens", "Tokens of the answers", ("model", "kind"))
        self._hits = self._counter("cache_hits", "Answers with prompt tokens served from the KV cache", model)
        self._first = Histogram(
            "phi3_first_token_seconds", "Time to first token", model, registry=self._registry, buckets=_SECONDS
        )
        self._running = self._gauge("answers_running", "Answers that are running")
        self._queued = self._gauge("answers_queued", "Answers that are queued, or waiting for a model to load")
        self._loaded = self._gauge("models_loaded", "Models that are loaded and ready to answer")

    def observe(self, model: str | None, answer: Answer) -> None:
        """Count an answer that has ended. `model` is its name; None in a blind comparison, whose models it would reveal."""
        model = model or _BLIND
        outcome = answer.error[0] if answer.error else answer.finish_reason or "stop"
        self._answers.labels(model, outcome).inc()
        if usage := answer.usage:
            cached = usage.cached_tokens or 0
            for kind, count in (
                ("prompt", usage.prompt_tokens - cached),
                ("cached", cached),
                ("completion", usage.completion_tokens),
            ):
                self._tokens.labels(model, kind).inc(max(count, 0))
            if cached:
                self._hits.labels(model).inc()
        if answer.timings and answer.timings.time_to_first_token is not None:
            self._first.labels(model).observe(answer.timings.time_to_first_token)

    def track(self, turn: RunningTurn) -> None:
        """Count an answer while it runs."""
        with self._lock:
            self._turns.add(turn)

    def write(self, loaded: int) -> bytes:
        """Return the metrics in Prometheus's text format. `loaded` is the number of models that are ready to answer."""
        with self._lock:
            phases = Counts(turn.snapshot.phase for turn in self._turns)
        queued = phases["queued"] + phases["loading"]
        self._queued.set(queued)
        self._running.set(phases.total() - queued - phases["done"])
        self._loaded.set(loaded)
        return generate_latest(self._registry)

    def _counter(self, name: str, help_text: str, labels: Iterable[str]) -> Counter:
        return Counter(f"phi3_{name}", help_text, labels, registry=self._registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"phi3_{name}", help_text, registry=self._registry)
