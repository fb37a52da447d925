"""A node joins with nothing but a bootstrap token: cluster-info, CSR, approval, kubeconfig."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.cluster.config import ClusterConfig
from pilothouse.cluster.core import ClusterCore
from pilothouse.cluster.joining import publish
from pilothouse.controllermanager.bootstrap.signer import detached_signature
from pilothouse.kubeclient import kubeconfig
from pilothouse.kubeclient.https import HTTPSClient
from pilothouse.kubeclient.resources import CONFIG_MAPS, NODES, SECRETS
from pilothouse.kubelet.certificate.bootstrap import bootstrap, still_valid

TOKEN = "abcdef.0123456789abcdef"
PATH = "/api/v1/namespaces/kube-public/configmaps/cluster-info"


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[ClusterCore]:
    config = ClusterConfig(
        name="join", nodes=0, storage="memory", port=0, data_dir=str(tmp_path / "data"),
        kubeconfig=str(tmp_path / "kubeconfig"), components=("apiserver", "controller-manager"),
    )  # fmt: skip
    made = ClusterCore(config)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def add_token(core: ClusterCore) -> None:
    values = {
        "token-id": TOKEN[:6],
        "token-secret": TOKEN[7:],
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }
    secret = {
        "metadata": {"name": f"bootstrap-token-{TOKEN[:6]}"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
    await core.client.create(SECRETS, secret, "kube-system")
    await core.settle()


async def read_as_a_stranger(core: ClusterCore) -> dict[str, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession() as session:
        async with session.get(core.server_url + PATH, ssl=context) as answer:
            assert answer.status == 200
            data: dict[str, str] = (await answer.json())["data"]
            return data


async def test_discovery(core: ClusterCore) -> None:
    await add_token(core)
    data = await read_as_a_stranger(core)
    content = data["kubeconfig"]
    assert data["jws-kubeconfig-abcdef"] == detached_signature(content, TOKEN[:6], TOKEN[7:])
    found = json.loads(content)
    assert found["clusters"][0]["cluster"]["server"] == core.server_url
    assert (found["users"], found["contexts"]) == ([], [])


async def test_a_cluster_at_another_address_says_so(core: ClusterCore) -> None:
    await add_token(core)
    await publish(core.client, "https://elsewhere:6443", b"ca")
    await core.settle()
    config_map = await core.client.get(CONFIG_MAPS, "cluster-info", "kube-public")
    content = config_map["data"]["kubeconfig"]
    assert "https://elsewhere:6443" in content
    signature = detached_signature(content, TOKEN[:6], TOKEN[7:])
    assert config_map["data"]["jws-kubeconfig-abcdef"] == signature


async def test_what_kubeadm_join_reads(core: ClusterCore) -> None:
    """With the token's rights, as ``kubeadm join`` asks for it."""
    await add_token(core)
    assert core.pki is not None
    made = kubeconfig.make(
        "b", core.server_url, ca_data=core.pki.crt("ca").read_bytes(), token=TOKEN
    )
    client = HTTPSClient(kubeconfig.client_config(made), RealClock())
    try:
        cluster = await client.get(CONFIG_MAPS, "kubeadm-config", "kube-system")
        kubelet = await client.get(CONFIG_MAPS, "kubelet-config", "kube-system")
        with pytest.raises(StatusError, match="forbidden"):
            await client.get(CONFIG_MAPS, "kube-root-ca.crt", "kube-system")
    finally:
        await client.close()
    found = yaml.safe_load(cluster["data"]["ClusterConfiguration"])
    assert (found["kind"], found["clusterName"]) == ("ClusterConfiguration", "join")
    assert found["networking"]["serviceSubnet"] == core.config.service_cidr
    assert "controlPlaneEndpoint" not in found
    content = kubelet["data"]["kubelet"]
    assert yaml.safe_load(content)["clusterDNS"] == ["10.96.0.10"]
    assert kubelet["metadata"]["annotations"] == {
        "kubeadm.kubernetes.io/component-config.hash": "sha256:"
        + hashlib.sha256(content.encode()).hexdigest()
    }


async def test_what_was_changed_stays(core: ClusterCore) -> None:
    """Also in a cluster that comes up again."""
    known = await core.client.get(CONFIG_MAPS, "kubeadm-config", "kube-system")
    await core.client.update(CONFIG_MAPS, {**known, "data": {"ClusterConfiguration": "mine"}})
    await publish(core.client, core.server_url, b"ca", core.config)
    known = await core.client.get(CONFIG_MAPS, "kubeadm-config", "kube-system")
    assert known["data"] == {"ClusterConfiguration": "mine"}


async def test_tls_bootstrap(core: ClusterCore, tmp_path: Path) -> None:
    await add_token(core)
    assert core.pki is not None
    made = kubeconfig.make(
        "b", core.server_url, ca_data=core.pki.crt("ca").read_bytes(), token=TOKEN
    )
    first, own, pki = tmp_path / "bootstrap.conf", tmp_path / "kubelet.conf", tmp_path / "pki"
    kubeconfig.write(first, made)
    clock = RealClock()
    async with asyncio.timeout(20):
        assert await bootstrap(own, first, pki, "n1", clock)
    assert still_valid(own, clock.now())
    assert sorted(path.name for path in pki.iterdir())[-1] == "kubelet-client-current.pem"
    assert len(list(pki.iterdir())) == 2
    client = HTTPSClient(kubeconfig.client_config(kubeconfig.load_merged(str(own))), clock)
    try:
        node = await client.create(NODES, {"metadata": {"name": "n1"}})
        assert node["metadata"]["name"] == "n1"
        with pytest.raises(StatusError, match='node "n1" is not allowed to'):
            await client.create(NODES, {"metadata": {"name": "n2"}})
    finally:
        await client.close()
    first.unlink()
    assert not await bootstrap(own, first, pki, "n1", clock)  # nothing to do


async def test_a_wrong_token(core: ClusterCore, tmp_path: Path) -> None:
    assert core.pki is not None
    made: dict[str, Any] = kubeconfig.make(
        "b", core.server_url, ca_data=core.pki.crt("ca").read_bytes(), token=TOKEN
    )
    kubeconfig.write(tmp_path / "b", made)
    with pytest.raises(StatusError, match="Unauthorized"):
        await bootstrap(tmp_path / "k", tmp_path / "b", tmp_path / "pki", "n1", RealClock())
    key = (tmp_path / "pki" / "kubelet-client.key.tmp").read_bytes()
    assert not (tmp_path / "k").exists()
    with pytest.raises(StatusError):
        await bootstrap(tmp_path / "k", tmp_path / "b", tmp_path / "pki", "n1", RealClock())
    # The key is kept until its request is answered.
    assert (tmp_path / "pki" / "kubelet-client.key.tmp").read_bytes() == key
