"""SPDY/3.1 frames to bytes and back, without I/O.

The subset that Kubernetes' streaming uses; the peer is moby/spdystream. A :class:`Framer` holds
both header compression contexts of one connection, so frames must be encoded in the order in
which they are sent.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

VERSION = 3
MAX_FRAME = (1 << 24) - 1
MAX_HEADER_BLOCK = 1 << 20
MAX_HEADERS = 1000
_FIN = 0x01
_UNIDIRECTIONAL = 0x02
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = (
    1, 2, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
# The dictionary of the SPDY/3 specification (2.6.10.1), compressed.
_DICTIONARY = (
    "eNplVNty2zYQ1dSylEmTtEl+AM8tGYMk6Did8YN7cet03GQad/oMgSsKMQggIKhLvr67oOQq7YwkHhzs5eyFmkwm"
    "c+ejdrafTCbTFciGnt71EZ8nfqDHrAEDERCdxiAVgZlUCjxdPhtRrlYy9EDMN3sGrHKNtu0RZaRtB9lShKd7KiAF"
    "lPxk5E+lMW6TDIa4ckF/liSPCCXVCnLlbAzOIPEYoQW1v35CF2BjvpA9Bfr2cD7S8cAdCXn2wIFt4+oLK6cOyb8+"
    "cF1TJy37Y5J/nD3uPJ2njUwdm0KUlHkGW49SEc0R6ZBKni6D61Lfx34/0su8k1GRiOeEUfdSQ5P32qa2P0XSOgsP"
    "VuRxkPAS8WD/72NkHx9Ckc9RWU86uc2XLmxkaEjRzAfZdhLRCx/cdpfTELAsrcZyXv7LHo/m9KBhHmAJAQJ1LEAM"
    "aLqM6TjrIawT+ipFmuMqaZOI5whtj37Ho5oPvg2yIdPHA/rmOC1LTZquZdjRvqw16ZyjdLuf7maz+a/gWQcolco+"
    "adN2zvoo45BqLTln736nGCisHyt59Nvd3fuz4lVBHkMwqSfDwmhFQnDBcf/cvU6y7gF8Lo1ep0TYj1bbgvOCFyV9"
    "ypLXJT+vOK94WfGq4qLidUXMa8FLwWvBzwXhC8HfiIKLohBFKYpKFEIUtSjORfG65mXNRU2hKvaHs/nV2HusAhOz"
    "G4vT69IcSi7QgP00LmLFC3br1tCw94AGFimzE1jxj7Jhf8KnAfoo0OYvexgmNAJTXLuw0E0DVqRwEYnBNjU63mDc"
    "YKVhH9Ik2S8huFBjCLK66byBDpMA2lbJRCug6Gscs1wYeCstu4YFu5WBXfmAzx17O1j8GnY1tOjiI3unIoZbs59B"
    "Mc5/SB8sw2bsboCM/Q0NotWQseugM/ZBRvwZ8PbX2zu1Guw93kfYxrNV7EymO9yZM2/bPfroD6jVy0x6b/T4Ipxt"
    "0fqLM/l/T2yK5o3UdoQfsZ5eBe1jNq6FD3qNq0bvEUa+bD9rnzWwNMhlfaNW+//FyyEu84vDQfcuv7io3+RFRnz2"
    "XQb20yV/9Q/jxqfC"
)
Header = Mapping[str, str]


@cache
def dictionary() -> bytes:
    return zlib.decompress(base64.b64decode(_DICTIONARY))


class SpdyError(Exception):
    """The peer does not keep to the protocol; the session is over."""


@dataclass(frozen=True, slots=True)
class SynStream:
    """Header names are lower-case; a value with NULs is several values."""

    stream_id: int
    headers: Header = field(default_factory=dict)
    fin: bool = False
    unidirectional: bool = False
    associated_id: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    stream_id: int
    headers: Header = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Settings:
    """(flags, id, value) of each."""

    values: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream_id: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class Headers:
    stream_id: int
    headers: Header = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    stream_id: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    stream_id: int
    data: bytes = b""
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | Headers | WindowUpdate | Data


class Framer:
    """Both directions of one connection: ``encode`` frames, ``feed`` bytes."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=dictionary())
        self._decompressor = zlib.decompressobj(zdict=dictionary())
        self._buffer = bytearray()

    # -- out -----------------------------------------------------------------------------

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data():
                if len(frame.data) > MAX_FRAME:
                    raise ValueError("too much data for one frame")
                length = len(frame.data) | (_FIN << 24 if frame.fin else 0)
                return struct.pack(">II", frame.stream_id, length) + frame.data
            case SynStream():
                flags = frame.fin * _FIN | frame.unidirectional * _UNIDIRECTIONAL
                fixed = struct.pack(
                    ">IIBB", frame.stream_id, frame.associated_id, frame.priority << 5, 0
                )
                return _control(SYN_STREAM, fixed + self._compress(frame.headers), flags)
            case SynReply() | Headers():
                kind = SYN_REPLY if isinstance(frame, SynReply) else HEADERS
                fixed = struct.pack(">I", frame.stream_id)
                return _control(kind, fixed + self._compress(frame.headers), frame.fin * _FIN)
            case RstStream():
                return _control(RST_STREAM, struct.pack(">II", frame.stream_id, frame.status))
            case Settings():
                entries = [struct.pack(">II", f << 24 | i, value) for f, i, value in frame.values]
                return _control(SETTINGS, struct.pack(">I", len(entries)) + b"".join(entries))
            case Ping():
                return _control(PING, struct.pack(">I", frame.ping_id))
            case GoAway():
                return _control(GOAWAY, struct.pack(">II", frame.last_stream_id, frame.status))
            case WindowUpdate():
                return _control(WINDOW_UPDATE, struct.pack(">II", frame.stream_id, frame.delta))

    def _compress(self, headers: Header) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode("utf-8", "surrogateescape")
                parts += (struct.pack(">I", len(raw)), raw)
        block = self._compressor.compress(b"".join(parts))
        return block + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    # -- in ------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now; kinds that we don't know are skipped.

        :raises SpdyError: what came is no SPDY/3.
        """
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        while len(self._buffer) - start >= 8:
            word, length = struct.unpack_from(">II", self._buffer, start)
            flags, length = length >> 24, length & 0xFFFFFF
            end = start + 8 + length
            if len(self._buffer) < end:
                break
            payload = bytes(memoryview(self._buffer)[start + 8 : end])
            start = end
            frame = self._parse(word, flags, payload)
            if frame is not None:
                frames.append(frame)
        del self._buffer[:start]
        return frames

    def _parse(self, word: int, flags: int, payload: bytes) -> Frame | None:
        if not word & 0x80000000:
            if word == 0:
                raise SpdyError("stream id zero is disallowed")
            return Data(word, payload, bool(flags & _FIN))
        if (word >> 16) & 0x7FFF != VERSION:
            raise SpdyError("unsupported SPDY version")
        try:
            return self._parse_control(word & 0xFFFF, flags, payload)
        except struct.error as error:
            raise SpdyError("invalid control frame") from error

    def _parse_control(self, kind: int, flags: int, payload: bytes) -> Frame | None:
        fin = bool(flags & _FIN)
        if kind == SYN_STREAM:
            stream_id, associated, priority, _ = struct.unpack_from(">IIBB", payload)
            headers = self._decompress(payload[10:])
            unidirectional = bool(flags & _UNIDIRECTIONAL)
            return SynStream(
                _nonzero(stream_id & 0x7FFFFFFF), headers, fin, unidirectional,
                associated & 0x7FFFFFFF, priority >> 5,
            )  # fmt: skip
        if kind in (SYN_REPLY, HEADERS):
            stream_id = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF
            headers = self._decompress(payload[4:])
            make = SynReply if kind == SYN_REPLY else Headers
            return make(_nonzero(stream_id), headers, fin)
        if kind == RST_STREAM:
            stream_id, status = struct.unpack(">II", payload)
            return RstStream(_nonzero(stream_id & 0x7FFFFFFF), _nonzero(status))
        if kind == SETTINGS:
            return _settings(payload)
        if kind == PING:
            return Ping(_nonzero(struct.unpack(">I", payload)[0]))
        if kind == GOAWAY:
            last, status = struct.unpack(">II", payload)
            return GoAway(last & 0x7FFFFFFF, status)
        if kind == WINDOW_UPDATE:
            stream_id, delta = struct.unpack(">II", payload)
            return WindowUpdate(stream_id & 0x7FFFFFFF, delta & 0x7FFFFFFF)
        return None

    def _decompress(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._decompressor.decompress(block, MAX_HEADER_BLOCK)
        except zlib.error as error:
            raise SpdyError("compressed payload is damaged") from error
        if self._decompressor.unconsumed_tail:
            raise SpdyError("compressed payload size was incorrect")
        count = struct.unpack_from(">I", plain)[0]
        if count > MAX_HEADERS:
            raise SpdyError("too many headers")
        headers: dict[str, str] = {}
        position = 4
        for _ in range(count):
            texts = []
            for _ in range(2):
                length = struct.unpack_from(">I", plain, position)[0]
                position += 4 + length
                if position > len(plain):
                    raise SpdyError("invalid control frame")
                texts.append(plain[position - length : position])
            name = texts[0].decode("utf-8", "surrogateescape")
            if name != name.lower():
                raise SpdyError("header was not lowercased")
            if name in headers:
                raise SpdyError("multiple headers with same name")
            headers[name] = texts[1].decode("utf-8", "surrogateescape")
        return headers


def _control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def _nonzero(value: int) -> int:
    if value == 0:
        raise SpdyError("stream id zero is disallowed")
    return value


def _settings(payload: bytes) -> Settings:
    count = struct.unpack_from(">I", payload)[0]
    if count > (len(payload) - 4) // 8:
        raise SpdyError("invalid control frame")
    values = []
    for index in range(count):
        word, value = struct.unpack_from(">II", payload, 4 + 8 * index)
        values.append((word >> 24, word & 0xFFFFFF, value))
    return Settings(tuple(values))
