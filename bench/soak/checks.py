"""Checks after a run: an idle app without leaks, no files on disk but the store, and every finished turn stored once."""

import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Trace

from bench.rows import Row
from phi3_ui.store.conversations.trace_reader import parse_turn
from tests.support.app_server import Server, wait_until

MAX_GROWTH = 0.05


@dataclass(frozen=True)
class Snapshot:
    """Resources of the app's process; see app.py."""

    threads: list[str]
    answers: int
    """Running or queued."""
    claims: int
    """Slots in user quotas."""
    streams: int
    """Event streams to open pages."""
    pages: int
    """Kept sessions."""
    models: list[str]
    """Names of the loaded models."""
    files: int
    """Open file descriptors."""
    bytes: int
    """Unique set size after a garbage collection."""


def take_snapshot(server: Server, file: Path) -> Snapshot:
    """Make the app write a snapshot to `file`, and read it."""
    file.unlink(missing_ok=True)
    server.process.send_signal(signal.SIGUSR1)
    wait_until(file.exists)
    return Snapshot(**json.loads(file.read_text(encoding="utf-8")))


def compare(before: Snapshot, after: Snapshot) -> Iterator[Row]:
    """Compare two snapshots of an idle app without open pages."""
    growth = after.bytes / before.bytes - 1
    yield Row(
        "growth of the app's memory after the warm-up",
        f"{growth:.1%} ({before.bytes / 1e6:.0f} to {after.bytes / 1e6:.0f} MB)",
        f"≤ {MAX_GROWTH:.0%}",
        growth <= MAX_GROWTH,
    )
    more = Counter(_list_threads(after)) - Counter(_list_threads(before))
    yield _none("additional threads since the warm-up", sorted(more.elements()))
    held = after.answers + after.claims + after.streams
    yield Row("answers, quota slots and event streams still held", str(held), "0", held == 0)
    kept = f"{before.pages}, {after.pages}"
    yield Row("sessions kept for disconnected pages, after the warm-up and at the end", kept, "", None)
    yield Row("open files, after the warm-up and at the end", f"{before.files}, {after.files}", "", None)


def check_disk(home: Path) -> Iterator[Row]:
    """Check that an app that has ended, with the temporary folder `home`/tmp, left only its store and its logs on disk."""
    temporary = [path for path in (home / "tmp").rglob("*") if path.is_file() or path.name.startswith("phi3-model")]
    yield _none("leftover temporary files: uploads, folders of model processes", temporary)
    suffixes = (".tmp", ".part", ".refused", ".unreadable")
    yield _none("leftover drafts and rejected records", [file for file in home.rglob("*") if file.suffix in suffixes])


def check_logs(home: Path) -> Iterator[Row]:
    """Count the tracebacks in the app's logs, and print them."""
    logs = "".join(log.read_text(encoding="utf-8") for log in sorted(home.glob("app-*.log")))
    tracebacks = re.findall(r".*\nTraceback(?:.*\n)(?:[ ].*\n)*.*\n", logs)
    print(*tracebacks, sep="\n", file=sys.stderr)
    yield Row("tracebacks in the app's logs", str(len(tracebacks)), "0", not tracebacks)


def check_turns(tracking_uri: str, asked: Mapping[str, int], finished: Mapping[str, int]) -> Iterator[Row]:
    """Check the turns in the store. `asked` and `finished` count, by question, the turns started, and those finished on a page."""
    stored = Counter[str]()
    for trace in _list_traces(MlflowClient(tracking_uri)):
        if turn := parse_turn(trace):
            stored[turn.question] += 1
    lost = [question for question, count in finished.items() if stored[question] < count]
    yield Row(
        "finished turns missing from the store", f"{len(lost)} of {sum(finished.values())}{_list(lost)}", "0", not lost
    )
    yield _none("turns stored twice", [question for question, count in stored.items() if count > asked[question]])


def _list_traces(client: MlflowClient) -> Iterator[Trace]:
    experiment = client.get_experiment_by_name("phi3-chat")
    assert experiment, "no chat was stored"
    token: str | None = None
    while True:
        page = client.search_traces(locations=[experiment.experiment_id], max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _list_threads(snapshot: Snapshot) -> Iterator[str]:
    """List the names of threads without numbers, except those of loaded models, which may differ from before."""
    for name in snapshot.threads:
        if not any(model in name for model in snapshot.models):
            yield re.sub(r"[\d_()-]+$", "", name)


def _none(what: str, found: Sequence[object]) -> Row:
    return Row(what, f"{len(found)}{_list(found)}", "0", not found)


def _list(found: Sequence[object]) -> str:
    return f" ({', '.join(map(str, found[:5]))})" if found else ""
