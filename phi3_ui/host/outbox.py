"""Sends events to the app in batches, one every few milliseconds.

The engine uses every core it is given, so each wake-up of the app costs tokens. The first event after a pause is sent
immediately, and so is the first text after the prefill; text that follows within the interval is sent together.
"""

import json
import threading
from typing import IO, Any

from phi3_ui.chat.types import TextDelta
from phi3_ui.host.protocol import HostEvent, pack_event

INTERVAL = 0.04
"""Seconds between batches that hold text; the page draws every 0.05 s."""

_NumberedEvent = tuple[int, HostEvent]


class Outbox:
    """Writes events to the app from its own thread. Thread-safe."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._changed = threading.Condition()
        self._items: list[_NumberedEvent] = []
        self._is_writing = False
        self._pause = threading.Event()
        threading.Thread(target=self._send_batches, name="outbox", daemon=True).start()

    def put(self, number: int, event: HostEvent) -> None:
        """Queue an event of the answer or token count with this number."""
        with self._changed:
            self._items.append((number, event))
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything queued is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items and not self._is_writing)

    def write_line(self, line: Any) -> None:
        """Write one line immediately. Call it before any event is queued."""
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()

    def _send_batches(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items)
                items, self._items = self._items, []
                self._is_writing = True
            lines = [json.dumps([number, pack_event(event)]) + "\n" for number, event in merge_text_deltas(items)]
            self._out.write("".join(lines))
            self._out.flush()
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
            if any(isinstance(event, TextDelta) for _, event in items):
                self._pause.wait(INTERVAL)


def merge_text_deltas(items: list[_NumberedEvent]) -> list[_NumberedEvent]:
    """Merge consecutive text deltas of each answer; the order within an answer is kept."""
    merged: dict[int, list[HostEvent]] = {}
    for number, event in items:
        events = merged.setdefault(number, [])
        if events and isinstance(event, TextDelta) and isinstance(last := events[-1], TextDelta):
            events[-1] = TextDelta(last.text + event.text)
        else:
            events.append(event)
    return [(number, event) for number, events in merged.items() for event in events]
