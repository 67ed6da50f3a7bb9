"""Notices that a model's process no longer obeys.

Stop, a closed page or the time limit ends an answer between two chunks: a model that hangs inside one never gets there, and
one that catches every exception, or means harm, goes on.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from phi3_ui.chat.types import (
    ChatRequest,
    ContextUsage,
    FinishReason,
    PrefillProgress,
    QueuePosition,
    TextDelta,
)
from phi3_ui.host.protocol import HostEvent

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""A person who has pressed Stop waits no longer. Healthy models take a token or a piece of a prompt: tenths of a second."""

_SECONDS_PER_PROMPT_TOKEN = 0.05
"""Until a model's own pace is known: about what Phi-3-mini takes on two cores."""
_PACE_TOLERANCE = 3
_MAX_PACE = 2.0  # of a model of 70 billion parameters on a laptop, about
_CHARS_PER_TOKEN = 4
_MAX_TOKENS_PER_CHAR, _MAX_TEMPLATE_TOKENS = 4, 10_000  # bytes of UTF-8; what a chat template adds
_SOON_SECONDS = 1.0
"""A reader waits so much longer to be told whether the model was killed, too."""


@dataclass
class _Answer:
    """What is known of an answer that the process has not ended yet."""

    time_limit: float | None
    unread: float
    """Prompt tokens to be read at most before the next sign of life."""
    max_unread: int
    """More cannot be in the prompt, whatever the process says."""
    due: float | None = None
    """When it must have ended; None: not yet known."""
    reason: FinishReason = "timeout"
    is_queued: bool = False
    is_told: bool = False
    """It was asked to end."""
    is_released: bool = False
    """Its reader waits no longer."""
    read_at: float | None = None
    """When the last piece of its prompt was read."""
    has_text: bool = False
    disobeys_since: float | None = None
    """When it first moved after it should have ended."""
    moved_at: float = 0.0
    """When it last did."""


class Watchdog:
    """Watches one process, from a thread of its own that sleeps until an answer is overdue. Thread-safe.

    The reader of an overdue answer is released in any case. The process is killed if nothing in it has moved for the
    grace time, and for the time that it may need for the rest of a prompt, which some models read in one piece. A sign that
    a chunk was completed is movement; that a thread of the process answers is not. It is also killed if an overdue answer
    goes on, once no other answer runs in it.
    """

    def __init__(
        self, grace: float, release: Callable[[int, FinishReason, bool], None], kill: Callable[[], None], name: str
    ) -> None:
        """Start watching.

        Args:
            grace: Seconds.
            release: Ends an overdue answer for its reader; gets its number, why it ends, and whether the process is killed.
            kill: Kills the process.
            name: The model's, for the log.
        """
        self._grace, self._release, self._kill, self._name = grace, release, kill, name
        self._settle = grace / 10  # what was sent before the order to end arrives within this time
        self._changed = threading.Condition()
        self._answers: dict[int, _Answer] = {}
        self._moved_at = time.monotonic()
        self._pace = 0.0  # seconds per prompt token, with tolerance; 0: unknown
        self._is_ready = self._has_ended = False
        threading.Thread(target=self._watch, name=f"watchdog-{name}", daemon=True).start()

    def add(self, number: int, request: ChatRequest) -> None:
        """An answer is requested."""
        chars = len(request.prefix) + sum(len(message.content) for message in request.messages)
        with self._changed:
            if not self._answers:
                self._moved_at = time.monotonic()  # an idle process owes no sign of life
            max_unread = _MAX_TOKENS_PER_CHAR * chars + _MAX_TEMPLATE_TOKENS
            answer = self._answers[number] = _Answer(request.time_limit, chars / _CHARS_PER_TOKEN, max_unread)
            self._start_clock(answer)
            self._changed.notify()

    def expect_end(self, number: int) -> None:
        """The process was told to end an answer."""
        with self._changed:
            if (answer := self._answers.get(number)) and not answer.is_told:
                answer.is_told = True
                self._start_clock(answer)
                self._changed.notify()

    def set_ready(self) -> None:
        """The model is loaded, so from now on it must obey."""
        with self._changed:
            self._is_ready = True
            self._moved_at = time.monotonic()
            for answer in self._answers.values():
                self._start_clock(answer)
            self._changed.notify()

    def notice(self, number: int, event: HostEvent) -> None:
        """The process has sent an event, which is a sign of life. Called for every token: no lock."""
        answer = self._answers.get(number)
        if answer is None:
            return
        self._moved_at = answer.moved_at = now = time.monotonic()
        if answer.disobeys_since is None and answer.due is not None and now > answer.due - self._grace + self._settle:
            answer.disobeys_since = now
        if isinstance(event, TextDelta):
            answer.unread, answer.has_text = 0, True
        elif isinstance(event, PrefillProgress):
            unread = min(max(event.total - event.processed, 0), answer.max_unread)
            if answer.read_at is not None and unread < answer.unread:
                pace = (now - answer.read_at) / (answer.unread - unread)
                self._pace = max(self._pace, min(_PACE_TOLERANCE * pace, _MAX_PACE))
            answer.unread, answer.read_at = unread, now
        elif isinstance(event, ContextUsage):
            answer.unread = min(event.prompt_tokens, answer.max_unread)
        is_queued = isinstance(event, QueuePosition) and not answer.has_text and len(self._answers) > 1
        if answer.is_queued != is_queued:
            with self._changed:
                answer.is_queued = is_queued
                if not answer.is_told:
                    answer.due = None
                    self._start_clock(answer)
                self._changed.notify()

    def end_answer(self, number: int) -> None:
        """The process has ended an answer."""
        with self._changed:
            self._answers.pop(number, None)
            if any(answer.is_released for answer in self._answers.values()):
                self._changed.notify()  # one that goes on may now be alone

    def was_told(self, number: int) -> FinishReason | None:
        """Why an answer that the process has not ended was to end; None if it was to go on."""
        with self._changed:
            answer = self._answers.get(number)
            if answer is None or not (answer.is_told or (answer.due is not None and answer.due <= time.monotonic())):
                return None
            return answer.reason

    def close(self) -> None:
        """The process has ended."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def await_movement(self, interval: float) -> bool:
        """Whether the process moves, as soon as that is known; a process that moves shows so every `interval` seconds."""
        with self._changed:
            while not self._has_ended:
                now = time.monotonic()
                silent = now - self._moved_at
                if silent < interval:
                    return True
                if silent >= self._patience():
                    return False
                self._changed.wait(self._patience() - silent)
        return False

    def _start_clock(self, answer: _Answer) -> None:
        if not self._is_ready:
            return
        now = time.monotonic()
        answer.disobeys_since = None
        if answer.is_told:
            answer.due, answer.reason = now + self._grace, "cancelled"
        elif not answer.is_queued and answer.time_limit is not None:
            answer.due = now + answer.time_limit + self._grace

    def _patience(self) -> float:
        """Seconds of silence after which the process is taken to hang."""
        unread = max((answer.unread for answer in self._answers.values()), default=0.0)
        return self._grace + unread * (self._pace or _SECONDS_PER_PROMPT_TOKEN)

    def _disobeys(self, overdue: list[_Answer]) -> bool:
        """Whether the process goes on with an overdue answer, and with no other. One step may be under way when it is told to end."""
        return len(overdue) == len(self._answers) and any(
            answer.disobeys_since is not None and answer.moved_at >= answer.disobeys_since + self._settle
            for answer in overdue
        )

    def _watch(self) -> None:
        with self._changed:
            while not self._has_ended:
                now = time.monotonic()
                hangs_at = self._moved_at + self._patience()
                due = [(answer.due, number) for number, answer in self._answers.items() if answer.due is not None]
                overdue = [self._answers[number] for at, number in due if at <= now]
                hangs = bool(overdue) and hangs_at <= now
                is_killed = hangs or self._disobeys(overdue)
                wake_at = [hangs_at] if overdue else []
                for at, number in due:
                    release_at = hangs_at if at < hangs_at <= at + _SOON_SECONDS and not is_killed else at
                    if release_at > now:
                        wake_at.append(release_at)
                    elif not (answer := self._answers[number]).is_released:
                        answer.is_released = True
                        self._release(number, answer.reason, is_killed)
                if is_killed:
                    silent = f"has not moved for {now - self._moved_at:.1f} s and does not obey"
                    what = silent if hangs else "goes on with what was to end"
                    logger.error("%s %s: it is ended", self._name, what)
                    self._kill()
                    return
                self._changed.wait(min(wake_at) - now if wake_at else None)
