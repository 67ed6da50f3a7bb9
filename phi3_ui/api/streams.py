"""Passes one answer into an event loop, and cancels it when the caller disconnects."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn


class AnswerStream:
    """Receives the events of an answer from its thread. Create it in the event loop that reads it.

    Pending pieces of text are joined, since they may arrive faster than they could be sent one by one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # guards the next two attributes
        self._pieces = list[str]()
        self._answer: Answer | None = None
        self._has_events = asyncio.Event()

    def put(self, event: str | Answer) -> None:
        """Add a piece of text or, at the end, the answer, after which everything is ignored. Thread-safe."""
        with self._lock:
            if self._answer is not None:
                return
            wakes_reader = not self._pieces
            if isinstance(event, Answer):
                self._answer = event
            else:
                self._pieces.append(event)
        if wakes_reader:
            with contextlib.suppress(RuntimeError):  # the loop, and with it the connection, is closed
                self._loop.call_soon_threadsafe(self._has_events.set)

    async def get(self, seconds: float | None) -> str | Answer | None:
        """Return the pending text or, at the end, the answer; None if nothing arrives within `seconds`."""
        await asyncio.sleep(0)  # yield to other tasks between two events, however fast they arrive
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._has_events.clear()
                    if (event := self._take()) is not None:
                        return event
                    await self._has_events.wait()
        except TimeoutError:
            return None

    async def wait(self) -> Answer:
        """Wait for the end of the answer, and return it."""
        while not isinstance(event := await self.get(None), Answer):
            pass
        return event

    def _take(self) -> str | Answer | None:
        with self._lock:
            if not self._pieces:
                return self._answer
            text = "".join(self._pieces)
            self._pieces.clear()
            return text


@asynccontextmanager
async def stop_on_disconnect(
    receive: Callable[[], Awaitable[Any]], turn: RunningTurn, *, at_end: bool = True
) -> AsyncIterator[None]:
    """Cancel the answer if the caller disconnects during the block, or the block raises; with `at_end`, also when it ends.

    The request's body must have been read.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        turn.stop()

    watching = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        turn.stop()
        raise
    finally:
        watching.cancel()
        if at_end:
            turn.stop()
