"""The limits per user."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from phi3_ui.accounts.quotas import Person, Quotas
from phi3_ui.errors import UserError
from phi3_ui.settings import Settings

ANNA, BOB = Person("anna"), Person("bob")


def create(**limits: int) -> Quotas:
    return Quotas(Settings.read({f"PHI3_UI_{name.upper()}": str(value) for name, value in limits.items()}))


def refuse(quotas: Quotas, person: Person) -> str:
    with pytest.raises(UserError) as refused:
        quotas.claim(person)
    return refused.value.code


def test_without_limits_anybody_may_ask_anything() -> None:
    quotas = create()
    for _ in range(200):
        quotas.claim(ANNA)


def test_questions_of_a_minute_are_counted_and_the_refusal_says_when_to_come_back() -> None:
    quotas = create(questions_per_minute=3)
    for _ in range(3):
        quotas.claim(ANNA)
        quotas.release(ANNA)
    with pytest.raises(UserError) as refused:
        quotas.claim(ANNA)
    assert refused.value.code == "too_many_questions"
    assert 0 < int(refused.value.values["seconds"]) <= 60
    quotas.claim(BOB)
    quotas.claim(ANNA, counts_question=False)  # of a replay


def test_answers_at_once_are_counted_until_they_end() -> None:
    quotas = create(answers_at_once=2)
    quotas.claim(ANNA)
    quotas.claim(ANNA)
    assert refuse(quotas, ANNA) == "too_many_answers"
    quotas.claim(BOB)
    quotas.release(ANNA)
    quotas.claim(ANNA)


def test_tokens_of_a_day_are_counted_once_they_are_known() -> None:
    quotas = create(tokens_per_day=100)
    quotas.claim(ANNA)
    quotas.release(ANNA, 99)
    quotas.claim(ANNA)
    quotas.release(ANNA, 50)
    assert refuse(quotas, ANNA) == "tokens_used_up"
    quotas.claim(BOB)


def test_a_visitor_who_becomes_another_one_is_counted_by_address() -> None:
    quotas = create(questions_per_minute=1)
    for number in range(4):
        quotas.claim(Person(f"visitor {number}", "203.0.113.7"))
    assert refuse(quotas, Person("visitor 5", "203.0.113.7")) == "too_many_questions"
    quotas.claim(Person("visitor 5", "203.0.113.8"))


def test_a_refused_question_counts_nothing() -> None:
    quotas = create(questions_per_minute=2, answers_at_once=1)
    quotas.claim(ANNA)
    for _ in range(5):
        assert refuse(quotas, ANNA) == "too_many_answers"
    quotas.release(ANNA)
    quotas.claim(ANNA)


def test_claims_at_the_same_time_are_counted_one_by_one() -> None:
    quotas = create(answers_at_once=5)

    def claim(_: int) -> bool:
        try:
            quotas.claim(ANNA)
        except UserError:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(claim, range(200))) == 5
