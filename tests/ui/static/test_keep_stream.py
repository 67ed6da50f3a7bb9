"""Event streams of the page: an event that is queued as a stream ends gets its result."""

import json
import subprocess
from pathlib import Path

import deno


def test_an_event_queued_while_a_stream_ends_is_answered_on_the_next() -> None:
    script = Path(__file__).with_name("keep_stream.js")
    command = [deno.find_deno_bin(), "run", "--no-config", str(script)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)
    expected = ["process_starts", "process_completed", "process_completed", "close_stream"]
    assert result == {"received": expected, "done": True, "streams": 2}
