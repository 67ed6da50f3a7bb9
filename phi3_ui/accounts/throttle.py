"""Rate limits and lockout for failed logins."""

import hashlib
import math
import threading
import time

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

# The longer the window, the longer the wait: repeated failures back off and finally lock out.
_PER_NAME_AND_ADDRESS = parse_many("5 per minute; 10 per 15 minutes; 20 per day")
_PER_ADDRESS = parse_many("60 per 15 minutes; 200 per day")
_PER_NAME = parse_many("100 per hour")  # from any number of addresses


class LoginThrottle:
    """Counts attempts to log in by name and address. Thread-safe."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()

    def claim_attempt(self, name: str, address: str) -> int:
        """Count an attempt before its password is checked. Return 0, or the seconds to wait if it is one too many."""
        keys = _keys(name, address)
        with self._lock:
            refused = [(limit, key) for limit, key in keys if not self._limiter.test(limit, *key)]
            if not refused:
                for limit, key in keys:
                    self._limiter.hit(limit, *key)
        waits = [self._limiter.get_window_stats(limit, *key).reset_time - time.time() for limit, key in refused]
        return max((math.ceil(max(wait, 1)) for wait in waits), default=0)

    def clear_attempts(self, name: str, address: str) -> None:
        """Forget the attempts of an address on an account after a successful one."""
        for limit in _PER_NAME_AND_ADDRESS:
            self._limiter.clear(limit, "pair", _digest(name), address)


def _keys(name: str, address: str) -> list[tuple[RateLimitItem, tuple[str, ...]]]:
    name = _digest(name)
    return [
        *((limit, ("pair", name, address)) for limit in _PER_NAME_AND_ADDRESS),
        *((limit, ("address", address)) for limit in _PER_ADDRESS),
        *((limit, ("name", name)) for limit in _PER_NAME),
    ]


def _digest(name: str) -> str:
    """Return what is stored of a name, for up to a day: anyone may send a name of any length."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
