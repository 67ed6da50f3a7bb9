"""One answer in an event loop: its text as it comes, its end, and a caller that leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn


class AnswerStream:
    """Takes the events of an answer from its thread. Create it in the event loop that reads it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events = asyncio.Queue[str | Answer]()

    def put(self, event: str | Answer) -> None:
        """Add a piece of text, or the answer at its end. Thread-safe."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def get(self, seconds: float) -> str | Answer | None:
        """The next piece of text, or the answer at its end; None if there is none for so long."""
        try:
            async with asyncio.timeout(seconds):
                return await self._events.get()
        except TimeoutError:
            return None

    async def wait(self) -> Answer:
        """The answer, once it has ended."""
        while not isinstance(event := await self._events.get(), Answer):
            pass
        return event


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
