"""Where a request comes from."""

import pytest
from starlette.requests import Request

from phi3_ui.ui.login.address import find_address


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("203.0.113.7", 1), "203.0.113.7"),
        (("::ffff:203.0.113.7", 1), "203.0.113.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 1), "2001:db8:1:2::/64"),
        (("testclient", 1), "testclient"),
        (None, ""),
    ],
)
def test_an_address_of_ipv6_counts_with_its_network(client: tuple[str, int] | None, address: str) -> None:
    assert find_address(Request({"type": "http", "client": client})) == address
