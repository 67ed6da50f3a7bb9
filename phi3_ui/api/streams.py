"""One answer in an event loop: its text as it comes, its end, and a caller that leaves."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn


class AnswerStream:
    """Takes the events of an answer from its thread. Create it in the event loop that reads it.

    Pieces of text that wait are read as one: they may come faster than each of them could be sent.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # guards the two that follow
        self._pieces = list[str]()
        self._answer: Answer | None = None
        self._has_events = asyncio.Event()

    def put(self, event: str | Answer) -> None:
        """Add a piece of text, or the answer at its end, after which nothing counts. Thread-safe."""
        with self._lock:
            if self._answer is not None:
                return
            is_awaited = not self._pieces
            if isinstance(event, Answer):
                self._answer = event
            else:
                self._pieces.append(event)
        if is_awaited:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
                self._loop.call_soon_threadsafe(self._has_events.set)

    async def get(self, seconds: float | None) -> str | Answer | None:
        """The text that has come, or the answer at its end; None if there is none for so long."""
        await asyncio.sleep(0)  # others are served between two events, however fast they come
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
        """The answer, once it has ended."""
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
async def stopped_on_disconnect(
    receive: Callable[[], Awaitable[Any]], turn: RunningTurn, *, at_end: bool = True
) -> AsyncIterator[None]:
    """In the block, a caller who leaves stops the computation; `at_end`: so does the end of the block, however it comes.

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
