"""Memory use of reading a file of chats: at most five times the size of the file, or a small fixed amount."""

import sys

import pytest

from tests.support.import_memory import measure_imports

FREE = 65_000_000
"""Bytes that any file may take: for a short chat that consists of structure only, and for the reader itself."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_takes_at_most_five_times_the_file() -> None:
    readings = measure_imports()

    for name, reading in readings.items():
        assert reading.memory <= 5 * reading.size + FREE, name
    assert {name: reading.read for name, reading in readings.items() if reading.read} == {
        "a chat of long messages": 1,
        "a chat with an emoji in each message": 1,
        "a list of chats": 500,
        "a saved chat": 1,
    }
    assert readings["a zip bomb"].size < 400_000
    assert readings["a zip bomb"].rejected
