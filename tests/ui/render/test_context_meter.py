"""The context meter."""

from dataclasses import replace

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import ContextUsage, Usage
from phi3_ui.ui.render.context_meter import render_context_meter
from tests.support.cards import ENTRY

_DECLARED = replace(ENTRY, context_length=4096, degrades_after=2048)


def _answered(used: int, limit: int) -> Conversation:
    answer = Answer("m", "a", Usage(used - 5, 5), None, "stop", context=ContextUsage(used - 5, limit, 0))
    return Conversation().with_question("one").with_answer(answer)


def test_meter_shows_the_limit_before_the_first_answer() -> None:
    assert "<span>up to 4,096 tokens</span>" in render_context_meter("en", _DECLARED, Conversation())


def test_meter_shows_what_the_last_answer_used() -> None:
    meter = render_context_meter("en", _DECLARED, _answered(612, 4096))

    assert "<span>612 of 4,096 tokens</span>" in meter
    assert 'value="612"' in meter
    assert "612 din 4.096 de tokeni" in render_context_meter("ro", _DECLARED, _answered(612, 4096))


def test_meter_warns_where_answers_degrade() -> None:
    meter = render_context_meter("en", _DECLARED, _answered(2100, 4096))

    assert "2,100 of 4,096 tokens" in meter
    assert "may get worse beyond 2,048 tokens" in meter


def test_meter_without_a_limit_keeps_its_place() -> None:
    assert render_context_meter("en", None, Conversation()) == '<p class="phi3-context"></p>'
    assert "does not declare" in render_context_meter("en", ENTRY, Conversation())
