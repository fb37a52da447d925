"""The words of failed calls."""

from __future__ import annotations

import socket
import ssl

import pytest

from pilothouse.apiserver.webhook.errors import answered, dial_reason


def _certificate(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(), "dial tcp h:1: connect: connection refused"),
        (TimeoutError(), "context deadline exceeded"),
        (socket.gaierror(-2, "unknown"), "dial tcp: lookup h: no such host"),
        (OSError(113, "No route to host"), "dial tcp h:1: connect: no route to host"),
        (ConnectionResetError(), "EOF"),
        (
            _certificate("certificate has expired"),
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
        (
            _certificate("Hostname mismatch, certificate is not valid for 'h'."),
            "tls: failed to verify certificate: x509: certificate is not valid for h",
        ),
        (
            _certificate("unable to get local issuer certificate"),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
    ],
)
def test_dialling(error: BaseException, text: str) -> None:
    assert dial_reason(error, "h:1") == text


def test_answers() -> None:
    assert str(answered(503, b"")) == "the server is currently unable to handle the request"
    assert answered(503, b"").code == 503
    assert '"unknown"' in str(answered(500, b""))
    assert "status code 302" in str(answered(302, b""))
