"""Publishes the CA of the API servers' certificates as a ClusterTrustBundle for pods."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.object import Obj, copy_object, get_nested, name_of
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import CLUSTER_TRUST_BUNDLES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

SIGNER = "kubernetes.io/kube-apiserver-serving"
_KEY = "bundle"


def bundle_name(signer: str, bundle: str) -> str:
    """A new CA gets a new name."""
    digest = hashlib.sha256(bundle.encode()).hexdigest()[:24]
    return f"{signer.replace('/', ':')}:{digest}"


class TrustBundlePublisher(Controller):
    name = "kube-apiserver-serving-clustertrustbundle-publisher-controller"
    max_retries = None

    def __init__(self, env: Environment, root_ca: str) -> None:
        super().__init__(env)
        self._ca = root_ca
        self._bundles = self.watch(
            CLUSTER_TRUST_BUNDLES, self._changed, lambda _, new: self._changed(new), self._changed
        )

    def _changed(self, bundle: Obj) -> None:
        if get_nested(bundle, "spec", "signerName") == SIGNER:
            self.queue.add(_KEY)

    def start_workers(self) -> None:
        self.queue.add(_KEY)
        super().start_workers()

    async def sync(self, key: str) -> None:
        name = bundle_name(SIGNER, self._ca)
        current = self._bundles.get(name)
        if current is None:
            await self._create(name)
        elif current["spec"].get("trustBundle") != self._ca:
            new = copy_object(current)
            new["spec"]["trustBundle"] = self._ca
            await self.client.update(CLUSTER_TRUST_BUNDLES, new)
        for bundle in self._bundles.list():
            if get_nested(bundle, "spec", "signerName") == SIGNER and name_of(bundle) != name:
                await self._delete(name_of(bundle))

    async def _create(self, name: str) -> None:
        made = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": name},
            "spec": {"signerName": SIGNER, "trustBundle": self._ca},
        }
        try:
            await self.client.create(CLUSTER_TRUST_BUNDLES, made)
        except StatusError as error:
            if not is_already_exists(error):
                raise

    async def _delete(self, name: str) -> None:
        try:
            await self.client.delete(CLUSTER_TRUST_BUNDLES, name)
        except StatusError as error:
            if not is_not_found(error):
                raise
