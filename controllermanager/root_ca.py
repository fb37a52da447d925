"""The cluster's CA in every namespace, as ConfigMap ``kube-root-ca.crt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists
from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta, name_of, namespace_of
from pilothouse.controllermanager.controller import Controller
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING
from pilothouse.kubeclient.resources import CONFIG_MAPS, NAMESPACES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

NAME = "kube-root-ca.crt"
DESCRIPTION_KEY = "kubernetes.io/description"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


class RootCAPublisher(Controller):
    name = "root-ca-certificate-publisher-controller"
    max_retries = None

    def __init__(self, env: Environment, root_ca: str, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._root_ca = root_ca
        self._namespaces = self.watch(NAMESPACES, self.enqueue, lambda _, new: self.enqueue(new))
        self._config_maps = self.watch(
            CONFIG_MAPS,
            on_update=lambda _, new: self._config_map_changed(new),
            on_delete=self._config_map_changed,
        )

    def _config_map_changed(self, config_map: Obj) -> None:
        if name_of(config_map) == NAME:
            self.queue.add(namespace_of(config_map))

    async def sync(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or get_nested(namespace, "status", "phase") != "Active":
            return
        data = {"ca.crt": self._root_ca}
        current = self._config_maps.get(f"{key}/{NAME}")
        if current is None:
            await self._create(key, data)
            return
        described = (meta(current).get("annotations") or {}).get(DESCRIPTION_KEY) == DESCRIPTION
        if current.get("data") == data and described:
            return
        new = copy_object(current)
        new["data"] = data
        new["metadata"].setdefault("annotations", {})[DESCRIPTION_KEY] = DESCRIPTION
        await self.client.update(CONFIG_MAPS, new)

    async def _create(self, namespace: str, data: dict[str, str]) -> None:
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "namespace": namespace,
                "annotations": {DESCRIPTION_KEY: DESCRIPTION},
            },
            "data": data,
        }
        try:
            await self.client.create(CONFIG_MAPS, config_map, namespace)
        except StatusError as error:
            if not is_already_exists(error) and not error.has_cause(NAMESPACE_TERMINATING):
                raise
