"""The queue of the page's events."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from gradio.queueing import Event, Queue
from gradio.utils import run_coro_in_background, set_task_name
from typing_extensions import override

if TYPE_CHECKING:
    import gradio as gr

_JOIN_SECONDS = 0.005
"""The page should get an event's id, the response to its request, before the event's first message in the stream. Otherwise
Gradio's page keeps the message until then, and counts an event that has ended by then as running."""


class EventDrivenQueue(Queue):
    """Gradio's queue, which starts an event soon after it arrives or another one ends.

    Gradio 6.31 polls instead: for events every millisecond, and for progress every ten, of which the page's events report none.
    This took 7 % of a core when idle, and 2 % at a hundredth of a second.
    """

    def __init__(self, blocks: "gr.Blocks") -> None:
        """`blocks` has its number of threads; the number of waiting events is not limited."""
        super().__init__(
            live_updates=True,
            concurrency_count=blocks.max_threads,
            update_intervals=1,
            max_size=None,
            blocks=blocks,
        )
        self._has_changed = asyncio.Event()

    @override
    async def push(self, *arguments: Any, **keywords: Any) -> Any:
        """Add an event, which starts after `_JOIN_SECONDS`."""
        try:
            return await super().push(*arguments, **keywords)
        finally:
            asyncio.get_running_loop().call_later(_JOIN_SECONDS, self._has_changed.set)

    @override
    async def process_events(self, *arguments: Any, **keywords: Any) -> None:
        """Run an event until it ends."""
        try:
            await super().process_events(*arguments, **keywords)
        finally:
            self._has_changed.set()

    @override
    def close(self) -> None:
        """Start no further events."""
        super().close()  # type: ignore[no-untyped-call]  # by Gradio
        self._has_changed.set()

    @override
    async def start_processing(self) -> None:
        """Start the events until the queue is closed."""
        try:
            while not self.stopped:
                self._has_changed.clear()
                while None in self.active_jobs:
                    async with self.delete_lock:
                        found = self.get_events()
                    if not found:
                        break
                    self._start(*found)
                await self._has_changed.wait()
        finally:
            self.stopped = True
            self._cancel_asyncio_tasks()  # type: ignore[no-untyped-call]  # by Gradio

    @override
    async def start_progress_updates(self) -> None:
        """Send no progress."""

    @override
    def compute_analytics_summary(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Return an empty summary. Gradio computes it with pandas after each event, for a dashboard that is disabled."""
        return {"functions": {}}

    def _start(self, events: list[Event], batch: bool, concurrency_id: str) -> None:
        """Run `events`, which have left their queue, as Gradio's own loop does."""
        self.active_jobs[self.active_jobs.index(None)] = events
        waiting = self.event_queue_per_concurrency_id[concurrency_id]
        waiting.current_concurrency += 1
        now, function = time.time(), events[0].fn
        waiting.start_times_per_fn[function].add(now)
        for event in events:
            if analytics := self.event_analytics.get(event._id):
                analytics["status"] = "processing"
        task = run_coro_in_background(self.process_events, events, batch, now, function)
        set_task_name(task, events[0].session_hash, function._id, events[0]._id, batch)
        self._asyncio_tasks.add(task)
        task.add_done_callback(self._asyncio_tasks.discard)
        self.broadcast_estimations(concurrency_id)
