"""Whatever arrives as a credential is refused, never an internal error."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.authentication.build import build_authenticator
from pilothouse.apiserver.authentication.jws import b64encode
from pilothouse.apiserver.testing_listers import DictListers
from pilothouse.componentbase.certs import make_ca
from pilothouse.componentbase.der import pem_blocks, read_certificate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AUTHENTICATOR = build_authenticator(None, DictListers(), FakeClock(NOW))
CERTIFICATE = pem_blocks(make_ca("kubernetes", now=NOW).cert)[0]
ISSUER = "https://kubernetes.default.svc.cluster.local"


async def refused(headers: dict[str, str], der: bytes | None = None) -> None:
    with pytest.raises(StatusError) as caught:
        await AUTHENTICATOR.authenticate(headers, der)
    assert caught.value.code == 401


@given(st.text(min_size=1).filter(str.strip))
async def test_any_text_as_token(token: str) -> None:
    await refused({"authorization": f"Bearer {token}"})


@given(st.binary(), st.binary(), st.binary())
async def test_any_three_parts(header: bytes, body: bytes, signature: bytes) -> None:
    token = ".".join(b64encode(part) for part in (header, body, signature))
    await refused({"authorization": f"Bearer {token}"})


@given(st.binary(), st.binary())
async def test_our_issuer_with_anything_else(header: bytes, signature: bytes) -> None:
    body = f'{{"iss":"{ISSUER}"}}'.encode()
    token = ".".join(b64encode(part) for part in (header, body, signature))
    await refused({"authorization": f"Bearer {token}"})


async def test_deep_nesting() -> None:
    body = b64encode(b"[" * 100_000)
    await refused({"authorization": f"Bearer {b64encode(b'{}')}.{body}.{body}"})


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(0, 255))
def test_damaged_certificates(position: int, byte: int) -> None:
    damaged = CERTIFICATE[:position] + bytes([byte]) + CERTIFICATE[position + 1 :]
    try:
        read_certificate(damaged)
    except ValueError:
        pass


@given(st.binary())
async def test_no_certificate_at_all(der: bytes) -> None:
    await refused({}, der)
