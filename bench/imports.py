"""What an import takes of the memory, and a turn of the journal."""

from collections.abc import Iterator

from bench.rows import Bench, Row
from phi3_ui.store.conversations.operations import serialize_operation
from tests.store.conversations.chats import make_record
from tests.store.conversations.writing import make_long
from tests.support.import_memory import measure_readings

_KINDS = ("a chat of long messages", "a list of chats", "a saved chat")


def rows(bench: Bench) -> Iterator[Row]:
    """The memory of an import by its kind of file, and the bytes of the last turn of a long chat in the journal."""
    readings = measure_readings()
    for kind in _KINDS:
        one = readings[kind]
        ratio = one.memory / one.size
        measured = f"{ratio:.1f} × {one.size / 1e6:.0f} MB"
        yield Row(
            f"Memory of an import, × the file: {kind}", measured, "≤ 5, and 60 MB", one.memory <= 5 * one.size + 60e6
        )
    first, last = (len(serialize_operation(make_record("c", make_long(turns)))) for turns in (1, 500))
    yield Row("Journal, bytes of turn 500 ÷ turn 1, of 1 kB each", f"{last} ÷ {first}", "≤ 1.1", last <= 1.1 * first)
