"""Filter literals against MLflow's own parser, and pagination."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.search_utils import SearchTraceUtils

from phi3_ui.store.query import metadata_filter, paginate, quote

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)


@given(_TEXT, _TEXT)
def test_mlflow_reads_the_values_that_were_quoted(visitor: str, session: str) -> None:
    values = {"mlflow.trace.user": visitor, "mlflow.trace.session": session}
    try:
        query = metadata_filter(values)
    except ValueError:
        assert any("'" in value and '"' in value for value in values.values())
        return
    parsed = SearchTraceUtils.parse_search_filter_for_search_traces(query)
    assert [(one["key"], one["comparator"], one["value"]) for one in parsed] == [
        (key, "=", value) for key, value in values.items()
    ]


def test_a_value_with_both_quotation_marks_is_rejected() -> None:
    with pytest.raises(ValueError, match="cannot be quoted"):
        quote('it\'s a "name"')


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
