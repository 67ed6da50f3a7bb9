"""Addresses as limits count them."""

import ipaddress

_HOST_BITS = 64  # of an IPv6 address: one customer has them all


def normalize_address(host: str) -> str:
    """An IPv4 address as it is, of an IPv6 address the network, anything else (a socket of another kind) as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> _HOST_BITS << _HOST_BITS, _HOST_BITS)))
