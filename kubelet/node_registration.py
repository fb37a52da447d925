"""Registers the node, keeps its status and its Lease fresh (the heartbeat). One task per node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pilothouse.apimachinery.clock import upkeep
from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import format_micro_time
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import LEASES, NODES
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.node_status import Machine, differs, initial_node, node_status
from pilothouse.kubelet.runtime.interfaces import ImageService, RuntimeService

log = logging.getLogger(__name__)
LEASE_NAMESPACE = "kube-node-lease"


class NodeRegistration:
    """``problem()`` says why the node is not ready, or ''; ``pressures()`` names the conditions
    of pressure that hold."""

    def __init__(
        self,
        env: Environment,
        config: KubeletConfig,
        machine: Machine,
        runtime: RuntimeService,
        images: ImageService,
        problem: Callable[[], str],
        pressures: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._client = env.client
        self._clock = env.clock
        self._config = config
        self._machine = machine
        self._runtime = runtime
        self._images = images
        self._problem = problem
        self._pressures = pressures
        self._reported = 0.0
        self._lease: Obj | None = None
        self._changed = asyncio.Event()
        self.node: Obj = {}
        self.extended: Callable[[], dict[str, tuple[int, int]]] = dict
        """(capacity, allocatable) of the resources of device plugins."""

    def status_changed(self) -> None:
        """Report soon (an image was pulled, the runtime came or went)."""
        self._changed.set()

    async def register(self) -> None:
        """Creates the Node (or finds it), with its first status, and the Lease."""
        node = initial_node(self._config, self._machine)
        node["status"] = await self._make_status(node)
        try:
            self.node = await self._client.create(NODES, node, field_manager="kubelet")
        except StatusError as error:
            if not is_already_exists(error):
                raise
            self.node = await self._client.get(NODES, self._config.node_name)
            await self._reconcile_labels(node)
            await self.report(force=True)
        self._reported = self._clock.monotonic()
        await self.renew_lease()

    async def _reconcile_labels(self, wanted: Obj) -> None:
        """A node that was here before: our own labels and pod CIDR must be as configured."""
        labels = self.node["metadata"].get("labels") or {}
        missing = {k: v for k, v in wanted["metadata"]["labels"].items() if labels.get(k) != v}
        patch: Obj = {"metadata": {"labels": missing}} if missing else {}
        if wanted["spec"].get("podCIDR") and not (self.node.get("spec") or {}).get("podCIDR"):
            patch["spec"] = {k: wanted["spec"][k] for k in ("podCIDR", "podCIDRs")}
        if patch:
            self.node = await self._client.patch(
                NODES, self._config.node_name, patch, "application/merge-patch+json",
                field_manager="kubelet",
            )  # fmt: skip

    async def _make_status(self, node: Obj) -> Obj:
        return node_status(
            node,
            self._config,
            self._machine,
            await self._runtime.info(),
            await self._images.list_images(),
            self._clock.now(),
            self._problem(),
            self.extended(),
            self._pressures(),
        )

    async def report(self, *, force: bool = False) -> None:
        """Writes the status when it changed or is due."""
        status = await self._make_status(self.node)
        old = self.node.get("status") or {}
        due = self._clock.monotonic() - self._reported >= self._config.node_status_report_seconds
        if not (force or due or differs(old, status)):
            return
        conditions = status.pop("conditions")
        patch = {k: v for k, v in status.items() if old.get(k) != v} | {"conditions": conditions}
        if "addresses" in patch:
            patch["addresses"] = [{"$patch": "replace"}, *patch["addresses"]]
        self.node = await self._client.patch(
            NODES, self._config.node_name, {"status": patch},
            "application/strategic-merge-patch+json", subresource="status",
            field_manager="kubelet",
        )  # fmt: skip
        self._reported = self._clock.monotonic()

    async def renew_lease(self) -> None:
        now = format_micro_time(self._clock.now())
        if self._lease is None:
            await self._create_lease(now)
            return
        renewed = self._lease | {"spec": self._lease["spec"] | {"renewTime": now}}
        try:
            self._lease = await self._client.update(LEASES, renewed, field_manager="kubelet")
        except StatusError as error:
            if not (is_not_found(error) or error.code == 409):
                raise
            self._lease = None
            await self._create_lease(now)

    async def _create_lease(self, now: str) -> None:
        name = self._config.node_name
        metadata: Obj = {"name": name, "namespace": LEASE_NAMESPACE}
        if self.node:
            metadata["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Node", "name": name,
                 "uid": self.node["metadata"]["uid"]}
            ]  # fmt: skip
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._config.lease_seconds,
            "renewTime": now,
        }
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
                 "spec": spec}  # fmt: skip
        try:
            self._lease = await self._client.create(
                LEASES, lease, LEASE_NAMESPACE, field_manager="kubelet"
            )
        except StatusError as error:
            if not is_already_exists(error):
                raise
            found = await self._client.get(LEASES, name, LEASE_NAMESPACE)
            self._lease = await self._client.update(
                LEASES, found | {"spec": spec}, field_manager="kubelet"
            )

    async def run(self) -> None:
        """Heartbeats until cancelled. A failed one is logged and tried at the next beat."""
        while True:
            await self._wait(self._config.lease_renew_seconds)
            try:
                await self.renew_lease()
                await self.report()
            except (StatusError, OSError) as error:
                log.warning("heartbeat of node %s failed: %s", self._config.node_name, error)

    async def _wait(self, seconds: float) -> None:
        timer = upkeep(self._clock).call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
            self._changed.clear()
