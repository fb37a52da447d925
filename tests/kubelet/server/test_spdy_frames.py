from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.kubelet.server.spdy_frames import (
    MAX_HEADER_BLOCK,
    Data,
    Frame,
    Framer,
    GoAway,
    Headers,
    Ping,
    RstStream,
    Settings,
    SpdyError,
    SynReply,
    SynStream,
    WindowUpdate,
    dictionary,
)

ids = st.integers(1, 0x7FFFFFFF)
words = st.integers(0, 0xFFFFFFFF)
names = st.text("abcdefghijklmnopqrstuvwxyz-:", min_size=1, max_size=20)
headers = st.dictionaries(names, st.text(max_size=60), max_size=8)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(SynStream, ids, headers, st.booleans(), st.booleans(), st.integers(0, 0x7FFFFFFF),
              st.integers(0, 7)),
    st.builds(SynReply, ids, headers, st.booleans()),
    st.builds(Headers, ids, headers, st.booleans()),
    st.builds(RstStream, ids, st.integers(1, 11)),
    st.builds(Settings, st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 0xFFFFFF), words), max_size=5).map(tuple)),
    st.builds(Ping, st.integers(1, 0xFFFFFFFF)),
    st.builds(GoAway, st.integers(0, 0x7FFFFFFF), words),
    st.builds(WindowUpdate, st.integers(0, 0x7FFFFFFF), st.integers(0, 0x7FFFFFFF)),
    st.builds(Data, ids, st.binary(max_size=200), st.booleans()),
)  # fmt: skip


@given(st.lists(frames, max_size=12), st.data())
def test_frames_survive_the_wire_in_any_pieces(sent: list[Frame], data: st.DataObject) -> None:
    sender, receiver = Framer(), Framer()
    wire = b"".join([sender.encode(frame) for frame in sent])
    received: list[Frame] = []
    position = 0
    while position < len(wire):
        step = data.draw(st.integers(1, max(len(wire) - position, 1)))
        received += receiver.feed(wire[position : position + step])
        position += step
    assert received == sent


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_on(garbage: bytes) -> None:
    framer = Framer()
    try:
        framer.feed(garbage)
    except SpdyError:
        pass


@given(st.lists(frames, min_size=1, max_size=3), st.integers(0, 500), st.integers(1, 255))
def test_damaged_frames_do_no_harm(sent: list[Frame], where: int, what: int) -> None:
    sender = Framer()
    wire = bytearray(b"".join([sender.encode(frame) for frame in sent]))
    wire[where % len(wire)] ^= what
    try:
        Framer().feed(bytes(wire))
    except SpdyError:
        pass


def test_the_dictionary_is_the_specifications() -> None:
    assert len(dictionary()) == 1423
    assert zlib.adler32(dictionary()) == 0xE3C6A7C2


def test_the_bytes_of_kubectls_first_frames() -> None:
    """As seen from client-go: SYN_STREAM 1 with streamtype, then a PING."""
    wire = Framer().encode(SynStream(1, {"streamtype": "error"}))
    assert wire[:8] == struct.pack(">HHI", 0x8003, 1, len(wire) - 8)
    assert wire[8:18] == struct.pack(">IIBB", 1, 0, 0, 0)
    assert wire[18:20] == b"\x78\xbb"  # a zlib stream with a preset dictionary
    assert wire[20:24] == struct.pack(">I", 0xE3C6A7C2)
    assert Framer().encode(Ping(1)) == bytes.fromhex("80030006 00000004 00000001")
    assert Framer().encode(Data(5, b"ab", fin=True)) == bytes.fromhex("00000005 01000002 6162")


@pytest.mark.parametrize(
    "wire",
    [
        "00000000 00000001 61",  # data on stream 0
        "80020001 00000000",  # SPDY/2
        "80030006 00000004 00000000",  # ping 0
        "80030006 00000000",  # ping without a number
        "80030003 00000008 00000001 00000000",  # reset without a status
        "80030003 00000008 00000000 00000001",  # reset of stream 0
        "80030004 00000004 00000009",  # nine settings that are not there
        "80030007 00000004 00000001",  # half a GOAWAY
        "80030001 0000000c 00000001 00000000 0000 ffff",  # no zlib
    ],
)
def test_malformed_frames(wire: str) -> None:
    with pytest.raises(SpdyError):
        Framer().feed(bytes.fromhex(wire))


def test_unknown_control_frames_are_skipped() -> None:
    assert Framer().feed(bytes.fromhex("80030055 00000002 ffff 80030006 00000004 00000003")) == [
        Ping(3)
    ]


def header_frame(block: bytes) -> bytes:
    compressor = zlib.compressobj(zdict=dictionary())
    packed = compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return struct.pack(">HHIIIBB", 0x8003, 1, len(packed) + 10, 1, 0, 0, 0) + packed


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


@pytest.mark.parametrize(
    "block",
    [
        struct.pack(">I", 5_000_000),
        struct.pack(">I", 1) + text(b"Upper") + text(b"x"),
        struct.pack(">I", 2) + (text(b"a") + text(b"x")) * 2,
        struct.pack(">I", 1) + text(b"a") + struct.pack(">I", 1 << 30),
        struct.pack(">I", 1) + text(b"a") + text(b"\0" * (MAX_HEADER_BLOCK + 1)),
    ],
    ids=["count", "case", "twice", "length", "bomb"],
)
def test_header_blocks_that_are_refused(block: bytes) -> None:
    with pytest.raises(SpdyError):
        Framer().feed(header_frame(block))
