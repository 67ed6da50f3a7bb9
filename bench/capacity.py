"""Compare the simulation of concurrent users (simulation.py) with as many threads that query the model on the same machine."""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

from bench.concurrency import compute_concurrent_rates
from bench.long_chats import make_question
from bench.rows import Bench, Row, TimedAnswer, ask_model
from bench.simulation import Machine, Usage, simulate
from phi3_ui.chat.types import Message
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.host.worker import load_adapter

_CALIBRATED = (1, 4, 24)
"""Numbers of concurrent users for fitting the costs of a step; other numbers are simulated."""
_SIMULATED = (8, 50)
_TOKENS = 100


def measure_rows(bench: Bench) -> Iterator[Row]:
    """Measure CPU time in a separate process on one core, because the simulation has a single engine and no other load."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        pairs = process.submit(_measure, bench.spec("prompt"), bench.rounds).result()
    for (users, what), round_pairs in pairs.items():
        value = statistics.median(simulated / measured for simulated, measured in round_pairs)
        medians = [statistics.median(side) for side in zip(*round_pairs, strict=True)]
        detail = f"{medians[0]:.3g} and {medians[1]:.3g} {'s' if 'first' in what else 'tokens/s'}"
        name = f"simulated ÷ measured, {users} concurrent users: {what}"
        yield Row(name, f"{value:.2f} ({detail})", "0.8 to 1.25", 0.8 <= value <= 1.25)


def _measure(spec: ModelSpec, rounds: int) -> dict[tuple[int, str], list[tuple[float, float]]]:
    """Return the simulated and the measured value of each round, by number of users and metric.

    Each round first measures the costs of steps, and then the values that they should predict.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before the engine chooses its number of threads
    adapter = load_adapter(spec)
    _ask_one(adapter, Message("user", "Hello."), 16)
    pairs = dict[tuple[int, str], list[tuple[float, float]]]()
    for number in range(rounds):
        machine = calibrate(adapter, f"Round {number}")
        print(machine, file=sys.stderr, flush=True)
        for users in _SIMULATED:
            answers = _ask_together(adapter, _make_questions(f"Round {number} of {users}", users))
            outcome = simulate(users, Usage(_median_prompt(answers), _TOKENS, 0, 0.0), machine, limit=users)
            rate, first = sum(compute_concurrent_rates(answers)), max(answer.first for answer in answers)
            pairs.setdefault((users, "tokens/s"), []).append((outcome.total_rate, rate))
            pairs.setdefault((users, "slowest time to first token"), []).append((outcome.first_token_times[-1], first))
    return pairs


def _ask_one(adapter: Any, message: Message, tokens: int) -> TimedAnswer:
    return ask_model(adapter, [message], tokens, clock=time.process_time)


def _ask_together(adapter: Any, messages: list[Message]) -> list[TimedAnswer]:
    with ThreadPoolExecutor(len(messages)) as threads:
        return list(threads.map(lambda message: _ask_one(adapter, message, _TOKENS), messages))


def calibrate(adapter: Any, name: str) -> Machine:
    """Measure the current costs of steps and prefill chunks on this machine."""
    equations, seconds = list[tuple[float, float, float]](), list[float]()
    for users in _CALIBRATED:
        _add_equation(equations, seconds, _ask_together(adapter, _make_questions(f"{name} with {users}", users)))
    long = [
        Message("user", " ".join(make_question(f"{name} {user}", part).content for part in range(3)))
        for user in range(4)
    ]
    for message in long:
        _ask_one(adapter, message, 1)  # prefilled, so that all decode at the same time
    _add_equation(equations, seconds, _ask_together(adapter, long))
    step, row, context = (float(found) for found in np.linalg.lstsq(np.array(equations), np.array(seconds))[0])
    sequential = [_ask_one(adapter, message, 1) for message in _make_questions(f"{name} alone", 4)]
    # A prefill chunk is a step with more tokens; a prompt this short is a single chunk.
    token = (statistics.median(answer.first for answer in sequential) - step) / _median_prompt(sequential)
    return Machine(step, row, max(0.0, context), step, token)


def _add_equation(
    equations: list[tuple[float, float, float]], seconds: list[float], answers: list[TimedAnswer]
) -> None:
    """Add the equation `1 · step + users · row + total context tokens · context = seconds` of a decode step of these answers."""
    length = _median_prompt(answers) + _TOKENS / 2
    equations.append((1.0, float(len(answers)), len(answers) * length))
    seconds.append(1 / statistics.mean(compute_concurrent_rates(answers)))


def _make_questions(name: str, count: int) -> list[Message]:
    return [Message("user", f"{name}, number {number}: write a long story about the sea.") for number in range(count)]


def _median_prompt(answers: list[TimedAnswer]) -> int:
    return round(statistics.median(answer.usage.prompt_tokens for answer in answers))
