"""Filter literals against MLflow's own parser, and pagination."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.search_utils import SearchTraceUtils

from phi3_ui.store.query import metadata_filter, paginate, quote

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)


@given(_TEXT, _TEXT)
@example("\\", ";")
def test_mlflow_parses_a_filter_to_the_quoted_values(visitor: str, session: str) -> None:
    values = {"mlflow.trace.user": visitor, "mlflow.trace.session": session}
    try:
        query = metadata_filter(values)
    except ValueError:
        assert any(("'" in value and '"' in value) or value.endswith("\\") for value in values.values())
        return
    parsed = SearchTraceUtils.parse_search_filter_for_search_traces(query)
    assert [(clause["key"], clause["comparator"], clause["value"]) for clause in parsed] == [
        (key, "=", value) for key, value in values.items()
    ]


@pytest.mark.parametrize("value", ['it\'s a "name"', "name\\"])
def test_a_value_that_no_literal_can_hold_is_rejected(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be quoted"):
        quote(value)


def test_pages_are_requested_as_they_are_consumed() -> None:
    requested: list[str | None] = []

    def search(query: str, page_token: str | None) -> PagedList[Any]:
        assert query == "q"
        requested.append(page_token)
        return PagedList([len(requested)] * 2, None if page_token == "b" else "a" if page_token is None else "b")

    results = paginate(search, query="q")
    assert next(results) == 1
    assert requested == [None]
    assert list(results) == [1, 2, 2, 3, 3]
    assert requested == [None, "a", "b"]
