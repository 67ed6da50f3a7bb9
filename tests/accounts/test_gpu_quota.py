"""The user whose GPU quota is charged for a request."""

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from phi3_ui.accounts.gpu_quota import read_gpu_token


@pytest.mark.parametrize(
    ("headers", "token"),
    [({"X-IP-Token": "a.b.c"}, "a.b.c"), ({}, None), ({"X-IP-Token": ""}, None), ({"X-IP-Token": "x" * 9000}, None)],
)
def test_the_token_comes_with_the_request(headers: dict[str, str], token: str | None) -> None:
    assert read_gpu_token(Request({"type": "http", "headers": Headers(headers).raw}).headers) == token
