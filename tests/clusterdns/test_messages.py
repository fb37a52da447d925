"""The wire format: known bytes, round trips, and whatever bytes may come."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.clusterdns import messages as m
from pilothouse.clusterdns.messages import Alias, Query, Question, Record, Response, Soa, Srv

HEADER = struct.Struct("!6H")
WWW = b"\x03www\x07example\x03com\x00"


def query_bytes(
    name: bytes = WWW, type_: int = m.A, class_: int = 1, flags: int = 0x0100, extra: bytes = b""
) -> bytes:
    counts = (1, 0, 0, 1 if extra else 0)
    return HEADER.pack(7, flags, *counts) + name + struct.pack("!HH", type_, class_) + extra


def opt(size: int, version: int = 0) -> bytes:
    return b"\0" + struct.pack("!HHIH", m.OPT, size, version << 16, 0)


def query(name: str = "a.b", type_: int = m.A, **fields: int) -> Query:
    return Query(9, m.RECURSION_DESIRED, Question(m.parse_name(name), type_), **fields)


def test_a_query_is_understood() -> None:
    found = m.decode_query(query_bytes())
    assert found == Query(7, 0x0100, Question(("www", "example", "com"), m.A))
    assert m.udp_limit(found) == 512


def test_case_of_the_question_is_kept() -> None:
    found = m.decode_query(query_bytes(b"\x03wWw\x00"))
    assert found.question.name == ("wWw",)
    assert b"\x03wWw\x00" in m.encode_response(found, Response(m.NXDOMAIN), 512)


@pytest.mark.parametrize(("size", "limit"), [(100, 512), (1232, 1232), (65535, 4096)])
def test_edns_size_bounds_the_response(size: int, limit: int) -> None:
    found = m.decode_query(query_bytes(extra=opt(size)))
    assert (found.edns_version, m.udp_limit(found)) == (0, limit)
    response = m.encode_response(found, Response(m.BADVERS), 512)
    assert response[-11:-8] == b"\0\0\x29", "an OPT record answers one"
    assert response[3] & 15 == 0 and response[-6] == 1, "16 is split over header and OPT"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 11,
        HEADER.pack(1, 0, 0, 0, 0, 0),
        HEADER.pack(1, 0, 2, 0, 0, 0) + WWW + b"\0\1\0\1",
        query_bytes()[:-1],
        query_bytes(b"\x40" + b"a" * 64 + b"\0"),
        query_bytes(b"\xc0\x0c"),
        query_bytes(b"\x01a\xc0\x0e"),
        query_bytes((b"\x3f" + b"a" * 63) * 4 + b"\0"),
        HEADER.pack(7, 0, 1, 0, 0, 2) + WWW + b"\0\1\0\1" + opt(512) * 2,
        query_bytes(extra=b"\0" + struct.pack("!HHIH", m.OPT, 512, 0, 5) + b"1"),
    ],
)
def test_malformed_queries(data: bytes) -> None:
    with pytest.raises(m.FormatError):
        m.decode_query(data)


def test_pointers_may_lead_back() -> None:
    question = WWW + struct.pack("!HH", m.CNAME, 1)
    answer = b"\xc0\x0c" + struct.pack("!HHIH", m.CNAME, 1, 60, 2) + b"\xc0\x10"
    found = m.decode_response(HEADER.pack(7, 0x8180, 1, 1, 0, 0) + question + answer)
    name = ("www", "example", "com")
    assert found.answers == [Record(name, m.CNAME, 60, Alias(name[1:]))]


def test_names_are_compressed_except_in_srv() -> None:
    name = ("_http", "_tcp", "web", "ns", "svc", "cluster", "local")
    record = Record(name, m.SRV, 30, Srv(0, 100, 80, name[2:]))
    response = m.encode_response(query(".".join(name), m.SRV), Response(answers=[record]), 512)
    assert response.count(b"\x05_http") == 1 and response.count(b"\x03web") == 2
    soa = Record(name[-2:], m.SOA, 30, Soa(("ns", *name[-2:]), ("h", *name[-2:]), 1, 2, 3, 4, 5))
    response = m.encode_response(query("x.cluster.local"), Response(3, (), (soa,)), 512)
    assert response.count(b"cluster") == 1
    assert HEADER.unpack_from(response) == (9, 0x8583, 1, 0, 1, 0)


def test_truncation() -> None:
    answers = [Record(("a", "b"), m.A, 30, bytes((10, 0, i >> 8, i & 255))) for i in range(40)]
    more = [Record(("c", "b"), m.A, 30, b"\1\2\3\4")]
    whole = m.encode_response(query(), Response(answers=answers, additional=more), 4096)
    assert HEADER.unpack_from(whole)[3:] == (40, 0, 1)
    less = m.encode_response(query(), Response(answers=answers, additional=more), len(whole) - 1)
    assert HEADER.unpack_from(less)[1:] == (0x8580, 1, 40, 0, 0), "additional records go first"
    cut = m.encode_response(query(), Response(answers=answers), 512)
    assert len(cut) <= 512 and HEADER.unpack_from(cut)[1:] == (0x8780, 1, 0, 0, 0)


def test_format_error_needs_no_question() -> None:
    assert m.encode_format_error(7, 0x0100) == HEADER.pack(7, 0x8101, 0, 0, 0, 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_format_error(data: bytes) -> None:
    for decode in (m.decode_query, m.decode_response):
        try:
            found = decode(data)
        except m.FormatError:
            continue
        assert found.id == data[0] << 8 | data[1]


@given(st.data())
def test_damaged_responses_are_a_message_or_a_format_error(data: st.DataObject) -> None:
    """Almost right bytes go deeper into the decoder than random ones."""
    alias = Record(("a", "b"), m.CNAME, 30, Alias(("c", "b")))
    address = Record(("c", "b"), m.A, 30, b"\1\2\3\4")
    whole = bytearray(
        m.encode_response(query(edns_version=0), Response(answers=[alias, address]), 512)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(2, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = m.decode_response(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except m.FormatError:
        return
    assert found.id == 9


LABELS = st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=20)
NAMES = st.lists(LABELS, max_size=6).map(tuple)


FOUR = st.binary(min_size=4, max_size=4)
RECORDS = st.one_of(
    st.builds(Record, NAMES, st.just(m.A), st.integers(0, 2**31), FOUR),
    st.builds(Record, NAMES, st.just(m.CNAME), st.integers(0, 99), NAMES.map(Alias)),
)


@given(NAMES, st.lists(RECORDS, max_size=5))
def test_round_trip(name: m.Name, answers: list[Record]) -> None:
    asked = Query(1, 0, Question(name, m.A))
    encoded = m.encode_response(asked, Response(answers=answers), 65535)
    found = m.decode_response(encoded)
    fold = [(m.lowered(r.name), r.type, r.ttl) for r in answers]
    assert [(m.lowered(r.name), r.type, r.ttl) for r in found.answers] == fold
    for got, sent in zip(found.answers, answers, strict=True):
        if isinstance(sent.data, Alias):
            assert isinstance(got.data, Alias)
            assert m.lowered(got.data.target) == m.lowered(sent.data.target)
        else:
            assert got.data == sent.data
    assert found.question is not None and found.question.name == name
    assert m.decode_query(m.encode_query(3, asked.question)).question == asked.question
