"""The HTTP upgrade: which protocol is spoken, and the 101 that says so (pure).

WebSocket sub-protocols are chosen from ``Sec-WebSocket-Protocol``, SPDY's from
``X-Stream-Protocol-Version``: in both the client's first that we know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence

from pilothouse.kubelet.server.interfaces import Refusal

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SPDY = "SPDY/3.1"
STREAM_PROTOCOL = "X-Stream-Protocol-Version"
ACCEPTED_PROTOCOLS = "X-Accepted-Stream-Protocol-Versions"


def is_websocket(headers: Mapping[str, str]) -> bool:
    return _wants(headers, "websocket")


def _wants(headers: Mapping[str, str], upgrade: str) -> bool:
    return (
        "upgrade" in headers.get("connection", "").lower()
        and upgrade in headers.get("upgrade", "").lower()
    )


def offered_subprotocols(headers: Mapping[str, str]) -> list[str]:
    return _values(headers.get("sec-websocket-protocol", ""))


def _values(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def accept_websocket(headers: Mapping[str, str], supported: Sequence[str]) -> tuple[str, bytes]:
    """(sub-protocol, the 101 head). ``""`` in ``supported``: none needs to be asked for.

    :raises Refusal: 400 not a proper handshake, 403 no sub-protocol that we know.
    """
    key = headers.get("sec-websocket-key", "")
    if headers.get("sec-websocket-version", "").strip() != "13":
        raise Refusal(400, "missing or bad WebSocket Version", ("Sec-WebSocket-Version", "13"))
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise ValueError("not 16 bytes")
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "mismatch challenge/response") from error
    offered = offered_subprotocols(headers)
    chosen = next((p for p in offered or [""] if p in supported), None)
    if chosen is None:
        raise Refusal(
            403,
            f"requested protocol(s) are not supported: [{' '.join(offered)}]; "
            f"supports [{' '.join(supported)}]",
        )
    digest = hashlib.sha1(key.strip().encode() + _GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    if chosen:
        lines.append(f"Sec-WebSocket-Protocol: {chosen}")
    return chosen, _head(lines)


def accept_spdy(headers: Mapping[str, str], supported: Sequence[str]) -> tuple[str, bytes]:
    """(protocol, the 101 head). :raises Refusal: 400 not such an upgrade, 403 no common one."""
    text = headers.get(STREAM_PROTOCOL.lower())
    if text is None:
        raise Refusal(
            400,
            f"unable to upgrade: header {STREAM_PROTOCOL} does not exist in request "
            f"with {len(headers)} headers",
        )
    offered = _values(text)
    if not offered:
        raise Refusal(
            400,
            f"unable to upgrade: header {STREAM_PROTOCOL} contains [{text}], "
            "but no valid protocols",
        )
    chosen = next((p for p in offered if p in supported), None)
    if chosen is None:
        raise Refusal(
            403,
            f"unable to upgrade: unable to negotiate protocol: client supports "
            f"[{' '.join(offered)}], server accepts [{' '.join(supported)}]",
            *((ACCEPTED_PROTOCOLS, protocol) for protocol in supported),
        )
    if not _wants(headers, SPDY.lower()):
        raise Refusal(400, "unable to upgrade: missing upgrade headers in request")
    return chosen, _head([
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        f"Upgrade: {SPDY}",
        f"{STREAM_PROTOCOL}: {chosen}",
    ])  # fmt: skip


def _head(lines: list[str]) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
