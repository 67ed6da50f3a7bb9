"""The context meter."""

import html
import json
import re
from dataclasses import replace

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.draft import ContextFill
from phi3_ui.ui.render.context_meter import describe_files, render_context_meter
from tests.support.cards import ENTRY

_DECLARED = replace(ENTRY, context_length=4096, degrades_after=2048)
_ANSWERED = Conversation().with_question("one").with_answer(Answer("m", "a"))


def test_meter_shows_and_explains_the_counts_beside_a_ring() -> None:
    meter = render_context_meter("en", _DECLARED, ContextFill(612, 4096), _ANSWERED)

    assert "<span>612 / 4,096</span>" in meter
    assert 'aria-valuenow="612"' in meter
    assert 'aria-valuetext="612 of 4,096 tokens"' in meter
    assert 'stroke-dasharray="14.9 100"' in meter
    assert 'stroke-dashoffset="-50.0"' in meter, "the mark where answers degrade"
    romanian = render_context_meter("ro", _DECLARED, ContextFill(612, 4096), _ANSWERED)
    assert "612 din 4.096 de tokeni" in romanian
    assert "<span>612 / 4.096</span>" in romanian
    assert "<span>0 / 4,096</span>" in render_context_meter("en", _DECLARED, ContextFill(0, 4096), Conversation())


def test_an_estimate_is_marked() -> None:
    meter = render_context_meter("en", _DECLARED, ContextFill(612, 4096, is_exact=False), _ANSWERED)

    assert "<span>≈ 612 / 4,096</span>" in meter
    assert "about 612 of 4,096 tokens" in meter


def test_meter_warns_where_answers_degrade_and_where_turns_are_left_out() -> None:
    degrading = render_context_meter("en", _DECLARED, ContextFill(2100, 4096), _ANSWERED)
    assert "2,100 / 4,096" in degrading
    assert "may get worse beyond 2,048 tokens" in degrading
    assert 'data-level="warn"' in degrading

    full = render_context_meter("en", _DECLARED, ContextFill(5000, 4096), _ANSWERED)
    assert "5,000 / 4,096" in full
    assert "the oldest turns are left out" in full
    assert 'stroke-dasharray="100.0 100"' in full

    too_long = render_context_meter("en", _DECLARED, ContextFill(5000, 4096), Conversation())
    assert "longer than the model&#39;s context" in too_long
    assert 'data-level="bad"' in too_long


def test_files_have_their_counts_and_the_reason_for_a_refusal() -> None:
    fill = ContextFill(5000, 4096, file_tokens=(1, 4900))

    files = describe_files("en", fill, [("1", "a.md"), ("2", '<b>".md'), ("3", "c")])
    meter = render_context_meter("en", _DECLARED, fill, Conversation(), files)

    (data,) = re.findall(r'data-files="([^"]*)"', meter)
    assert json.loads(html.unescape(data)) == [
        {"id": "1", "label": "1 token", "refusal": ""},
        {
            "id": "2",
            "label": "4,900 tokens",
            "refusal": "<b>\".md has 4,900 tokens, but the model's context holds 4,096. Attach part of it.",
        },
        {"id": "3", "label": "", "refusal": ""},
    ]


def test_meter_without_a_limit_explains_it() -> None:
    assert "phi3-meter" not in render_context_meter("en", None, ContextFill(0, None), Conversation())
    assert "does not declare" in render_context_meter("en", ENTRY, ContextFill(0, None), Conversation())
