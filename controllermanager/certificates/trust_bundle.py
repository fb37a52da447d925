"""The CA of the API server as a ClusterTrustBundle, for pods that project it.

One bundle of the signer ``kubernetes.io/kube-apiserver-serving`` exists, its name is made of its
contents; bundles of older contents are deleted.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.object import Obj, get_nested, name_of
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import CLUSTER_TRUST_BUNDLES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

SIGNER = "kubernetes.io/kube-apiserver-serving"


def bundle_name(signer: str, bundle: str) -> str:
    digest = hashlib.sha256(bundle.encode()).hexdigest()[:24]
    return f"{signer.replace('/', ':')}:{digest}"


class TrustBundlePublisher(Controller):
    name = "kube-apiserver-serving-clustertrustbundle-publisher-controller"
    max_retries = None

    def __init__(self, env: Environment, root_ca: str, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._root_ca = root_ca
        self._name = bundle_name(SIGNER, root_ca)
        self._bundles = self.watch(
            CLUSTER_TRUST_BUNDLES, self._changed, lambda _, new: self._changed(new), self._changed
        )

    def start_workers(self) -> None:
        self.queue.add(self._name)
        super().start_workers()

    def _changed(self, bundle: Obj) -> None:
        if get_nested(bundle, "spec", "signerName") == SIGNER:
            self.queue.add(self._name)

    async def sync(self, key: str) -> None:
        current = self._bundles.get(self._name)
        if current is None:
            await self._create()
        elif get_nested(current, "spec", "trustBundle") != self._root_ca:
            spec = {**current["spec"], "trustBundle": self._root_ca}
            await self.client.update(CLUSTER_TRUST_BUNDLES, {**current, "spec": spec})
        for bundle in self._bundles.list():
            own = get_nested(bundle, "spec", "signerName") == SIGNER
            if own and name_of(bundle) != self._name:
                await self._delete(name_of(bundle))

    async def _create(self) -> None:
        bundle = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": self._name},
            "spec": {"signerName": SIGNER, "trustBundle": self._root_ca},
        }
        try:
            await self.client.create(CLUSTER_TRUST_BUNDLES, bundle)
        except StatusError as error:
            if not is_already_exists(error):
                raise

    async def _delete(self, name: str) -> None:
        try:
            await self.client.delete(CLUSTER_TRUST_BUNDLES, name)
        except StatusError as error:
            if not is_not_found(error):
                raise
