"""Charts: round ticks with headroom, proportional bars, and every value as text for screen readers."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.ui.render.charts import Bar, BarChart, Series, axis_ticks, render_bar_chart, render_measures
from tests.support.html import ParsedPage

_A, _B = Series("a", "--series-1"), Series("b", "--series-2")


@given(st.floats(0, 1e12), st.booleans())
def test_ticks_are_few_even_and_leave_headroom(maximum: float, is_whole: bool) -> None:
    ticks = axis_ticks(maximum, is_whole)

    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] > maximum
    steps = [after - before for before, after in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert not is_whole or all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize(
    ("maximum", "ticks"), [(0.34, [0, 0.1, 0.2, 0.3, 0.4]), (190, [0, 50, 100, 150, 200]), (1, [0, 1, 2])]
)
def test_ticks_are_round(maximum: float, ticks: list[float]) -> None:
    assert axis_ticks(maximum, whole=maximum >= 1) == pytest.approx(ticks)


def test_bars_are_stacked_in_proportion_and_their_values_can_be_read() -> None:
    bars = [Bar("1", {_A: 50, _B: 100}), Bar("2", {_B: 190}), Bar("3", {}, "the third")]
    html = render_bar_chart("en", BarChart("Tokens by answer", "Answer", "Tokens", bars))

    assert re.findall(r"height: (\S+); background: var\((\S+)\)", html) == [
        ("25.00%", "--series-1"),
        ("50.00%", "--series-2"),
        ("95.00%", "--series-2"),
    ]
    page = ParsedPage(html, "span", "figcaption")
    assert page.texts("figcaption") == ["Tokens by answer"]
    labels = page.texts("span")
    assert labels[:6] == ["Tokens", "0", "50", "100", "150", "200"]
    assert labels[6:10] == ["1", "2", "3", "Answer"]
    assert page.texts("th") == ["Answer", "a", "b", "1", "2", "the third"]
    rows = re.findall(r"<td>(.*?)</td>", html)
    assert [re.sub(r"<[^>]*>", "", cell) for cell in rows] == ["50", "100", "—", "190", "—", "—"]


def test_numbers_follow_the_language_and_labels_do_not_overlap() -> None:
    bars = [Bar(str(number), {_A: 1000.5 * number}) for number in range(1, 21)]
    html = render_bar_chart("ro", BarChart("t", "x", "y", bars, decimals=1))

    page = ParsedPage(html, "span", "figcaption")
    assert [text for text in page.texts("span") if text][-8:-1] == ["1", "4", "7", "10", "13", "16", "19"]
    assert "20.010,0" in page.texts("td")


def test_without_known_values_there_is_no_chart() -> None:
    assert render_bar_chart("en", BarChart("t", "x", "y", [Bar("1", {})])) == ""
    assert render_measures("en", "t", []) == ""


def test_measures_are_as_long_as_their_values() -> None:
    html = render_measures("en", "Speed", [(_A, 50, "50.0 tokens/s"), (_B, 25, "25.0 tokens/s")])

    assert re.findall(r"width: (\S+); background: var\((\S+)\)", html) == [
        ("100.00%", "--series-1"),
        ("50.00%", "--series-2"),
    ]
    assert ParsedPage(html, "figcaption", "span", "b").texts("span", "b") == [
        "a",
        "50.0 tokens/s",
        "",
        "b",
        "25.0 tokens/s",
        "",
    ]


def test_a_single_value_has_no_bar() -> None:
    html = render_measures("en", "Speed", [(_A, 50, "50.0 tokens/s")])
    assert "50.0 tokens/s" in html
    assert "track" not in html
