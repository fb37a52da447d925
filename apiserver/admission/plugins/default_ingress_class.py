"""DefaultIngressClass: ingresses that name no class get the newest default one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.plugin import Plugin

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes, Listers

INGRESS_CLASSES = GroupResource("networking.k8s.io", "ingressclasses")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"


class DefaultIngressClass(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if ingress is None or _CLASS_ANNOTATION in (ingress["metadata"].get("annotations") or {}):
            return
        if (ingress.get("spec") or {}).get("ingressClassName") is not None:
            return
        chosen = newest_default(await self.listed(INGRESS_CLASSES))
        if chosen is not None:
            ingress.setdefault("spec", {})["ingressClassName"] = chosen["metadata"]["name"]


def newest_default(listers: Listers) -> Obj | None:
    defaults = [
        obj
        for obj in listers.list(INGRESS_CLASSES)
        if (obj["metadata"].get("annotations") or {}).get(_DEFAULT_ANNOTATION) == "true"
    ]
    defaults.sort(key=lambda obj: obj["metadata"]["name"])
    return max(defaults, key=lambda o: o["metadata"].get("creationTimestamp") or "", default=None)


PLUGINS = {"DefaultIngressClass": DefaultIngressClass}
