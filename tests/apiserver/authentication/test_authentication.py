"""Certificates, token files, front proxies, anonymous, and the order among them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.authentication.build import ClusterAuthenticator, build_authenticator
from pilothouse.apiserver.authentication.jws import b64encode
from pilothouse.apiserver.authentication.tokenfile import parse_token_file
from pilothouse.apiserver.authentication.users import ANONYMOUS, split_service_account
from pilothouse.apiserver.testing_listers import DictListers
from pilothouse.componentbase.certs import KeyPair, make_ca, make_client_cert
from pilothouse.componentbase.der import pem_blocks

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def der(pair: KeyPair) -> bytes:
    return pem_blocks(pair.cert)[0]


class Config:
    def __init__(self, **flags: Any) -> None:
        self.__dict__.update(flags)


def build(clock: FakeClock, **flags: Any) -> ClusterAuthenticator:
    return build_authenticator(Config(**flags), DictListers(), clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


async def test_certificate_names_user_and_groups(clock: FakeClock) -> None:
    ca = make_ca("kubernetes", now=NOW)
    pair = make_client_cert(ca, "alice", ["dev", "ops"], now=NOW)
    user = await build(clock).authenticate({}, der(pair))
    assert user and user.name == "alice"
    assert user.groups == ("dev", "ops", "system:authenticated")
    ((key, values),) = user.extra
    assert key == "authentication.kubernetes.io/credential-id"
    assert values[0].startswith("X509SHA256=")


async def test_certificate_expires_on_an_open_connection(clock: FakeClock) -> None:
    pair = make_client_cert(make_ca("kubernetes", now=NOW), "alice", now=NOW, days=1)
    authenticator = build(clock)
    assert await authenticator.authenticate({}, der(pair))
    clock.advance(timedelta(days=2).total_seconds())
    with pytest.raises(StatusError) as caught:
        await authenticator.authenticate({}, der(pair))
    assert (caught.value.code, caught.value.message) == (401, "Unauthorized")


async def test_anonymous(clock: FakeClock) -> None:
    assert await build(clock).authenticate({}, None) == ANONYMOUS
    with pytest.raises(StatusError):
        await build(clock, anonymous_auth=False).authenticate({}, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer nonsense"},
        {"authorization": "Bearer a.b.c"},
        {"sec-websocket-protocol": f"base64url.bearer.authorization.k8s.io.{b64encode(b'x')}"},
    ],
)
async def test_wrong_tokens_are_401(clock: FakeClock, headers: dict[str, str]) -> None:
    with pytest.raises(StatusError) as caught:
        await build(clock).authenticate(headers, None)
    assert caught.value.status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }


async def test_token_file(clock: FakeClock, tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('abc,alice,u1,"dev,ops"\n\nxyz,bob,u2\n')
    authenticator = build(clock, token_auth_file=str(path))
    user = await authenticator.authenticate({"authorization": "bearer abc"}, None)
    assert user and (user.name, user.uid) == ("alice", "u1")
    assert user.groups == ("dev", "ops", "system:authenticated")
    protocol = f"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{b64encode(b'xyz')}"
    user = await authenticator.authenticate({"sec-websocket-protocol": protocol}, None)
    assert user and user.name == "bob"
    with pytest.raises(ValueError, match="at least 3 columns"):
        parse_token_file(["a,b"])


async def test_front_proxy(clock: FakeClock, tmp_path: Path) -> None:
    ca, proxy_ca = make_ca("kubernetes", now=NOW), make_ca("front-proxy-ca", now=NOW)
    (tmp_path / "ca.crt").write_bytes(ca.cert)
    (tmp_path / "proxy.crt").write_bytes(proxy_ca.cert)
    authenticator = build(
        clock,
        client_ca_file=str(tmp_path / "ca.crt"),
        requestheader_client_ca_file=str(tmp_path / "proxy.crt"),
        requestheader_allowed_names=["front-proxy-client"],
        requestheader_extra_headers_prefix=["X-Remote-Extra-"],
    )
    headers = {"x-remote-user": "carol", "x-remote-group": "a\nb", "x-remote-extra-k%2fv": "1"}
    proxy = der(make_client_cert(proxy_ca, "front-proxy-client", now=NOW))
    user = await authenticator.authenticate(headers, proxy)
    assert user and (user.name, user.extra) == ("carol", (("k/v", ("1",)),))
    assert user.groups == ("a", "b", "system:authenticated")
    # A client's own certificate vouches for nobody else, a proxy's for no user of its name.
    alice = der(make_client_cert(ca, "front-proxy-client", now=NOW))
    user = await authenticator.authenticate(headers, alice)
    assert user and user.name == "front-proxy-client"
    assert await authenticator.authenticate({}, proxy) == ANONYMOUS
    other = der(make_client_cert(proxy_ca, "someone-else", now=NOW))
    assert await authenticator.authenticate(headers, other) == ANONYMOUS
    forged = der(
        make_client_cert(make_ca("front-proxy-ca", now=NOW), "front-proxy-client", now=NOW)
    )
    assert await authenticator.authenticate(headers, forged) == ANONYMOUS
    with pytest.raises(StatusError):  # what TLS could not verify
        await authenticator.authenticate(headers, b"")


def test_split_service_account() -> None:
    assert split_service_account("system:serviceaccount:ns:n") == ("ns", "n")
    assert split_service_account("system:serviceaccount:ns") is None
    assert split_service_account("alice") is None
