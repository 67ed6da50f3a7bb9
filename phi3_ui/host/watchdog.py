"""Detects a model's process that no longer responds to cancellation.

Stop, a closed page or the time limit ends an answer between two chunks. A model that hangs inside a chunk never gets there, and
one that catches every exception, or is malicious, continues regardless.
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
"""The longest wait after Stop. Healthy models end after one token or one prefill chunk: tenths of a second."""

_SECONDS_PER_PROMPT_TOKEN = 0.05
"""Used until the model's own prefill rate is known: about that of Phi-3-mini on two cores."""
_PACE_TOLERANCE = 3
_MAX_PACE = 2.0  # seconds per prompt token; about that of a model with 70 billion parameters on a laptop
_CHARS_PER_TOKEN = 4
_MAX_TOKENS_PER_CHAR, _MAX_TEMPLATE_TOKENS = 4, 10_000  # bytes of UTF-8; what a chat template adds
_SOON_SECONDS = 1.0
"""The release of a reader is delayed by up to so long, to report also whether the model was killed."""


@dataclass
class _Answer:
    """The state of an answer that the process has not ended yet."""

    time_limit: float | None
    unread: float
    """An upper estimate of the prompt tokens to prefill before the next event."""
    max_unread: int
    """An upper bound on the prompt's tokens, whatever the process reports."""
    due: float | None = None
    """When it must have ended; None: not known yet."""
    reason: FinishReason = "timeout"
    is_queued: bool = False
    is_cancelled: bool = False
    """The process was told to end it."""
    is_released: bool = False
    """Its reader no longer waits."""
    prefilled_at: float | None = None
    """When the last prefill chunk was reported."""
    has_text: bool = False
    disobeys_since: float | None = None
    """When its first event after its end was due came."""
    last_event_at: float = 0.0


class Watchdog:
    """Watches one process, from its own thread, which sleeps until an answer is overdue. Thread-safe.

    The reader of an overdue answer is always released. The process is killed if it has made no progress for the grace period
    plus the time that it may need to prefill the rest of a prompt, which some models do in one piece. Only a completed chunk
    counts as progress; a thread of the process that responds does not. The process is also killed if an overdue answer
    continues, once no other answer runs in it.
    """

    def __init__(
        self, grace: float, release: Callable[[int, FinishReason, bool], None], kill: Callable[[], None], name: str
    ) -> None:
        """Start watching.

        Args:
            grace: Seconds that an answer may take to end after it was cancelled or timed out.
            release: Ends an overdue answer for its reader; gets its number, the finish reason, and whether the process is killed.
            kill: Kills the process.
            name: The model's name in the log.
        """
        self._grace, self._release, self._kill, self._name = grace, release, kill, name
        self._settle = grace / 10  # events sent before the cancellation arrive within this time
        self._changed = threading.Condition()
        self._answers: dict[int, _Answer] = {}
        self._last_event_at = time.monotonic()
        self._pace = 0.0  # seconds per prompt token, with tolerance; 0: unknown
        self._is_ready = self._has_ended = False
        threading.Thread(target=self._watch, name=f"watchdog-{name}", daemon=True).start()

    def add(self, number: int, request: ChatRequest) -> None:
        """Watch an answer that was requested."""
        chars = len(request.prefix) + sum(len(message.content) for message in request.messages)
        with self._changed:
            if not self._answers:
                self._last_event_at = time.monotonic()  # an idle process sends no events
            max_unread = _MAX_TOKENS_PER_CHAR * chars + _MAX_TEMPLATE_TOKENS
            answer = self._answers[number] = _Answer(request.time_limit, chars / _CHARS_PER_TOKEN, max_unread)
            self._start_clock(answer)
            self._changed.notify()

    def expect_end(self, number: int) -> None:
        """Expect the end of an answer that the process was told to cancel."""
        with self._changed:
            if (answer := self._answers.get(number)) and not answer.is_cancelled:
                answer.is_cancelled = True
                self._start_clock(answer)
                self._changed.notify()

    def set_ready(self) -> None:
        """Start all time limits: the model is loaded."""
        with self._changed:
            self._is_ready = True
            self._last_event_at = time.monotonic()
            for answer in self._answers.values():
                self._start_clock(answer)
            self._changed.notify()

    def record_event(self, number: int, event: HostEvent) -> None:
        """Record an event of the process as progress. Called for every token, so it takes no lock in the common case."""
        answer = self._answers.get(number)
        if answer is None:
            return
        self._last_event_at = answer.last_event_at = now = time.monotonic()
        if answer.disobeys_since is None and answer.due is not None and now > answer.due - self._grace + self._settle:
            answer.disobeys_since = now
        if isinstance(event, TextDelta):
            answer.unread, answer.has_text = 0, True
        elif isinstance(event, PrefillProgress):
            unread = min(max(event.total - event.processed, 0), answer.max_unread)
            if answer.prefilled_at is not None and unread < answer.unread:
                pace = (now - answer.prefilled_at) / (answer.unread - unread)
                self._pace = max(self._pace, min(_PACE_TOLERANCE * pace, _MAX_PACE))
            answer.unread, answer.prefilled_at = unread, now
        elif isinstance(event, ContextUsage):
            answer.unread = min(event.prompt_tokens, answer.max_unread)
        is_queued = isinstance(event, QueuePosition) and not answer.has_text and len(self._answers) > 1
        if answer.is_queued != is_queued:
            with self._changed:
                answer.is_queued = is_queued
                if not answer.is_cancelled:
                    answer.due = None
                    self._start_clock(answer)
                self._changed.notify()

    def end_answer(self, number: int) -> None:
        """Stop watching an answer that the process has ended."""
        with self._changed:
            self._answers.pop(number, None)
            if any(answer.is_released for answer in self._answers.values()):
                self._changed.notify()  # an overdue answer may now be the only one

    def overdue_reason(self, number: int) -> FinishReason | None:
        """Return why the process should have ended an answer; None if it should not have."""
        with self._changed:
            answer = self._answers.get(number)
            if answer is None or not (
                answer.is_cancelled or (answer.due is not None and answer.due <= time.monotonic())
            ):
                return None
            return answer.reason

    def close(self) -> None:
        """Stop watching: the process has ended."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def await_progress(self, interval: float) -> bool:
        """Return whether the process makes progress, as soon as that is known. It then sends an event every `interval` seconds."""
        with self._changed:
            while not self._has_ended:
                now = time.monotonic()
                silent = now - self._last_event_at
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
        if answer.is_cancelled:
            answer.due, answer.reason = now + self._grace, "cancelled"
        elif not answer.is_queued and answer.time_limit is not None:
            answer.due = now + answer.time_limit + self._grace

    def _patience(self) -> float:
        """Return the seconds without an event after which the process is considered hung."""
        unread = max((answer.unread for answer in self._answers.values()), default=0.0)
        return self._grace + unread * (self._pace or _SECONDS_PER_PROMPT_TOKEN)

    def _disobeys(self, overdue: list[_Answer]) -> bool:
        """Return whether the process continues an overdue answer, and no others. One step may be in progress when it is cancelled."""
        return len(overdue) == len(self._answers) and any(
            answer.disobeys_since is not None and answer.last_event_at >= answer.disobeys_since + self._settle
            for answer in overdue
        )

    def _watch(self) -> None:
        with self._changed:
            while not self._has_ended:
                now = time.monotonic()
                hangs_at = self._last_event_at + self._patience()
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
                    silent = f"made no progress for {now - self._last_event_at:.1f} s and ignores cancellation"
                    what = silent if hangs else "continues a cancelled answer"
                    logger.error("%s %s: killing its process", self._name, what)
                    self._kill()
                    return
                self._changed.wait(min(wake_at) - now if wake_at else None)
