"""Limits per user: questions per minute, concurrent answers, tokens per day."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from phi3_ui.errors import UserError
from phi3_ui.settings import Settings

_USERS_PER_ADDRESS = 4
"""Visitors with the same address, such as a household or a class behind one router, share the limits of this many users."""

_Key = tuple[str, str]


@dataclass(frozen=True)
class Person:
    """The user whose usage is counted."""

    user_id: str
    address: str = ""
    """The address of a visitor without login, who may clear the browser's storage; empty: not counted."""

    def find_keys(self) -> Iterator[tuple[_Key, int]]:
        """Yield the keys under which usage is counted, each with the number of users that share it."""
        yield ("user", self.user_id), 1
        if self.address:
            yield ("address", self.address), _USERS_PER_ADDRESS


class Quotas:
    """Counts usage, in memory; a limit of 0 means no limit. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._questions = settings.questions_per_minute
        self._answers = settings.answers_at_once
        self._tokens = settings.tokens_per_day
        storage = MemoryStorage()
        self._question_limiter, self._token_limiter = MovingWindowRateLimiter(storage), FixedWindowRateLimiter(storage)
        self._lock = threading.Lock()
        self._running = Counter[_Key]()

    def claim(self, person: Person, counts_question: bool = True) -> None:
        """Count an answer that starts; `release` must follow. Without `counts_question`, as in a replay, its question is not limited.

        Raises:
            UserError: too_many_answers, tokens_used_up, too_many_questions. Nothing is counted in that case.
        """
        with self._lock:
            keys = list(person.find_keys())
            self._check(keys, counts_question)
            if counts_question and self._questions:
                for key, users in keys:
                    self._question_limiter.hit(RateLimitItemPerMinute(self._questions * users), *key)
            self._running.update(key for key, _ in keys)

    def check(self, person: Person) -> None:
        """Raise the UserError that `claim` would raise for a question now, without counting anything."""
        with self._lock:
            self._check(list(person.find_keys()), counts_question=True)

    def release(self, person: Person, tokens: int = 0) -> None:
        """Count the end of an answer that used this many tokens."""
        with self._lock:
            for key, users in person.find_keys():
                self._running[key] -= 1
                if self._running[key] <= 0:
                    del self._running[key]
                if self._tokens and tokens:
                    self._token_limiter.hit(RateLimitItemPerDay(self._tokens * users), *key, cost=tokens)

    def _check(self, keys: list[tuple[_Key, int]], counts_question: bool) -> None:
        if self._answers and any(self._running[key] >= self._answers * users for key, users in keys):
            raise UserError("too_many_answers", count=self._answers)
        self._test(self._token_limiter, keys, RateLimitItemPerDay, self._tokens, "tokens_used_up")
        if counts_question:
            self._test(self._question_limiter, keys, RateLimitItemPerMinute, self._questions, "too_many_questions")

    @staticmethod
    def _test(
        limiter: MovingWindowRateLimiter | FixedWindowRateLimiter,
        keys: list[tuple[_Key, int]],
        item: type[RateLimitItem],
        amount: int,
        code: str,
    ) -> None:
        if not amount:
            return
        limits = [(item(amount * users), key) for key, users in keys]
        resets = [
            limiter.get_window_stats(limit, *key).reset_time for limit, key in limits if not limiter.test(limit, *key)
        ]
        if resets:
            raise UserError(code, count=amount, seconds=max(1, math.ceil(max(resets) - time.time())))
