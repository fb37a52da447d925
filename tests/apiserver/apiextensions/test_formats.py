from __future__ import annotations

import pytest

from pilothouse.apiserver.apiextensions.formats import FORMATS, known_format

GOOD = {
    "datetime": ["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
    "date": ["2014-12-15"],
    "duration": ["1h5m", "22 ns", "3 days", "-1.5h"],
    "email": ["a@b", "A B <a@b.c>"],
    "hostname": ["a.example.com", "localhost", "exämple.de"],
    "ipv4": ["1.2.3.4", "010.1.1.1"],
    "ipv6": ["::1", "2001:db8::1"],
    "cidr": ["10.0.0.0/8", "::/0"],
    "mac": ["00:11:22:33:44:55", "0011.2233.4455"],
    "uri": ["http://a/b", "/a"],
    "uuid": ["C0FFEE00-1234-1234-1234-123456789012", "c0ffee00123412341234123456789012"],
    "uuid4": ["c0ffee00-1234-4234-9234-123456789012"],
    "isbn": ["0321751043", "978-0321751041"],
    "creditcard": ["4111-1111-1111-1111"],
    "ssn": ["111-22-3333"],
    "hexcolor": ["#fff", "00FF00"],
    "rgbcolor": ["rgb(255, 0,1)"],
    "byte": ["aGVsbG8="],
    "bsonobjectid": ["507f1f77bcf86cd799439011"],
    "k8sshortname": ["a-b"],
    "k8slongname": ["a.b-c"],
    "password": ["anything"],
}
BAD = {
    "datetime": ["2014-12-15", "2014-12-15T25:00:00Z", ""],
    "date": ["2014-13-01", "2014-1-1"],
    "duration": ["x", ""],
    "email": ["a", "a@", "@b"],
    "hostname": ["-a", "a_b", "a." + "b" * 64],
    "ipv4": ["::1", "1.2.3", "1.2.3.256"],
    "ipv6": ["1.2.3.4", "fe80::1%eth0"],
    "cidr": ["10.0.0.0", "10.0.0.0/33"],
    "mac": ["00:11:22:33:44"],
    "uri": ["a", "", "http://a b", "/%zz"],
    "uuid": ["c0ffee"],
    "uuid4": ["c0ffee00-1234-1234-9234-123456789012"],
    "isbn": ["0321751044"],
    "creditcard": ["4111-1111-1111-1112"],
    "ssn": ["111223333"],
    "hexcolor": ["#ffff"],
    "rgbcolor": ["rgb(256,0,1)"],
    "byte": ["a", "a_=="],
    "bsonobjectid": ["507f"],
    "k8sshortname": ["A", "a.b", "a" * 64],
    "k8slongname": ["a..b"],
}


def test_all_formats_have_examples() -> None:
    others = {"uuid3", "uuid5", "isbn10", "isbn13"}
    assert set(GOOD) | others == set(FORMATS)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_format(name: str) -> None:
    check = FORMATS[name]
    assert [text for text in GOOD[name] if not check(text)] == []
    assert [text for text in BAD.get(name, []) if check(text)] == []


def test_known() -> None:
    assert known_format("date-time", "string")
    assert known_format("datetime", "")
    assert known_format("int32", "integer") and not known_format("int32", "number")
    assert not known_format("date", "object") and not known_format("color", "string")
