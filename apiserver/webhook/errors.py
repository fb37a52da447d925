"""What a failed call of a webhook says: Go's words for what our sockets and TLS report; pure."""

from __future__ import annotations

import re
import socket
import ssl

import orjson

_X509 = "tls: failed to verify certificate: x509: "
_ANSWERED = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be "
    "processing the request",
}
DEADLINE = "context deadline exceeded"
_NAMES = re.compile(r"certificate is not valid for '([^']+)'")


class CallError(Exception):
    """No usable answer. ``code`` is the HTTP status for metrics: the backend's, else 503."""

    def __init__(self, text: str, code: int = 503) -> None:
        super().__init__(text)
        self.code = code


def post_failed(url: str, reason: str) -> CallError:
    """An error before there was an answer, as Go's http.Client words it."""
    return CallError(f'Post "{url}": {reason}')


def dial_reason(error: BaseException, address: str) -> str:
    """Why a connection to ``address`` (``host:port``) did not come about."""
    if isinstance(error, TimeoutError):
        return DEADLINE
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_reason(error)
    if isinstance(error, ssl.SSLError):
        return _tls_reason(error)
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {address}: connect: connection refused"
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {address.rpartition(':')[0]}: no such host"
    if isinstance(error, ConnectionResetError):
        return "EOF"
    if isinstance(error, OSError) and error.strerror:
        return f"dial tcp {address}: connect: {error.strerror.lower()}"
    return f"dial tcp {address}: {error or type(error).__name__}"


def _certificate_reason(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message or ""
    if "expired" in text or "not yet valid" in text:
        return f"{_X509}certificate has expired or is not yet valid"
    wrong_name = _NAMES.search(text)
    if wrong_name or "mismatch" in text:
        name = wrong_name[1] if wrong_name else "the host"
        return f"{_X509}certificate is not valid for {name}"
    return f"{_X509}certificate signed by unknown authority"


def _tls_reason(error: ssl.SSLError) -> str:
    if error.reason == "WRONG_VERSION_NUMBER":
        return "http: server gave HTTP response to HTTPS client"
    reason = (error.reason or "handshake failure").lower().replace("_", " ")
    return f"remote error: tls: {reason}"


def answered(status: int, body: bytes, content_type: str = "") -> CallError:
    """An HTTP status that is no success, as client-go's generic server response words it."""
    failure = _failure(body)
    if failure:
        return CallError(failure, status)
    shown = "unknown"
    if not content_type or content_type.startswith("text/"):
        shown = body.decode("utf-8", "replace").strip() or shown
    text = _ANSWERED.get(status)
    if status in (403, 415):
        text = shown
    elif status == 406:
        text = shown
        if shown == "unknown":
            text = "the server was unable to respond with a content type that the client supports"
    elif text is None and status >= 500:
        text = f'an error on the server ("{shown}") has prevented the request from succeeding'
    elif text is None:
        text = (
            f"the server responded with the status code {status} but did not return more "
            "information"
        )
    return CallError(text, status)


def _failure(body: bytes) -> str:
    """The message of a Status that says Failure."""
    if not body.startswith(b"{"):
        return ""
    try:
        found = orjson.loads(body)
    except ValueError:
        return ""
    if found.get("kind") == "Status" and found.get("status") == "Failure":
        return str(found.get("message") or "")
    return ""
