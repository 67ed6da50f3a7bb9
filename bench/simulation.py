"""Simulation of a model with many users: its queue and batched steps, based on measured step times.

`python -m bench.simulation` prints the tables of docs/capacity.md. The simulated scheduler is models/phi3_onnx_engine/scheduler.py:
each step decodes a token for every answer, then prefills segments of a chunk of the prompt with the fewest remaining tokens.
"""

import argparse
import random
import statistics
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import simpy

from models.phi3_onnx_engine.pace import PREFILL_CHUNK, Pace
from models.phi3_onnx_engine.segments import MAX_SEGMENTS

_ROWS = 64  # answers decoded in one step
_WARM_UP = 0.25  # initial share of a simulation that is discarded
# A chunk's tokens share the loading of keys and values, so context costs each of them this fraction of a decode step's cost.
_CHUNK_CONTEXT_SHARE = 0.1


@dataclass(frozen=True)
class Machine:
    """The cost model of a model on a machine. All values are in seconds."""

    step: float
    """Fixed cost of a decode step."""
    row: float
    """Cost per answer in a step."""
    context: float
    """Cost per token of context of each answer."""
    chunk: float
    """Fixed cost of a prefill chunk."""
    token: float
    """Cost per token of a prefill chunk."""

    def decode(self, contexts: Iterable[int]) -> float:
        """Return the seconds for a decode step of answers with these context lengths, in tokens."""
        found = list(contexts)
        return self.step + self.row * len(found) + self.context * sum(found)

    def prefill(self, tokens: int, context: int) -> float:
        """Return the seconds for a chunk of `tokens` after `context` tokens, to which each of its tokens attends."""
        return self.chunk + tokens * (self.token + _CHUNK_CONTEXT_SHARE * self.context * context)


MEASURED = Machine(step=0.0074, row=0.00247, context=4.3e-6, chunk=0.0074, token=0.0007)
"""The demo model on one core with AVX-512 VNNI (`python -m bench --only capacity`, 2026-11-28)."""

_TWO_CORES = 1.4  # throughput for 8 users relative to one core: 366 and 262 tokens/s


@dataclass(frozen=True)
class Usage:
    """The behaviour of each user, who asks, waits for the answer, and thinks, in a loop."""

    prompt: int = 60
    """Tokens of a question; the chat's earlier tokens are in the KV cache."""
    answer: int = 150
    """Tokens of an answer, on average; exactly, if `think` is 0."""
    history: int = 400
    """Tokens before the question, on average."""
    think: float = 60.0
    """Mean seconds between an answer and the next question, exponentially distributed; 0: all users ask once, at the same time."""


@dataclass(eq=False)
class _Answer:
    wanted: int
    prompt: int
    context: int
    asked_at: float
    done: simpy.Event
    generated: int = 0
    chunk: int = 0
    """Tokens of the current prefill chunk."""
    segments: int = 0
    """Segments of this chunk that remain."""
    times: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.context + self.generated


@dataclass(frozen=True)
class Outcome:
    """The results of a simulation."""

    first_token_times: tuple[float, ...]
    """Seconds to the first token, sorted."""
    rates: tuple[float, ...]
    """Tokens per second of each answer from its first to its last token, sorted."""
    total_rate: float
    """Total tokens per second while all answers were decoding; 0 if there is no such interval."""
    rejected: int
    busy: float
    """Utilization: the share of time in which the model was computing."""

    def first_token_quantile(self, share: float) -> float:
        """Return a quantile of the times to first token, in seconds; `share` is 0.95 for the 95th percentile."""
        return self.first_token_times[min(len(self.first_token_times) - 1, int(share * len(self.first_token_times)))]

    @property
    def slow_rate(self) -> float:
        """The 5th percentile of the rates: 95 % of the answers were at least this fast."""
        return self.rates[int(0.05 * len(self.rates))]


class _Server:
    """One model in its process."""

    def __init__(self, env: simpy.Environment, machine: Machine, limit: int) -> None:
        self._env, self._machine, self._limit = env, machine, limit
        self._pace = Pace(PREFILL_CHUNK, MAX_SEGMENTS)
        self.waiting: list[_Answer] = []
        self.running: list[_Answer] = []
        self.rejected = 0
        self.busy = 0.0
        self._wake = env.event()
        env.process(self._serve())

    def try_ask(self, answer: _Answer) -> bool:
        if len(self.waiting) + len(self.running) >= self._limit:
            self.rejected += 1
            return False
        self.waiting.append(answer)
        if not self._wake.triggered:
            self._wake.succeed()
        return True

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        while True:
            if not self.waiting and not self.running:
                self._wake = self._env.event()
                yield self._wake
            decoding = [one for one in self.running if not one.prompt]
            while self.waiting and len(self.running) < _ROWS:
                self.running.append(self.waiting.pop(0))
            if decoding:
                seconds = self._machine.decode(one.length for one in decoding)
                yield self._spend(seconds)
                self._pace.record_decode(seconds)
                for one in decoding:
                    self._add_token(one)
            prefilling = [one for one in self.running if one.prompt]
            if prefilling:
                one = min(prefilling, key=lambda one: one.prompt)
                yield from self._prefill(one, is_shared=bool(decoding))

    def _prefill(self, one: _Answer, is_shared: bool) -> Generator[simpy.Event, Any, None]:
        """Compute segments of a chunk in the same way as Scheduler."""
        if not one.segments:
            one.chunk, one.segments = min(one.prompt, self._pace.choose_chunk_size(is_shared)), MAX_SEGMENTS
        seconds, done = self._machine.prefill(one.chunk, one.context) / MAX_SEGMENTS, 0
        while one.segments and not (done and is_shared and not self._pace.has_time(seconds * done, done)):
            yield self._spend(seconds)
            one.segments, done = one.segments - 1, done + 1
        if one.segments:
            return
        self._pace.record_prefill(one.chunk, seconds * MAX_SEGMENTS)
        one.prompt, one.context = one.prompt - one.chunk, one.context + one.chunk
        if not one.prompt:
            self._add_token(one)

    def _spend(self, seconds: float) -> simpy.Event:
        self.busy += seconds
        return self._env.timeout(seconds)

    def _add_token(self, one: _Answer) -> None:
        one.generated += 1
        one.times.append(self._env.now)
        if one.generated == one.wanted:
            self.running.remove(one)
            one.done.succeed()


def simulate(
    users: int, usage: Usage, machine: Machine = MEASURED, servers: int = 1, limit: int = 32, seconds: float = 1200.0
) -> Outcome:
    """Simulate users on servers, to which a proxy assigns them at random.

    Args:
        users: Number of users.
        usage: Their behaviour.
        machine: The cost model of each server.
        servers: Number of servers.
        limit: PHI3_UI_MAX_ANSWERS of each server.
        seconds: Simulated time, whose first quarter is discarded. Ignored if `usage.think` is 0: the simulation then ends when
            all answers have.
    """
    env, chance = simpy.Environment(), random.Random(users)
    pool = [_Server(env, machine, limit) for _ in range(servers)]
    answers = list[_Answer]()

    def act_as_user(server: _Server) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(chance.random() * usage.think)
        while True:
            wanted = usage.answer if not usage.think else max(1, round(chance.expovariate(1 / usage.answer)))
            one = _Answer(wanted, usage.prompt, usage.history, env.now, env.event())
            if server.try_ask(one):
                answers.append(one)
                yield one.done
            if not usage.think:
                return
            yield env.timeout(chance.expovariate(1 / usage.think))

    for _ in range(users):
        env.process(act_as_user(chance.choice(pool)))
    env.run(until=seconds if usage.think else None)
    counted = [one for one in answers if one.times and (not usage.think or one.asked_at > _WARM_UP * seconds)]
    rates = [
        (len(one.times) - 1) / (one.times[-1] - one.times[0])
        for one in counted
        if one.done.triggered and len(one.times) > 1
    ]
    busy = sum(server.busy for server in pool) / (servers * env.now)
    first_token_times = sorted(one.times[0] - one.asked_at for one in counted)
    return Outcome(
        tuple(first_token_times),
        tuple(sorted(rates)),
        _compute_total_rate(counted),
        sum(server.rejected for server in pool),
        busy,
    )


def _compute_total_rate(answers: list[_Answer]) -> float:
    start, end = max(one.times[0] for one in answers), min(one.times[-1] for one in answers)
    if end <= start:
        return 0.0
    return sum(sum(start < at <= end for at in one.times) for one in answers) / (end - start)


def find_max_users(usage: Usage, machine: Machine = MEASURED, first: float = 2.0, rate: float = 10.0) -> int:
    """Find how many users one server can serve so that 95 % wait at most `first` seconds and get `rate` tokens per second, and none is rejected."""
    low, high = 0, 1
    while _is_served(high, usage, machine, first, rate):
        low, high = high, 2 * high
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if _is_served(middle, usage, machine, first, rate) else (low, middle)
    return low


def _is_served(users: int, usage: Usage, machine: Machine, first: float, rate: float) -> bool:
    found = simulate(users, usage, machine, limit=_ROWS)
    return not found.rejected and found.first_token_quantile(0.95) <= first and found.slow_rate >= rate


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate many users.")
    parser.add_argument(
        "--slower", type=float, default=1.0, help="factor by which each step takes longer than measured"
    )
    slower = parser.parse_args().slower
    one, two = _scale(slower), _scale(slower / _TWO_CORES)
    print(
        "| users | servers of 2 cores | time to first token: median, 95th percentile | tokens/s: median, 5th percentile | utilization | rejected |"
    )
    print("|---|---|---|---|---|---|")
    for users, servers in _TABLE:
        found = simulate(users, Usage(), two, servers, limit=_ROWS)
        rates = f"{statistics.median(found.rates):.0f}, {found.slow_rate:.0f}"
        waits = f"{found.first_token_quantile(0.5):.2f} s, {found.first_token_quantile(0.95):.2f} s"
        print(f"| {users:,} | {servers} | {waits} | {rates} | {found.busy:.0%} | {found.rejected} |")
    print("\n| usage | users per core |\n|---|---|")
    for name, usage in _USAGES.items():
        print(f"| {name} | {find_max_users(usage, one)} |")


_TABLE = [(1, 1), (8, 1), (25, 1), (50, 1), (75, 1), (100, 2), (250, 5), (500, 10), (1000, 15), (1000, 20)]
_USAGES = {
    "a question a minute, answers of 150 tokens in chats of 400": Usage(),
    "the same, chats of 2,000 tokens": Usage(history=2000),
    "the same, a new text of 500 tokens in each question": Usage(prompt=500),
    "the same, answers of 500 tokens": Usage(answer=500),
    "a question every 20 s": Usage(think=20),
    "a question every 5 minutes": Usage(think=300),
}


def _scale(slower: float) -> Machine:
    return Machine(*(slower * getattr(MEASURED, field.name) for field in fields(Machine)))


if __name__ == "__main__":
    main()
