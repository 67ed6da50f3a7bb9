"""Run a command in its own network namespace, and record each packet that would have left the machine.

`unshare --user --map-root-user --net python -m tests.support.offline FILE COMMAND…` writes one line per packet to FILE:
protocol, address and port. It captures all packets, whether sent by Python, native code or a child process. Loopback
addresses work; all others are routed to an interface whose peer does not respond. Linux only.
"""

import ipaddress
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_ALL_PROTOCOLS, _IPV4, _IPV6 = 0x0003, 0x0800, 0x86DD
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # constants that Python does not define
_LAST = ("192.0.2.2", 9)  # destination of the last packet, after which all others have been captured
_UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
# `outside` is the only external interface; nothing responds at its other end.
_NETWORK = """
link set lo up
link add outside type veth peer name nobody
link set nobody up
link set outside up
addr add 192.0.2.1/24 dev outside
addr add 2001:db8::1/64 dev outside nodad
neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev outside
neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev outside
route add default via 192.0.2.2
route add default via 2001:db8::2 dev outside
"""


# A local name server would forward the queries.
_NAME_SERVER = "nameserver 192.0.2.2\noptions timeout:1 attempts:1\n"


def isolated(file: Path, *command: str) -> list[str]:
    """Return the command line that runs `command` isolated, recording its packets in `file`."""
    return [*_UNSHARE, sys.executable, "-m", __name__, str(file), *command]


def check_support() -> None:
    """Check that this machine can isolate a command. Raise RuntimeError with the cure if it cannot."""
    if missing := [name for name in ("unshare", "ip", "mount") if not shutil.which(name)]:
        raise RuntimeError(f"Not found: {', '.join(missing)}. Install the packages util-linux, iproute2 and mount.")
    trial = subprocess.run([*_UNSHARE, "ip", "-batch", "-"], input=_NETWORK, text=True, capture_output=True)
    if trial.returncode:
        raise RuntimeError(
            f"No network namespace could be created: {trial.stderr.strip()}\n"
            "Allow unprivileged user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1 "
            "kernel.apparmor_restrict_unprivileged_userns=0 (a kernel has one of them, or neither); "
            "in a container, --security-opt seccomp=unconfined."
        )


def find_destination(protocol: int, packet: bytes) -> str | None:
    """Return the destination of an IP packet, or None if the kernel itself sent it."""
    if protocol == _IPV4:
        address = ipaddress.ip_address(packet[16:20])
        transport, header_size = packet[9], (packet[0] & 0x0F) * 4
    elif protocol == _IPV6:
        address = ipaddress.ip_address(packet[24:40])
        transport, header_size = packet[6], 40
    else:
        return None
    has_ports = transport in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    port = int.from_bytes(packet[header_size + 2 : header_size + 4], "big") if has_ports else 0
    if address.is_multicast and not has_ports:  # neighbour discovery by the kernel
        return None
    name = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}.get(transport, str(transport))
    return f"{name} {address} {port}"


class Sniffer:
    """Captures every packet that leaves this network namespace."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        self._socket.bind(("outside", _ALL_PROTOCOLS))
        self._thread = threading.Thread(target=self._capture)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", _LAST)
        self._thread.join()
        _, missed = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert missed == 0, f"{missed} packets were missed"

    def _capture(self) -> None:
        with self._file.open("w", encoding="utf-8") as out:
            while True:
                packet, (_, protocol, direction, *_) = self._socket.recvfrom(65535)
                destination = find_destination(protocol, packet) if direction == socket.PACKET_OUTGOING else None
                if destination == "udp {} {}".format(*_LAST):
                    return
                if destination:
                    print(destination, file=out)


def main(file: Path, command: list[str]) -> int:
    """Set up the network, run the command while capturing packets, and return its exit code."""
    subprocess.run(["ip", "-batch", "-"], input=_NETWORK, text=True, check=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as resolv_conf:
        resolv_conf.write(_NAME_SERVER)
        resolv_conf.flush()
        subprocess.run(["mount", "--bind", resolv_conf.name, "/etc/resolv.conf"], check=True)
    with Sniffer(file):
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
