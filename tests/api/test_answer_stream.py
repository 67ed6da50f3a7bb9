"""Passing the events of an answer from its thread to the event loop."""

import asyncio
import threading

from anyio.from_thread import start_blocking_portal

from phi3_ui.api.streams import AnswerStream
from phi3_ui.chat.conversation import Answer

_DONE = Answer("m", "x")


def test_no_piece_is_lost_and_the_answer_is_last() -> None:
    async def read() -> list[str | Answer | None]:
        stream = AnswerStream()

        def write() -> None:
            for number in range(20_000):
                stream.put(f"{number} ")
            stream.put(_DONE)
            stream.put("late")

        threading.Thread(target=write).start()
        events = list[str | Answer | None]()
        while not isinstance(event := await stream.get(60), Answer):
            events.append(event)
        return [*events, event, await stream.get(60)]

    with start_blocking_portal() as portal:
        *texts, first, second = portal.call(read)
    assert "".join(map(str, texts)) == "".join(f"{number} " for number in range(20_000))
    assert first is second is _DONE


def test_waiting_text_is_read_at_once_and_the_event_loop_is_not_starved() -> None:
    async def read() -> tuple[str | Answer | None, int]:
        stream, callbacks = AnswerStream(), 0
        for _ in range(1000):
            stream.put("x")
        text = await stream.get(60)

        def count_callback() -> None:
            nonlocal callbacks
            callbacks += 1

        for _ in range(10):  # a model that is always ahead of the reader
            stream.put("x")
            asyncio.get_running_loop().call_soon(count_callback)
            await stream.get(60)
        return text, callbacks

    with start_blocking_portal() as portal:
        assert portal.call(read) == ("x" * 1000, 10)


def test_get_times_out_with_none() -> None:
    async def read() -> object:
        return await AnswerStream().get(0.01)

    with start_blocking_portal() as portal:
        assert portal.call(read) is None
