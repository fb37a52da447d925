"""Links, addresses and routes over raw rtnetlink: no dependency, about 0.2 ms a request.

A :class:`Netlink` works in the network namespace of the thread that made it. Requests are
``with Netlink() as nl: nl.add_bridge("ph-x")``; kernel errors come as :class:`NetlinkError`, an
OSError with the errno. IPv4 only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2
NLMSG_DONE = 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PROTINFO = 1, 3, 4, 10, 12
IFLA_LINKINFO, IFLA_NET_NS_FD = 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_BRPORT_MODE = 4
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 7, 15
IFF_UP = 1
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
NESTED = 0x8000


class NetlinkError(OSError):
    """The kernel refused a request; ``errno`` says why."""


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    up: bool
    master: int
    kind: str


@dataclass(frozen=True, slots=True)
class Route:
    """``destination`` is CIDR text (``0.0.0.0/0`` for the default route)."""

    destination: str
    gateway: str
    link: int


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of each attribute in ``data``."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def mac_for(ip: str) -> bytes:
    """A fixed hardware address for an IP, so that a neighbour entry outlives the pod it was for."""
    return b"\x0a\x58" + socket.inet_aton(ip)


def _split_cidr(cidr: str) -> tuple[bytes, int]:
    address, _, prefix = cidr.partition("/")
    return socket.inet_aton(address), int(prefix or 32)


class Netlink:
    """A socket to rtnetlink in the namespace of the calling thread. Not thread-safe."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # --- links

    def add_bridge(self, name: str, mac: bytes = b"") -> int:
        """The index of bridge ``name``, made when it isn't there.

        With a fixed ``mac`` the bridge keeps it; else it changes as ports come and go.
        """
        info = attribute(IFLA_LINKINFO | NESTED, attribute(IFLA_INFO_KIND, b"bridge"))
        address = attribute(IFLA_ADDRESS, mac) if mac else b""
        return self._add_link(name, _text(IFLA_IFNAME, name) + address + info)

    def add_veth(
        self,
        name: str,
        peer: str,
        peer_netns: int,
        *,
        mtu: int = 0,
        master: int = 0,
        peer_mac: bytes = b"",
    ) -> int:
        """``name`` here, ``peer`` inside the namespace of fd ``peer_netns``; index of ``name``."""
        extra = _number(IFLA_MTU, mtu) if mtu else b""
        inner = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _text(IFLA_IFNAME, peer)
        inner += attribute(IFLA_ADDRESS, peer_mac) if peer_mac else b""
        inner += _number(IFLA_NET_NS_FD, peer_netns) + extra
        data = attribute(IFLA_INFO_DATA | NESTED, attribute(VETH_INFO_PEER | NESTED, inner))
        info = attribute(IFLA_LINKINFO | NESTED, attribute(IFLA_INFO_KIND, b"veth") + data)
        body = _text(IFLA_IFNAME, name) + extra + info
        if master:
            body += _number(IFLA_MASTER, master)
        return self._add_link(name, body, exclusive=True)

    def _add_link(self, name: str, body: bytes, *, exclusive: bool = False) -> int:
        header = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        try:
            self._request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header + body)
        except NetlinkError as error:
            if exclusive or error.errno != errno.EEXIST:
                raise
        return self.link_index(name)

    def link_index(self, name: str) -> int:
        """:raises NetlinkError: ENODEV when there is no such link."""
        found = self.find_link(name)
        if found is None:
            raise NetlinkError(errno.ENODEV, f"{name}: {os.strerror(errno.ENODEV)}")
        return found.index

    def find_link(self, name: str) -> Link | None:
        header = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name)
        try:
            replies = self._request(RTM_GETLINK, 0, header)
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _parse_link(replies[0]) if replies else None

    def links(self) -> list[Link]:
        return [_parse_link(m) for m in self._dump(RTM_GETLINK, struct.pack("=BxHiII", *[0] * 5))]

    def set_up(self, index: int) -> None:
        self._request(RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index, IFF_UP, IFF_UP))

    def set_master(self, index: int, master: int) -> None:
        header = struct.pack("=BxHiII", 0, 0, index, 0, 0)
        self._request(RTM_NEWLINK, 0, header + _number(IFLA_MASTER, master))

    def set_hairpin(self, index: int) -> None:
        """A bridge port may send a frame back where it came from (pod -> Service -> same pod)."""
        header = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0)
        mode = attribute(IFLA_PROTINFO | NESTED, attribute(IFLA_BRPORT_MODE, b"\1"))
        self._request(RTM_SETLINK, 0, header + mode)

    def delete_link(self, name: str) -> None:
        """Missing is fine."""
        header = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _text(IFLA_IFNAME, name)
        self._tolerate(RTM_DELLINK, header, errno.ENODEV)

    # --- addresses and routes

    def add_address(self, index: int, cidr: str) -> None:
        """``cidr`` is the address with its prefix length; already there is fine."""
        address, prefix = _split_cidr(cidr)
        header = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, index)
        body = attribute(IFA_LOCAL, address) + attribute(IFA_ADDRESS, address)
        self._request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, header + body)

    def addresses(self) -> list[tuple[int, str]]:
        """(link index, ``a.b.c.d/prefix``) of every IPv4 address."""
        found = []
        for message in self._dump(RTM_GETADDR, struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0)):
            prefix, index = message[1], struct.unpack_from("=I", message, 4)[0]
            parts = dict(attributes(message[8:]))
            local = parts.get(IFA_LOCAL) or parts.get(IFA_ADDRESS)
            if local:
                found.append((index, f"{socket.inet_ntoa(local)}/{prefix}"))
        return found

    def set_route(
        self, destination: str, *, gateway: str = "", link: int = 0, source: str = ""
    ) -> None:
        """Adds or replaces a route of the main table."""
        body = self._route_body(destination, gateway, link)
        if source:
            body += attribute(RTA_PREFSRC, socket.inet_aton(source))
        self._request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)

    def delete_route(self, destination: str, *, gateway: str = "", link: int = 0) -> None:
        """Missing is fine."""
        self._tolerate(RTM_DELROUTE, self._route_body(destination, gateway, link), errno.ESRCH)

    def routes(self) -> list[Route]:
        """The IPv4 routes of the main table."""
        header = struct.pack("=BBBBBBBBI", socket.AF_INET, *[0] * 7, 0)
        found = []
        for message in self._dump(RTM_GETROUTE, header):
            parts = dict(attributes(message[12:]))
            table = struct.unpack("=I", parts[RTA_TABLE])[0] if RTA_TABLE in parts else message[4]
            if table != RT_TABLE_MAIN:
                continue
            address = socket.inet_ntoa(parts.get(RTA_DST, b"\0\0\0\0"))
            gateway = socket.inet_ntoa(parts[RTA_GATEWAY]) if RTA_GATEWAY in parts else ""
            link = struct.unpack("=I", parts[RTA_OIF])[0] if RTA_OIF in parts else 0
            found.append(Route(f"{address}/{message[1]}", gateway, link))
        return found

    @staticmethod
    def _route_body(destination: str, gateway: str, link: int) -> bytes:
        address, prefix = _split_cidr(destination)
        scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
        family, table = socket.AF_INET, RT_TABLE_MAIN
        header = struct.pack(
            "=BBBBBBBBI", family, prefix, 0, 0, table, RTPROT_STATIC, scope, RTN_UNICAST, 0
        )
        body = attribute(RTA_DST, address) if prefix else b""
        if gateway:
            body += attribute(RTA_GATEWAY, socket.inet_aton(gateway))
        if link:
            body += _number(RTA_OIF, link)
        return header + body

    # --- the wire

    def _tolerate(self, kind: int, body: bytes, expected: int) -> None:
        try:
            self._request(kind, 0, body)
        except NetlinkError as error:
            if error.errno != expected:
                raise

    def _request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        return self._exchange(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        return self._exchange(kind, NLM_F_REQUEST | NLM_F_DUMP, body)

    def _exchange(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        sequence = self._sequence
        header = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0)
        self._socket.send(header + body)
        replies: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 17)
            while len(data) >= 16:
                length, message_kind, _, message_sequence, _ = struct.unpack_from("=IHHII", data)
                message, data = data[16:length], data[(length + 3) & ~3 :]
                if message_sequence != sequence:
                    continue  # the tail of an earlier exchange that failed half way
                if message_kind == NLMSG_DONE:
                    return replies
                if message_kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", message)[0]
                    if code:
                        raise NetlinkError(code, f"netlink request {kind}: {os.strerror(code)}")
                    return replies
                replies.append(message)


def _parse_link(message: bytes) -> Link:
    index, flags = struct.unpack_from("=iI", message, 4)
    parts = dict(attributes(message[16:]))
    master = struct.unpack("=I", parts[IFLA_MASTER])[0] if IFLA_MASTER in parts else 0
    info = dict(attributes(parts.get(IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=parts.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        up=bool(flags & IFF_UP),
        master=master,
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
    )
