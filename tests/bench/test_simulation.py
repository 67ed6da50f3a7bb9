"""The simulation behind docs/capacity.md, compared with values computed by hand."""

import statistics

import pytest

from bench.simulation import Machine, Usage, find_max_users, simulate

MACHINE = Machine(step=0.01, row=0.002, context=0.0, chunk=0.005, token=0.001)
NO_THINK_TIME = Usage(prompt=50, answer=100, history=0, think=0.0)


def test_a_single_user_waits_for_the_prefill_and_gets_a_token_in_each_step() -> None:
    result = simulate(1, NO_THINK_TIME, MACHINE)
    assert result.first_token_times == pytest.approx([0.005 + 50 * 0.001])
    assert result.rates == pytest.approx([1 / 0.012])
    assert result.busy == pytest.approx(1)


@pytest.mark.parametrize("users", [2, 8, 50])
def test_concurrent_users_share_the_steps(users: int) -> None:
    result = simulate(users, NO_THINK_TIME, MACHINE, limit=64)
    assert result.total_rate == pytest.approx(users / (0.01 + users * 0.002), rel=0.03)
    assert len(result.first_token_times) == users
    # All prompts are prefilled in chunks, between the decode steps of the answers that are already running.
    assert users * 0.055 <= result.first_token_times[-1] <= users * (0.055 + 2 * 0.01 + 2 * 0.005) + users**2 * 0.002


def test_requests_beyond_the_batch_wait_and_those_beyond_the_limit_are_rejected() -> None:
    result = simulate(70, NO_THINK_TIME, MACHINE, limit=66)
    assert result.rejected == 4
    assert len(result.first_token_times) == 66
    ready, late = result.first_token_times[63], result.first_token_times[64]
    assert late - ready > 0.5 * 100 * (0.01 + 64 * 0.002) * 0.5, "the last two must wait until an answer ends"


def test_the_simulation_obeys_littles_law() -> None:
    """Throughput is the number of users divided by the sum of response time and think time."""
    usage = Usage(prompt=10, answer=50, history=0, think=5.0)
    result = simulate(20, usage, MACHINE, limit=64, seconds=2000)
    stay = statistics.mean(result.first_token_times) + statistics.mean(50 / rate for rate in result.rates)
    answers = len(result.first_token_times) / (0.75 * 2000)
    assert answers == pytest.approx(20 / (stay + 5.0), rel=0.1)


def test_more_and_faster_servers_serve_more_users() -> None:
    usage = Usage(think=10.0)
    slow = [simulate(100, usage, MACHINE, servers, 64, 300).slow_rate for servers in (1, 2, 4)]
    assert slow == sorted(slow)
    slower, slowest = Machine(0.03, 0.006, 0.0, 0.015, 0.003), Machine(0.05, 0.01, 0.0, 0.025, 0.005)
    assert 1 < find_max_users(usage, slowest) < find_max_users(usage, slower)


def test_the_simulation_is_repeatable() -> None:
    usage = Usage(think=10.0)
    assert simulate(30, usage, MACHINE, seconds=200) == simulate(30, usage, MACHINE, seconds=200)
    assert simulate(30, usage, MACHINE, seconds=200) != simulate(31, usage, MACHINE, seconds=200)
