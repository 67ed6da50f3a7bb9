"""Where a request comes from, for limits."""

import ipaddress

from starlette.requests import Request

_HOST_BITS = 64  # of an IPv6 address: one customer has them all


def find_address(request: Request) -> str:
    """The address of the client, as trusted proxies report it; of IPv6, the network. Empty where there is none."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host  # a socket of another kind
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> _HOST_BITS << _HOST_BITS, _HOST_BITS)))
