"""Memory use of an import, and size of a turn in the journal."""

from collections.abc import Iterator

from bench.rows import Bench, Row
from phi3_ui.store.conversations.operations import serialize_operation
from tests.store.conversations.chats import make_record
from tests.store.conversations.writing import make_long
from tests.support.import_memory import measure_imports

_KINDS = ("a chat of long messages", "a list of chats", "a saved chat")


def measure_rows(bench: Bench) -> Iterator[Row]:
    """Measure an import's memory for each kind of file, and the size of a long chat's last turn in the journal."""
    readings = measure_imports()
    for kind in _KINDS:
        one = readings[kind]
        ratio = one.memory / one.size
        measured = f"{ratio:.1f} × {one.size / 1e6:.0f} MB"
        yield Row(
            f"memory of an import ÷ file size: {kind}", measured, "≤ 5, plus 60 MB", one.memory <= 5 * one.size + 60e6
        )
    first, last = (len(serialize_operation(make_record("c", make_long(turns)))) for turns in (1, 500))
    yield Row(
        "journal: size of turn 500 of a chat ÷ size of turn 1, 1 kB of text each",
        f"{last} ÷ {first}",
        "≤ 1.1",
        last <= 1.1 * first,
    )
