"""What a probe or hook sends: one GET, whatever its path and headers hold."""

from __future__ import annotations

import pytest

from pilothouse.kubelet.probes.prober import _request


def head(path: str, *headers: tuple[str, str]) -> list[str]:
    sent = _request("10.0.0.1", 80, path, [{"name": n, "value": v} for n, v in headers])
    text, end, rest = sent.decode("ascii").partition("\r\n\r\n")
    assert end and not rest
    return text.split("\r\n")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("healthz?full=1&x=[a]#b", "/healthz?full=1&x=[a]#b"),
        ("/a%20b/{id}", "/a%20b/{id}"),
        ("/a b", "/a%20b"),
        ("/ü", "/%C3%BC"),
        (
            "/x HTTP/1.1\r\nHost: h\r\n\r\nDELETE /all",
            "/x%20HTTP/1.1%0D%0AHost:%20h%0D%0A%0D%0ADELETE%20/all",
        ),
    ],
)
def test_a_path_stays_a_path(path: str, target: str) -> None:
    assert head(path)[0] == f"GET {target} HTTP/1.1"


def test_a_header_stays_a_header() -> None:
    assert "X-A: b c\td" in head("/", ("X-A", "b c\td"))
    with pytest.raises(OSError, match='net/http: invalid header field value for "X-A"'):
        head("/", ("X-A", "b\r\nHost: other"))
