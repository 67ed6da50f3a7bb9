"""Events on their way to the app, some milliseconds' worth at a time.

The engine computes on every core it is given, so each wake-up of the app costs tokens. The first event of a pause goes
out at once, and so does the first text after the prompt is read; text that follows within the interval goes together.
"""

import json
import threading
from typing import IO, Any

from phi3_ui.chat.types import Event, TextDelta
from phi3_ui.host.protocol import AnswerFailed, pack_event

INTERVAL = 0.04  # seconds; an eye sees no difference, and the page draws every 0.05 s


class Outbox:
    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._changed = threading.Condition()
        self._items: list[tuple[int, Event | AnswerFailed]] = []
        self._writing = False
        self._pause = threading.Event()
        threading.Thread(target=self._pump, name="outbox", daemon=True).start()

    def put(self, number: int, event: Event | AnswerFailed) -> None:
        with self._changed:
            self._items.append((number, event))
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all that was put is on its way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items and not self._writing)

    def write(self, line: Any) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()

    def _pump(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items)
                items, self._items = self._items, []
                self._writing = True
            lines = [json.dumps([number, pack_event(event)]) + "\n" for number, event in join_texts(items)]
            self._out.write("".join(lines))
            self._out.flush()
            with self._changed:
                self._writing = False
                self._changed.notify_all()
            if any(isinstance(event, TextDelta) for _, event in items):
                self._pause.wait(INTERVAL)


def join_texts(items: list[tuple[int, Event | AnswerFailed]]) -> list[tuple[int, Event | AnswerFailed]]:
    """The same events with neighbouring texts of one answer in one; the order within an answer is kept."""
    joined: dict[int, list[Event | AnswerFailed]] = {}
    for number, event in items:
        events = joined.setdefault(number, [])
        if events and isinstance(event, TextDelta) and isinstance(last := events[-1], TextDelta):
            events[-1] = TextDelta(last.text + event.text)
        else:
            events.append(event)
    return [(number, event) for number, events in joined.items() for event in events]
