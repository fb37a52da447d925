"""TokenRequest, and how its tokens authenticate and stop to."""

from __future__ import annotations

import json
import random
from base64 import b64encode as b64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.authentication.build import ClusterAuthenticator, build_authenticator
from pilothouse.apiserver.authentication.discovery import jwks, openid_configuration
from pilothouse.apiserver.authentication.jws import Key, KeySet, b64decode
from pilothouse.apiserver.authentication.serviceaccount import (
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from pilothouse.apiserver.authentication.tokens import InvalidToken
from pilothouse.apiserver.registry.subresources.token import (
    TokenIssuer,
    build_token_issuer,
    credential_id,
)
from pilothouse.apiserver.testing_listers import DictListers
from pilothouse.componentbase.certs import make_private_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER = "https://kubernetes.default.svc.cluster.local"


class Cluster:
    def __init__(self, **flags: Any) -> None:
        self.clock = FakeClock(NOW)
        self.listers = DictListers()
        config = type("Config", (), flags)()
        self.authenticator: ClusterAuthenticator = build_authenticator(
            config, self.listers, self.clock
        )
        self.issuer: TokenIssuer = build_token_issuer(
            config, self.authenticator, self.listers, self.clock, random.Random(1)
        )
        self.account = {"metadata": {"name": "bot", "namespace": "ns", "uid": "u1"}}
        self.listers.put(SERVICE_ACCOUNTS, self.account)
        self.listers.put(NODES, {"metadata": {"name": "n1", "uid": "un"}})
        self.pod: Obj = {
            "metadata": {"name": "p", "namespace": "ns", "uid": "up"},
            "spec": {"serviceAccountName": "bot", "nodeName": "n1"},
        }
        self.listers.put(PODS, self.pod)
        self.warnings: list[str] = []

    def issue(self, **spec: Any) -> Obj:
        return self.issuer.issue("ns", "bot", {"spec": spec}, self.warnings)

    def token(self, **spec: Any) -> str:
        return str(self.issue(**spec)["status"]["token"])

    async def check(self, token: str, *audiences: str) -> Any:
        assert self.authenticator.tokens
        return await self.authenticator.tokens.authenticate_token(token, audiences)

    async def error(self, token: str, *audiences: str) -> str:
        with pytest.raises(InvalidToken) as caught:
            await self.check(token, *audiences)
        return str(caught.value)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def claims_of(token: str) -> Obj:
    return dict(json.loads(b64decode(token.split(".")[1])))


async def test_issued_token_authenticates(cluster: Cluster) -> None:
    answer = cluster.issue()
    assert credential_id(answer["status"]["token"]).startswith("JTI=")
    assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3600}
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:00Z"
    assert answer["metadata"]["name"] == "bot"
    headers = {"authorization": f"Bearer {answer['status']['token']}"}
    user = await cluster.authenticator.authenticate(headers, None)
    assert user and user.name == "system:serviceaccount:ns:bot"
    assert user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:ns",
        "system:authenticated",
    )
    assert user.uid == "u1"
    claims = claims_of(answer["status"]["token"])
    assert claims["sub"] == user.name and claims["iss"] == ISSUER
    assert claims["kubernetes.io"] == {
        "namespace": "ns",
        "serviceaccount": {"name": "bot", "uid": "u1"},
    }
    assert user.extra == (
        ("authentication.kubernetes.io/credential-id", (f"JTI={claims['jti']}",)),
    )


async def test_pod_bound_token(cluster: Cluster) -> None:
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "up"}
    token = cluster.token(boundObjectRef=reference, expirationSeconds=3607)
    claims = claims_of(token)
    assert claims["kubernetes.io"]["pod"] == {"name": "p", "uid": "up"}
    assert claims["kubernetes.io"]["node"] == {"name": "n1", "uid": "un"}
    assert claims["kubernetes.io"]["warnafter"] == claims["iat"] + 3607
    assert claims["exp"] == claims["iat"] + 365 * 24 * 3600
    extra = dict((await cluster.check(token)).user.extra)
    assert extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert extra["authentication.kubernetes.io/node-uid"] == ("un",)
    cluster.listers.remove(PODS, "ns", "p")
    assert await cluster.error(token) == "service account token has been invalidated"
    cluster.listers.put(PODS, {**cluster.pod, "metadata": {**cluster.pod["metadata"], "uid": "2"}})
    expected = "pod UID (2) does not match service account pod ref claim (up)"
    assert await cluster.error(token) == expected


async def test_deleted_pod_keeps_its_token_for_a_minute(cluster: Cluster) -> None:
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
    token = cluster.token(boundObjectRef=reference)
    metadata = {**cluster.pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    cluster.listers.put(PODS, {**cluster.pod, "metadata": metadata})
    assert await cluster.check(token)
    cluster.clock.advance(61)
    assert await cluster.error(token) == "service account token has been invalidated"


async def test_expiry_and_account_changes(cluster: Cluster) -> None:
    token = cluster.token(expirationSeconds=600)
    cluster.clock.advance(659)
    assert await cluster.check(token)
    cluster.clock.advance(2)
    assert await cluster.error(token) == "service account token has expired"
    token = cluster.token()
    cluster.listers.put(SERVICE_ACCOUNTS, {"metadata": {**cluster.account["metadata"], "uid": "9"}})
    assert await cluster.error(token) == "service account UID (9) does not match claim (u1)"
    cluster.listers.remove(SERVICE_ACCOUNTS, "ns", "bot")
    assert await cluster.error(token) == 'serviceaccounts "bot" not found'


async def test_audiences(cluster: Cluster) -> None:
    token = cluster.token(audiences=["vault", "other"])
    text = await cluster.error(token)
    assert text == (
        f'token audiences ["vault" "other"] is invalid for the target audiences ["{ISSUER}"]'
    )
    found = await cluster.check(token, "vault", "x")
    assert found.audiences == ("vault",)


async def test_forged_tokens(cluster: Cluster) -> None:
    token = cluster.token()
    head, body, signature = token.split(".")
    assert await cluster.error(f"{head}.{body}.{signature[:-4]}AAAA")
    stranger = Cluster().token()
    assert await cluster.error(stranger) == "invalid signature, no keys found"
    none_header = b64(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    assert await cluster.error(f"{none_header}.{body}.")
    assert await cluster.check("not-a-token") is None


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 1 << 33}, 422, "may not specify a duration larger than 2^32"),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}},
            404,
            'pods "none" not found',
        ),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "old"}},
            409,
            'Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (old)',
        ),
        (
            {"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "d"}},
            400,
            "cannot bind token to object of type apps/v1, Kind=Deployment",
        ),
    ],
)
def test_refusals(cluster: Cluster, spec: Obj, code: int, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        cluster.issue(**spec)
    assert caught.value.code == code
    assert text in caught.value.message


def test_pod_of_another_account(cluster: Cluster) -> None:
    cluster.listers.put(PODS, {**cluster.pod, "spec": {"serviceAccountName": "else"}})
    with pytest.raises(StatusError, match="to pod running with different serviceaccount name"):
        cluster.issue(boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p"})


def test_maximum_shortens_with_a_warning() -> None:
    cluster = Cluster(service_account_max_token_expiration=1000)
    assert cluster.issue(expirationSeconds=5000)["spec"]["expirationSeconds"] == 1000
    assert cluster.warnings == ["requested expiration of 5000 seconds shortened to 1000 seconds"]


async def test_secret_and_node_bound(cluster: Cluster) -> None:
    secret = {"metadata": {"name": "s", "namespace": "ns", "uid": "us"}}
    cluster.listers.put(SECRETS, secret)
    token = cluster.token(boundObjectRef={"kind": "Secret", "apiVersion": "v1", "name": "s"})
    assert await cluster.check(token)
    cluster.listers.remove(SECRETS, "ns", "s")
    assert await cluster.error(token) == "service account token has been invalidated"
    token = cluster.token(boundObjectRef={"kind": "Node", "apiVersion": "v1", "name": "n1"})
    assert await cluster.check(token)
    cluster.listers.remove(NODES, "", "n1")
    assert await cluster.error(token) == "service account token has been invalidated"


async def test_keys_from_files_and_rotation(tmp_path: Path) -> None:
    (tmp_path / "old.key").write_bytes(make_private_key())
    (tmp_path / "new.key").write_bytes(make_private_key())
    old = Cluster(service_account_signing_key_file=str(tmp_path / "old.key"))
    new = Cluster(
        service_account_signing_key_file=str(tmp_path / "new.key"),
        service_account_key_file=[str(tmp_path / "old.key")],
    )
    assert await new.check(old.token())
    assert await new.check(new.token())
    assert await old.error(new.token())


async def test_legacy_secret_token(cluster: Cluster) -> None:
    prefix = "kubernetes.io/serviceaccount/"
    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:ns:bot",
        f"{prefix}namespace": "ns",
        f"{prefix}secret.name": "s",
        f"{prefix}service-account.name": "bot",
        f"{prefix}service-account.uid": "u1",
    }
    token = cluster.authenticator.keys.sign(claims)
    assert await cluster.error(token) == "service account token has been invalidated"
    data = {"token": b64(token.encode()).decode()}
    cluster.listers.put(SECRETS, {"metadata": {"name": "s", "namespace": "ns"}, "data": data})
    assert (await cluster.check(token)).user.name == "system:serviceaccount:ns:bot"
    cluster.listers.put(SECRETS, {"metadata": {"name": "s", "namespace": "ns"}, "data": {}})
    assert await cluster.error(token) == "service account token does not match server's copy"


def test_rsa_keys_sign_and_verify() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048)
    key = Key(private.public_key(), private)
    keys = KeySet(lambda: (key, ()))
    assert keys.verify(keys.sign({"a": 1})) == {"a": 1}
    assert jwks(keys)["keys"][0].keys() == {"kty", "use", "kid", "alg", "n", "e"}


def test_discovery_documents(cluster: Cluster) -> None:
    import jwt

    keys = cluster.authenticator.keys
    token = cluster.token()
    (published,) = jwks(keys)["keys"]
    decoded = jwt.decode(
        token,
        jwt.PyJWK(published).key,
        algorithms=["ES256"],
        audience=ISSUER,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert decoded["sub"] == "system:serviceaccount:ns:bot"
    assert published["kid"] == jwt.get_unverified_header(token)["kid"]
    document = openid_configuration(keys, ISSUER, external_address="10.0.0.1:6443")
    assert document["jwks_uri"] == "https://10.0.0.1:6443/openid/v1/jwks"
    assert document["id_token_signing_alg_values_supported"] == ["ES256"]
