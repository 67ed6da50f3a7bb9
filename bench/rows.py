"""The table of results, and helpers for all rows: the demo models and timed answers."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from bench.paths import Speed, TextPoint, measure_speed
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message, TextDelta, Usage
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.settings import Settings
from phi3_ui.store.registry.admission import open_admission
from phi3_ui.store.registry.catalogue import ModelEntry


@dataclass(frozen=True)
class Row:
    """One row of the table; `met` is None if there is no target or nothing could be measured."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None


def read_metadata(uri: str) -> dict[str, Any]:
    """Return the metadata of a model in the current tracking store."""
    return dict(mlflow.models.get_model_info(uri).metadata or {})


@dataclass(frozen=True)
class Bench:
    """The demo models by contract; `temporary` is an empty folder for files written by a row."""

    settings: Settings
    entries: dict[str, ModelEntry]
    rounds: int
    temporary: Path

    def spec(self, contract: str) -> ModelSpec:
        entry = self.entries[contract]
        return ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)

    def metadata(self, contract: str) -> dict[str, Any]:
        """Return the metadata that a demo model was logged with."""
        mlflow.set_tracking_uri(self.entries[contract].tracking_uri)
        return read_metadata(self.entries[contract].uri)

    @contextmanager
    def hosted(self, contract: str) -> Iterator[HostedModel]:
        """Open a demo model in its process, loaded and warmed up."""
        model = HostedModel(self.spec(contract), self.temporary, open_admission(self.settings).admit)
        try:
            model.ready.result()
            ask_model(model, [Message("user", "Hello.")], 16)
            yield model
        finally:
            model.unload()


@dataclass(frozen=True)
class TimedAnswer:
    """One greedy answer. Times are seconds of the clock, by default `time.perf_counter`; points count characters."""

    text: str
    asked_at: float
    points: list[TextPoint]
    usage: Usage

    @property
    def first(self) -> float:
        """Seconds from the question to the first text."""
        return self.points[0][0] - self.asked_at

    @property
    def speed(self) -> Speed:
        return measure_speed(self.asked_at, self.points, self.usage.completion_tokens)

    def tokens_by(self, at: float) -> float:
        """Estimate the number of tokens received by the time `at`."""
        characters = max((size for time_, size in self.points if time_ <= at), default=0)
        return self.usage.completion_tokens * characters / self.points[-1][1]


def ask_model(
    model: ChatModel,
    messages: Iterable[Message],
    tokens: int,
    on_text: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> TimedAnswer:
    """Stream one greedy answer; `on_text` is called for each chunk. Raises RuntimeError for an empty answer."""
    asked_at, points, size, ended = clock(), list[TextPoint](), 0, None
    for event in model.answer(ChatRequest(tuple(messages), GenerationParams(tokens, 0.0)), CancelToken()):
        if isinstance(event, TextDelta):
            size += len(event.text)
            points.append((clock(), size))
            on_text()
        elif isinstance(event, Completed):
            ended = event
    if ended is None or ended.usage is None or not points:
        raise RuntimeError("the model returned no text")
    return TimedAnswer(ended.text, asked_at, points, ended.usage)


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


def median_ratio(ones: Iterable[float], others: Iterable[float]) -> float:
    """Return the median of the per-round ratios."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def print_header() -> None:
    """Print the header of a table of rows."""
    print("| what | measured | target | met |\n|---|---|---|---|", flush=True)


def print_row(row: Row) -> None:
    met = {True: "yes", False: "no", None: ""}[row.met]
    print(f"| {row.what} | {row.measured} | {row.target} | {met} |", flush=True)


def print_rows(bench: Bench, measures: dict[str, Callable[[Bench], Iterator[Row]]]) -> None:
    """Measure and print one row after another; a failing row is reported and does not stop the others."""
    print_header()
    for name, measure in measures.items():
        try:
            for row in measure(bench):
                print_row(row)
        except Exception as error:  # noqa: BLE001 (a failing row must not stop the others; it is printed)
            words = (str(error).strip().splitlines() or [""])[0]
            print(f"| {name} | could not be measured: {type(error).__name__}: {words} | | |", flush=True)
    print(flush=True)
