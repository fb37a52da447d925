"""What an extension server is told about the user."""

from __future__ import annotations

from pilothouse.apiserver.aggregator.extension import user_headers
from pilothouse.apiserver.request.context import UserInfo


def test_headers_name_the_user_and_can_carry_no_others() -> None:
    extra = (("example.org/scopes", ("a,b", "c")),)
    user = UserInfo("evil\r\nX-Remote-Group: system:masters", ("dévs",), "u1", extra)
    assert user_headers(user) == [
        ("X-Remote-User", "evilX-Remote-Group: system:masters"),
        ("X-Remote-Uid", "u1"),
        ("X-Remote-Group", "dévs".encode().decode("latin-1")),
        ("X-Remote-Extra-example.org%2Fscopes", "a,b"),
        ("X-Remote-Extra-example.org%2Fscopes", "c"),
    ]
