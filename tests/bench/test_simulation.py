"""The simulation of docs/capacity.md compared with values computed by hand."""

import statistics

import pytest

from bench.simulation import Machine, Usage, find_max_users, simulate

MACHINE = Machine(step=0.01, row=0.002, context=0.0, chunk=0.005, token=0.001)
AT_ONCE = Usage(prompt=50, answer=100, history=0, think=0.0)


def test_one_person_waits_for_the_prompt_and_gets_a_token_in_each_step() -> None:
    found = simulate(1, AT_ONCE, MACHINE)
    assert found.first_token_times == pytest.approx([0.005 + 50 * 0.001])
    assert found.rates == pytest.approx([1 / 0.012])
    assert found.busy == pytest.approx(1)


@pytest.mark.parametrize("users", [2, 8, 50])
def test_people_who_ask_at_once_share_the_steps(users: int) -> None:
    found = simulate(users, AT_ONCE, MACHINE, limit=64)
    assert found.total_rate == pytest.approx(users / (0.01 + users * 0.002), rel=0.03)
    assert len(found.first_token_times) == users
    # All prompts are read, in pieces between the steps of those whose prompts are.
    assert users * 0.055 <= found.first_token_times[-1] <= users * (0.055 + 2 * 0.01 + 2 * 0.005) + users**2 * 0.002


def test_more_than_a_step_holds_wait_and_more_than_the_limit_are_refused() -> None:
    found = simulate(70, AT_ONCE, MACHINE, limit=66)
    assert found.rejected == 4
    assert len(found.first_token_times) == 66
    ready, late = found.first_token_times[63], found.first_token_times[64]
    assert late - ready > 0.5 * 100 * (0.01 + 64 * 0.002) * 0.5, "the last two wait for the end of an answer"


def test_as_many_are_in_the_system_as_arrive_in_the_time_that_they_stay() -> None:
    """Check Little's law, based on the share of time in which each user waits."""
    usage = Usage(prompt=10, answer=50, history=0, think=5.0)
    found = simulate(20, usage, MACHINE, limit=64, seconds=2000)
    stay = statistics.mean(found.first_token_times) + statistics.mean(50 / rate for rate in found.rates)
    answers = len(found.first_token_times) / (0.75 * 2000)
    assert answers == pytest.approx(20 / (stay + 5.0), rel=0.1)


def test_more_servers_and_faster_ones_serve_more() -> None:
    usage = Usage(think=10.0)
    slow = [simulate(100, usage, MACHINE, servers, 64, 300).slow_rate for servers in (1, 2, 4)]
    assert slow == sorted(slow)
    slower, slowest = Machine(0.03, 0.006, 0.0, 0.015, 0.003), Machine(0.05, 0.01, 0.0, 0.025, 0.005)
    assert 1 < find_max_users(usage, slowest) < find_max_users(usage, slower)


def test_the_same_people_are_simulated_again() -> None:
    usage = Usage(think=10.0)
    assert simulate(30, usage, MACHINE, seconds=200) == simulate(30, usage, MACHINE, seconds=200)
    assert simulate(30, usage, MACHINE, seconds=200) != simulate(31, usage, MACHINE, seconds=200)
