"""Signing cluster-info with bootstrap tokens; deleting tokens that have expired."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from pilothouse.apimachinery.testing import make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.bootstrap.cleaner import TokenCleaner
from pilothouse.controllermanager.bootstrap.signer import BootstrapSigner, detached_signature
from pilothouse.kubeclient.resources import CONFIG_MAPS, SECRETS

SECRET = "s" * 16


def token(token_id="abcdef", secret=SECRET, **values):
    values = {"token-id": token_id, "token-secret": secret, "usage-bootstrap-signing": "true"} | {
        key.replace("_", "-"): value for key, value in values.items()
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return make_object(
        "v1", "Secret", f"bootstrap-token-{token_id}", "kube-system",
        type="bootstrap.kubernetes.io/token", data=data,
    )  # fmt: skip


def cluster_info(**data):
    return make_object("v1", "ConfigMap", "cluster-info", "kube-public", data=data)


def data_of(world):
    return world.client.current(CONFIG_MAPS, "cluster-info", "kube-public")["data"]


def test_signature_is_upstreams():
    """As in the tests of cluster-bootstrap/token/jws."""
    content = "Hello from the other side. I must have called a thousand times."
    expected = (
        "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
    )
    assert detached_signature(content, "joshua", "my voice is my passcode") == expected


async def test_cluster_info_is_signed_and_follows_the_tokens(world):
    world.client.seed(cluster_info(kubeconfig="k", **{"jws-kubeconfig-gone00": "x"}))
    world.client.seed(token())
    await world.run(BootstrapSigner(world.env))
    assert data_of(world) == {
        "kubeconfig": "k",
        "jws-kubeconfig-abcdef": detached_signature("k", "abcdef", SECRET),
    }
    world.client.remove(SECRETS, "bootstrap-token-abcdef", "kube-system")
    await world.settle()
    assert data_of(world) == {"kubeconfig": "k"}


@pytest.mark.parametrize(
    "secret",
    [
        token(usage_bootstrap_signing="false"),
        token(token_secret=""),
        token(expiration="2001-01-01T00:00:00Z"),
        token(expiration="nonsense"),
        token(token_id="abcdef") | {"type": "Opaque"},
    ],
)
async def test_tokens_that_must_not_sign(world, secret):
    world.client.seed(cluster_info(kubeconfig="k"))
    world.client.seed(secret)
    await world.run(BootstrapSigner(world.env))
    assert data_of(world) == {"kubeconfig": "k"}


async def test_without_a_kubeconfig_nothing_is_signed(world):
    world.client.seed(cluster_info(other="k"))
    world.client.seed(token())
    await world.run(BootstrapSigner(world.env))
    assert data_of(world) == {"other": "k"}


async def test_expired_tokens_are_deleted(world):
    end = format_time(world.clock.now() + timedelta(hours=1))
    world.client.seed(token(expiration=end))
    world.client.seed(token("bcdefg"))
    await world.run(TokenCleaner(world.env))
    await world.advance(3590)
    assert len(world.client.objects(SECRETS)) == 2
    await world.advance(20)
    assert [s["metadata"]["name"] for s in world.client.objects(SECRETS)] == [
        "bootstrap-token-bcdefg"
    ]
