"""Configurations count at once also where the watch cache lags behind the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.storage.etcd3.testing import EtcdCluster, find_etcd
from pilothouse.apiserver.testing import running_server
from pilothouse.apiserver.webhook.testing import WebhookServer, denied

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
VALIDATING = GroupVersionResource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"
)
RULE = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["configmaps"],
    "operations": ["CREATE"],
}

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    binary = find_etcd()
    if binary is None:
        pytest.skip("no etcd binary here")
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), binary)
    cluster.start()
    yield cluster
    cluster.stop()


async def test_the_next_request_is_judged(etcd: EtcdCluster) -> None:
    settings: dict[str, Any] = {"storage": "etcd", "etcd_servers": etcd.config().servers}
    async with (
        WebhookServer() as hooks,
        running_server(clock=RealClock(), **settings) as server,
    ):
        client = server.local_client()
        hooks.on("/v", lambda review: denied("no"))
        webhook = {
            "name": "v.example.com",
            "clientConfig": hooks.client_config("/v"),
            "rules": [RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        for i in range(10):
            obj = {"metadata": {"name": f"c{i}", "namespace": "default"}}
            await client.create(VALIDATING, {"metadata": {"name": "v"}, "webhooks": [webhook]})
            with pytest.raises(StatusError, match="denied the request: no"):
                await client.create(CONFIG_MAPS, dict(obj))
            await client.delete(VALIDATING, "v")
            await client.create(CONFIG_MAPS, dict(obj))
