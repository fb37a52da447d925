"""DefaultBinder: POSTs the Binding."""

from __future__ import annotations

from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import PODS
from pilothouse.scheduler.framework.pod_info import PodInfo


class DefaultBinder:
    name = "DefaultBinder"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def bind(self, pod: PodInfo, node_name: str) -> None:
        """:raises StatusError: gone, changed or bound already."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "target": {"kind": "Node", "name": node_name},
        }
        await self._client.create(
            PODS, binding, pod.namespace, name=pod.name, subresource="binding"
        )
