from __future__ import annotations

import pytest

from pilothouse.kubelet.server.handshake import accept_spdy, accept_websocket, is_websocket
from pilothouse.kubelet.server.interfaces import Refusal

from .conftest import WebSocketClient

SPDY = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}


def test_the_example_of_rfc_6455() -> None:
    headers = WebSocketClient.headers("") | {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    protocol, head = accept_websocket(headers, ("",))
    assert protocol == ""
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert b"Sec-WebSocket-Protocol" not in head
    assert head.startswith(b"HTTP/1.1 101 ") and head.endswith(b"\r\n\r\n")


def test_the_clients_first_choice_wins() -> None:
    headers = WebSocketClient.headers("v9.channel.k8s.io, v4.channel.k8s.io,channel.k8s.io")
    protocol, head = accept_websocket(headers, ("channel.k8s.io", "v4.channel.k8s.io"))
    assert protocol == "v4.channel.k8s.io"
    assert b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n" in head


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sec-websocket-version": "8"}, 400),
        ({"sec-websocket-key": "short"}, 400),
        ({"sec-websocket-key": "%%%"}, 400),
        ({"sec-websocket-protocol": "chat"}, 403),
    ],
)
def test_bad_websocket_handshakes(change: dict[str, str], status: int) -> None:
    with pytest.raises(Refusal) as refusal:
        accept_websocket(WebSocketClient.headers("v5") | change, ("v5", ""))
    assert refusal.value.status == status


def test_is_websocket() -> None:
    assert is_websocket({"connection": "keep-alive, Upgrade", "upgrade": "WebSocket"})
    assert not is_websocket({"upgrade": "websocket"})
    assert not is_websocket(SPDY)


def test_spdy() -> None:
    headers = SPDY | {"x-stream-protocol-version": "v5.channel.k8s.io, v4.channel.k8s.io"}
    protocol, head = accept_spdy(headers, ("v4.channel.k8s.io",))
    assert protocol == "v4.channel.k8s.io"
    assert b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in head


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        (SPDY, 400, "header X-Stream-Protocol-Version does not exist in request with 2 headers"),
        (SPDY | {"x-stream-protocol-version": " , "}, 400, "no valid protocols"),
        (SPDY | {"x-stream-protocol-version": "x y, z"}, 403,
         "client supports [x y z], server accepts [v4 v3]"),
        ({"x-stream-protocol-version": "v4"}, 400, "missing upgrade headers"),
    ],
)  # fmt: skip
def test_bad_spdy_handshakes(headers: dict[str, str], status: int, text: str) -> None:
    with pytest.raises(Refusal, match="unable to upgrade") as refusal:
        accept_spdy(headers, ("v4", "v3"))
    assert refusal.value.status == status
    assert text in str(refusal.value)
    accepted = [value for name, value in refusal.value.headers]
    assert accepted == (["v4", "v3"] if status == 403 else [])
