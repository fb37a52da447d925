"""DNS messages on the wire (RFC 1035, EDNS0 of RFC 6891): queries in, responses out. Pure.

A name is a tuple of labels as they came, without the root; who compares lowers the case. Whatever
bytes arrive, decoding gives a message or :class:`FormatError`, nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, AXFR, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 252, 255
IN, ANY_CLASS = 1, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE = (
    0x8000, 0x0400, 0x0200, 0x0100, 0x0080,
)  # fmt: skip
CHECKING_DISABLED = 0x0010
PLAIN_UDP_SIZE = 512
LARGEST_UDP_SIZE = 4096
"""What we send at most in a datagram, whatever the client could take."""
LARGEST_MESSAGE = 65535
_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")

Name = tuple[str, ...]


class FormatError(Exception):
    """Bytes that are no DNS message."""


class Soa(NamedTuple):
    primary: Name
    mailbox: Name
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


class Srv(NamedTuple):
    priority: int
    weight: int
    port: int
    target: Name


class Alias(NamedTuple):
    """The data of CNAME, NS and PTR records."""

    target: Name


Data = bytes | Soa | Srv | Alias


class Record(NamedTuple):
    name: Name
    type: int
    ttl: int
    data: Data


class Question(NamedTuple):
    name: Name
    type: int
    class_: int = IN


class Query(NamedTuple):
    id: int
    flags: int
    question: Question
    udp_size: int = PLAIN_UDP_SIZE
    edns_version: int | None = None
    """None: the query has no OPT record, so neither has the response."""

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15


class Response(NamedTuple):
    rcode: int = NOERROR
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    authoritative: bool = True


class Received(NamedTuple):
    """What we need of another server's response."""

    id: int
    flags: int
    question: Question | None
    answers: list[Record]

    @property
    def rcode(self) -> int:
        return self.flags & 15


def parse_name(text: str) -> Name:
    """From ``a.b.c`` or ``a.b.c.``."""
    return tuple(label for label in text.split(".") if label)


def lowered(name: Name) -> Name:
    return tuple(label.lower() for label in name)


# -- decoding --------------------------------------------------------------------------------


def decode_query(data: bytes) -> Query:
    """:raises FormatError: no query, or not one question."""
    id_, flags, questions, answers, authority, additional = _header(data)
    if questions != 1:
        raise FormatError(f"{questions} questions")
    question, offset = _question(data, _HEADER.size)
    size, version = PLAIN_UDP_SIZE, None
    for _ in range(answers + authority + additional):
        _, type_, class_, ttl, _, offset = _record(data, offset)
        if type_ == OPT:
            if version is not None:
                raise FormatError("two OPT records")
            size, version = max(PLAIN_UDP_SIZE, class_), ttl >> 16 & 255
    return Query(id_, flags, question, size, version)


def decode_response(data: bytes) -> Received:
    """Answers of types that hold other compressed names than an alias are left out.

    :raises FormatError: broken.
    """
    id_, flags, questions, answers, _, _ = _header(data)
    question, offset = None, _HEADER.size
    for _ in range(questions):
        question, offset = _question(data, offset)
    found = []
    for _ in range(answers):
        name, type_, class_, ttl, start, offset = _record(data, offset)
        if class_ == IN and type_ in (A, AAAA, TXT):
            found.append(Record(name, type_, ttl, data[start:offset]))
        elif class_ == IN and type_ in (CNAME, PTR, NS):
            found.append(Record(name, type_, ttl, Alias(_name(data, start)[0])))
    return Received(id_, flags, question, found)


def header_of(data: bytes) -> tuple[int, int] | None:
    """(id, flags) of what may be no more than a header."""
    return struct.unpack_from("!HH", data) if len(data) >= _HEADER.size else None


def _header(data: bytes) -> tuple[int, ...]:
    if len(data) < _HEADER.size:
        raise FormatError("no header")
    return _HEADER.unpack_from(data)


def _question(data: bytes, offset: int) -> tuple[Question, int]:
    name, offset = _name(data, offset)
    if offset + 4 > len(data):
        raise FormatError("question cut off")
    type_, class_ = struct.unpack_from("!HH", data, offset)
    return Question(name, type_, class_), offset + 4


def _record(data: bytes, offset: int) -> tuple[Name, int, int, int, int, int]:
    """(name, type, class, ttl, start of the data, end of it)."""
    name, offset = _name(data, offset)
    if offset + _FIXED.size > len(data):
        raise FormatError("record cut off")
    type_, class_, ttl, length = _FIXED.unpack_from(data, offset)
    start = offset + _FIXED.size
    if start + length > len(data):
        raise FormatError("record data cut off")
    return name, type_, class_, ttl, start, start + length


def _name(data: bytes, offset: int) -> tuple[Name, int]:
    """A name and where what follows it starts. Pointers may only lead back: no loops."""
    labels: list[str] = []
    length, after, limit = 0, -1, offset
    while True:
        if offset >= len(data):
            raise FormatError("name cut off")
        size = data[offset]
        if size >= 0xC0:
            if offset + 1 >= len(data):
                raise FormatError("pointer cut off")
            target = (size & 0x3F) << 8 | data[offset + 1]
            if after < 0:
                after = offset + 2
            if target >= limit:
                raise FormatError("pointer leads forward")
            offset = limit = target
        elif size > 63:
            raise FormatError("unknown kind of label")
        elif size == 0:
            return tuple(labels), after if after >= 0 else offset + 1
        else:
            length += size + 1
            if length > 254 or offset + 1 + size > len(data):
                raise FormatError("name too long or cut off")
            labels.append(data[offset + 1 : offset + 1 + size].decode("latin-1"))
            offset += 1 + size


# -- encoding --------------------------------------------------------------------------------


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray(_HEADER.size)
        self._offsets: dict[Name, int] = {}

    def name(self, name: Name, *, compress: bool = True) -> None:
        for i in range(len(name)):
            rest = lowered(name[i:])
            known = self._offsets.get(rest)
            if known is not None and compress:
                self.data += struct.pack("!H", 0xC000 | known)
                return
            if known is None and len(self.data) < 0x4000:
                self._offsets[rest] = len(self.data)
            label = name[i].encode("latin-1", "replace")[:63]
            self.data.append(len(label))
            self.data += label
        self.data.append(0)

    def question(self, question: Question) -> None:
        self.name(question.name)
        self.data += struct.pack("!HH", question.type, question.class_)

    def record(self, record: Record) -> None:
        self.name(record.name)
        self.data += _FIXED.pack(record.type, IN, record.ttl, 0)
        start = len(self.data)
        self._rdata(record.data)
        struct.pack_into("!H", self.data, start - 2, len(self.data) - start)

    def _rdata(self, data: Data) -> None:
        match data:
            case Alias():
                self.name(data.target)
            case Srv():
                self.data += struct.pack("!3H", data.priority, data.weight, data.port)
                self.name(data.target, compress=False)  # RFC 2782
            case Soa():
                self.name(data.primary)
                self.name(data.mailbox)
                self.data += struct.pack("!5I", *data[2:])
            case _:
                self.data += data

    def opt(self, extended_rcode: int) -> None:
        self.data += b"\0" + _FIXED.pack(OPT, LARGEST_UDP_SIZE, extended_rcode << 24, 0)


def encode_query(id_: int, question: Question, *, udp_size: int = 1232) -> bytes:
    """A recursive query of our own, with EDNS0."""
    writer = _Writer()
    writer.question(question)
    writer.data += b"\0" + _FIXED.pack(OPT, udp_size, 0, 0)
    _HEADER.pack_into(writer.data, 0, id_, RECURSION_DESIRED, 1, 0, 0, 1)
    return bytes(writer.data)


def encode_response(query: Query, response: Response, limit: int) -> bytes:
    """At most ``limit`` bytes. Additional records that don't fit are left out; when answers don't
    fit either, none are sent and TC asks the client to come back over TCP."""
    whole = _encode(query, response, response.additional)
    if len(whole) <= limit:
        return whole
    less = _encode(query, response, ())
    if len(less) <= limit:
        return less
    empty = Response(response.rcode, authoritative=response.authoritative)
    return _encode(query, empty, (), TRUNCATED)


def _encode(
    query: Query, response: Response, additional: Iterable[Record], flags: int = 0
) -> bytes:
    writer = _Writer()
    writer.question(query.question)
    counts = []
    for section in (response.answers, response.authority, additional):
        counts.append(0)
        for record in section:
            writer.record(record)
            counts[-1] += 1
    if query.edns_version is not None:
        writer.opt(response.rcode >> 4)
        counts[-1] += 1
    flags |= RESPONSE | RECURSION_AVAILABLE | (response.rcode & 15)
    flags |= query.flags & (0x7800 | RECURSION_DESIRED | CHECKING_DISABLED)
    if response.authoritative:
        flags |= AUTHORITATIVE
    _HEADER.pack_into(writer.data, 0, query.id, flags, 1, *counts)
    return bytes(writer.data)


def encode_format_error(id_: int, flags: int) -> bytes:
    """For a message of which only the header made sense."""
    flags = RESPONSE | flags & (0x7800 | RECURSION_DESIRED) | FORMERR
    return _HEADER.pack(id_, flags, 0, 0, 0, 0)


def udp_limit(query: Query) -> int:
    return min(query.udp_size, LARGEST_UDP_SIZE)
