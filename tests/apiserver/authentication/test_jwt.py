"""OpenID Connect logins: an issuer of our own over HTTPS, flags and configuration files."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apiserver.authentication.jws import Key, b64encode
from pilothouse.apiserver.authentication.jwt_settings import load_settings
from pilothouse.apiserver.authentication.metrics import digest
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.certs import KeyPair, make_ca, make_serving_cert, save_pair

Obj = dict[str, Any]
JWKS = "/keys"


class Issuer:
    """Answers discovery and keys; counts."""

    def __init__(self, folder: Path, ca: KeyPair | None = None) -> None:
        now = RealClock().now()
        self.ca = ca or make_ca("issuer-ca", now=now)
        pair = make_serving_cert(self.ca, "issuer", now=now, ips=("127.0.0.1",))
        save_pair(folder, "issuer", pair)
        self.folder = folder
        self.keys = [new_key("RS256")]
        self.asked: list[str] = []
        self.found = asyncio.Event()
        self.documents: dict[str, str] = {}
        """What is at other paths, for who shows ``bearer``."""
        self.bearer = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Issuer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "issuer.crt", self.folder / "issuer.key")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        answer: Obj = {"issuer": self.url, "jwks_uri": self.url + JWKS}
        if path == JWKS:
            answer = {"keys": [key.jwk() for key in self.keys]}
        body = json.dumps(answer).encode()
        status = b"200 OK"
        if path in self.documents:
            body = self.documents[path].encode()
            if self.bearer and f"Authorization: Bearer {self.bearer}".encode() not in head:
                status = b"403 Forbidden"
        writer.write(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        writer.close()
        self.found.set()


def new_key(algorithm: str) -> Key:
    private: Any
    if algorithm[:2] in ("RS", "PS"):
        private = rsa.generate_private_key(65537, 2048)
    else:
        curves = {"256": ec.SECP256R1, "384": ec.SECP384R1, "512": ec.SECP521R1}
        private = ec.generate_private_key(curves[algorithm[2:]]())
    return Key(private.public_key(), private)


def token(issuer: Issuer, *, key: Key | None = None, algorithm: str = "", **claims: Any) -> str:
    key = key or issuer.keys[0]
    algorithm = algorithm or key.algorithm
    now = int(time.time())
    body = {"iss": issuer.url, "aud": "me", "sub": "ann", "exp": now + 60, "jti": "7"} | claims
    header = {"alg": algorithm, "kid": key.key_id}
    parts = (json.dumps(part).encode() for part in (header, body))
    data = ".".join(b64encode(part) for part in parts)
    return f"{data}.{b64encode(sign(key, algorithm, data.encode()))}"


def sign(key: Key, algorithm: str, data: bytes) -> bytes:
    digest: Any = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}[algorithm[2:]]
    if algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(digest()), digest().digest_size)
        return bytes(key.private.sign(data, scheme, digest()))
    if algorithm.startswith("RS"):
        return bytes(key.private.sign(data, padding.PKCS1v15(), digest()))
    return key.sign(data)


async def whoami(server: APIServer, bearer: str) -> Obj | int:
    """The user, or the status of the refusal."""
    body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    headers = {"Authorization": f"Bearer {bearer}"}
    async with aiohttp.ClientSession() as session:
        async with session.post(server.url + path, json=body, headers=headers) as answer:
            if answer.status != 201:
                return answer.status
            user: Obj = (await answer.json())["status"]["userInfo"]
            return user


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    async with Issuer(tmp_path) as running:
        yield running


async def discovered(issuer: Issuer) -> None:
    async with asyncio.timeout(5):
        await issuer.found.wait()
        await asyncio.sleep(0.02)  # until the answer has arrived


def flags(issuer: Issuer, tmp_path: Path, **more: Any) -> Obj:
    (tmp_path / "ca.crt").write_bytes(issuer.ca.cert)
    given = {
        "oidc_issuer_url": issuer.url,
        "oidc_client_id": "me",
        "oidc_ca_file": str(tmp_path / "ca.crt"),
    }
    return given | more


async def test_flags(issuer: Issuer, tmp_path: Path) -> None:
    settings = flags(
        issuer, tmp_path, oidc_groups_claim="groups", oidc_groups_prefix="oidc:",
        oidc_required_claim=("hd=acme.com",),
    )  # fmt: skip
    async with running_server(clock=RealClock(), serve=True, **settings) as server:
        await discovered(issuer)
        user = await whoami(server, token(issuer, hd="acme.com", groups=["devs"]))
        assert user == {
            "username": f"{issuer.url}#ann",
            "groups": ["oidc:devs", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=7"]},
        }
        for wrong in (
            token(issuer),  # the required claim is missing
            token(issuer, hd="other.com"),
            token(issuer, hd="acme.com", aud="you"),
            token(issuer, hd="acme.com", exp=int(time.time()) - 1),
            token(issuer, hd="acme.com", exp=float("nan")),
            token(issuer, hd="acme.com", exp="later"),
            token(issuer, hd="acme.com", nbf=int(time.time()) + 3600),
            token(issuer, hd="acme.com", iss="https://example.com"),
            token(issuer, hd="acme.com", key=new_key("RS256")),
            token(issuer, hd="acme.com", algorithm="RS384"),  # not among --oidc-signing-algs
            token(issuer, hd="acme.com")[:-4] + "AAAA",
        ):
            assert await whoami(server, wrong) == 401


async def test_distributed_claims(issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with Issuer(tmp_path / "other", issuer.ca) as other:
        settings = flags(issuer, tmp_path, oidc_groups_claim="groups")

        def distributed(path: str = "/groups", **more: Any) -> str:
            source = {"endpoint": other.url + path, "access_token": "f005ba11"}
            claims = {"_claim_names": {"groups": "src"}, "_claim_sources": {"src": source}}
            return token(issuer, **claims | more)

        other.bearer = "f005ba11"
        other.documents = {
            "/groups": token(other, groups=["a", "b"]),
            "/none": token(other),
            "/old": token(other, groups=["a"], exp=1),
            "/forged": token(other, groups=["a"], key=new_key("RS256")),
            "/elsewhere": token(other, groups=["a"], iss="https://127.0.0.1:1"),
            "/audience": token(other, groups=["a"], aud="you"),
            "/text": "no token",
        }
        async with running_server(clock=RealClock(), serve=True, **settings) as server:
            await discovered(issuer)
            user = await whoami(server, distributed())
            assert isinstance(user, dict)
            assert user["groups"] == ["a", "b", "system:authenticated"]
            for path in ("/none", "/old", "/forged", "/elsewhere", "/audience", "/text"):
                assert await whoami(server, distributed(path)) == 401, path
            other.bearer = "another"
            assert await whoami(server, distributed(jti="8")) == 401
            # What is in the token itself goes before.
            user = await whoami(server, distributed(groups=["c"]))
            assert isinstance(user, dict)
            assert user["groups"] == ["c", "system:authenticated"]
            for wrong in (
                {"_claim_names": "x"},
                {"_claim_sources": None},
                {"_claim_sources": {}},
                {"_claim_sources": {"src": "x"}},
            ):
                assert await whoami(server, distributed(**wrong)) == 401, wrong
            for none in (
                {"_claim_names": {"other": "src"}},
                {"_claim_sources": {"src": {"JWT": "x"}}},
            ):
                user = await whoami(server, distributed(**none))
                assert isinstance(user, dict)
                assert user["groups"] == ["system:authenticated"]


async def test_new_keys_are_fetched_when_they_are_needed(issuer: Issuer, tmp_path: Path) -> None:
    async with running_server(clock=RealClock(), serve=True, **flags(issuer, tmp_path)) as server:
        await discovered(issuer)
        for number in range(3):
            assert isinstance(await whoami(server, token(issuer, jti=str(number))), dict)
        assert issuer.asked.count(JWKS) == 1
        key_sets: Any = server.metrics.get(
            "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info"
        )
        (before,) = key_sets.values
        issuer.keys = [new_key("RS256")]
        assert isinstance(await whoami(server, token(issuer)), dict)
        assert issuer.asked.count(JWKS) == 2
        (after,) = key_sets.values
        assert before[:2] == after[:2] == (digest(issuer.url), "")
        assert before[2] != after[2]


async def test_metrics(issuer: Issuer, tmp_path: Path) -> None:
    async with running_server(clock=RealClock(), serve=True, **flags(issuer, tmp_path)) as server:
        await discovered(issuer)
        made = token(issuer)
        for bearer in (made, made, token(issuer, aud="you"), token(issuer, iss="https://x.y")):
            await whoami(server, bearer)
        seconds: Any = server.metrics.get(
            "apiserver_authentication_jwt_authenticator_latency_seconds"
        )
        # A token that is known by now and one of another issuer are not counted.
        counts = {labels: sum(series.counts) for labels, series in seconds.series()}
        hashed = digest(issuer.url)
        assert counts == {("success", hashed): 1, ("failure", hashed): 1}
        fetched: Any = server.metrics.get(
            "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds"
        )
        assert list(fetched.values) == [("success", hashed, "")]


async def test_email_must_be_verified(issuer: Issuer, tmp_path: Path) -> None:
    settings = flags(issuer, tmp_path, oidc_username_claim="email")
    async with running_server(clock=RealClock(), serve=True, **settings) as server:
        await discovered(issuer)
        good = await whoami(server, token(issuer, email="a@b.c", email_verified=True))
        assert isinstance(good, dict)
        assert good["username"] == "a@b.c"
        assert await whoami(server, token(issuer, email="a@b.c", email_verified=False)) == 401
        assert await whoami(server, token(issuer)) == 401


def configuration(source: Issuer, *, anonymous: Obj | None = None, **more: Any) -> str:
    jwt = {
        "issuer": {
            "url": source.url,
            "audiences": ["me", "us"],
            "audienceMatchPolicy": "MatchAny",
            "certificateAuthority": source.ca.cert.decode(),
        },
        "claimMappings": {
            "username": {"expression": "'oidc:' + claims.sub"},
            "groups": {"expression": "claims.roles.split(',')"},
            "uid": {"claim": "uid"},
            "extra": [{"key": "acme.com/tenant", "valueExpression": "claims.tenant"}],
        },
        "claimValidationRules": [
            {"expression": "claims.exp - claims.iat <= 3600", "message": "too long"}
        ],
        "userValidationRules": [
            {"expression": "!user.username.startsWith('oidc:system:')", "message": "reserved"}
        ],
    }
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [jwt | more],
    }
    if anonymous is not None:
        config["anonymous"] = anonymous
    return json.dumps(config)


async def test_configuration_file(issuer: Issuer, tmp_path: Path) -> None:
    issuer.keys = [new_key(a) for a in ("ES256", "ES384", "ES512", "PS256")]
    file = tmp_path / "authn.json"
    anonymous = {"enabled": True, "conditions": [{"path": "/livez"}]}
    file.write_text(configuration(issuer, anonymous=anonymous))
    now = int(time.time())
    claims = {"iat": now, "roles": "a,b", "uid": "u1", "tenant": ["t"]}
    async with running_server(
        clock=RealClock(), serve=True, authentication_config=str(file)
    ) as server:
        await discovered(issuer)
        for key, algorithm in zip(
            [*issuer.keys, issuer.keys[3], issuer.keys[3]],
            ["ES256", "ES384", "ES512", "PS256", "PS512", "RS512"],
            strict=True,
        ):
            made = token(issuer, key=key, algorithm=algorithm, aud=["x", "us"], **claims)
            user = await whoami(server, made)
            assert isinstance(user, dict)
        assert user == {
            "username": "oidc:ann",
            "uid": "u1",
            "groups": ["a", "b", "system:authenticated"],
            "extra": {
                "acme.com/tenant": ["t"],
                "authentication.kubernetes.io/credential-id": ["JTI=7"],
            },
        }
        long = token(issuer, **claims | {"exp": now + 7200})
        assert await whoami(server, long) == 401
        assert await whoami(server, token(issuer, sub="system:x", **claims)) == 401
        async with aiohttp.ClientSession(server.url) as session:
            async with session.get("/livez") as answer:
                assert answer.status == 200
            async with session.get("/version") as answer:
                assert answer.status == 401
        mapping = {"username": {"claim": "sub", "prefix": ""}}
        file.write_text(configuration(issuer, anonymous=anonymous, claimMappings=mapping))
        async with asyncio.timeout(5):
            while True:
                user = await whoami(server, token(issuer, **claims))
                if isinstance(user, dict) and user["username"] == "ann":
                    break
                await asyncio.sleep(0.01)
        prefix = "apiserver_authentication_config_controller"
        reloads: Any = server.metrics.get(f"{prefix}_automatic_reloads_total")
        assert reloads.values == {("success", ""): 1}
        applied: Any = server.metrics.get(f"{prefix}_last_config_info")
        assert list(applied.values) == [("", digest(file.read_bytes()))]
        file.write_text("{}")
        async with asyncio.timeout(5):
            while True:
                if ("failure", "") in reloads.values:
                    break
                await asyncio.sleep(0.01)
        assert len(applied.values) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"issuer": {"url": "http://x", "audiences": ["a"]}},
            'jwt[0].issuer.url: Invalid value: "http://x": URL scheme must be https',
        ),
        (
            {"issuer": {"url": "https://own", "audiences": ["a"]}},
            "URL must not overlap with disallowed issuers: [https://own]",
        ),
        (
            {"issuer": {"url": "https://x", "audiences": []}},
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is",
        ),
        (
            {"issuer": {"url": "https://x", "audiences": ["a", "b"]}},
            "audienceMatchPolicy must be MatchAny for multiple audiences",
        ),
        (
            {"claimMappings": {}},
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            {"claimMappings": {"username": {"claim": "sub"}}},
            "prefix is required when claim is set",
        ),
        (
            {"claimMappings": {"username": {"expression": "claims.email"}}},
            "claims.email_verified must be used",
        ),
        (
            {"claimValidationRules": [{"expression": "claims.a"}]},
            "jwt[0].claimValidationRules[0].expression: Invalid value",
        ),
        ({"userValidationRules": [{"expression": "user.nose"}]}, "undefined field 'nose'"),
        (
            {
                "claimMappings": {
                    "username": {"claim": "sub", "prefix": ""},
                    "extra": [{"key": "k8s.io/x", "valueExpression": "'a'"}],
                }
            },
            "are reserved for Kubernetes use",
        ),
        ({"nose": 1}, 'strict decoding error: unknown field "jwt[0].nose"'),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, change: Obj, message: str) -> None:
    issuer = Issuer(tmp_path)
    issuer.port = 1
    load_settings(configuration(issuer).encode(), ["https://own"])
    with pytest.raises(ValueError) as caught:
        load_settings(configuration(issuer, **change).encode(), ["https://own"])
    assert message in str(caught.value)
