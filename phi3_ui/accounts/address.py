"""Normalizes network addresses for limits."""

import ipaddress

_HOST_BITS = 64  # of an IPv6 address; one customer usually controls all of them


def normalize_address(host: str) -> str:
    """Return the network of an IPv6 address, and an IPv4 address or anything else (such as a Unix socket) unchanged."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> _HOST_BITS << _HOST_BITS, _HOST_BITS)))
