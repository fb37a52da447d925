"""Extended resources that devices stand behind (KEP-5004). Pure but for the list of classes.

A pod that asks for ``example.com/gpu: 2`` gets devices of the DeviceClass with that
``extendedResourceName`` (or by the class's name, ``deviceclass.resource.kubernetes.io/<class>``) on
nodes that don't have the resource themselves: the scheduler writes a ResourceClaim for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, namespace_of, uid_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_names import is_extended
from pilothouse.kubeclient.resources import DEVICE_CLASSES

if TYPE_CHECKING:
    from pilothouse.scheduler.framework.handle import Handle

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
IMPLICIT = "deviceclass.resource.kubernetes.io/"
UNWRITTEN = "<extended-resources>"
"""The claim's name until it is written."""


class ExtendedClasses:
    """Which DeviceClass stands behind a resource. Of several the oldest."""

    def __init__(self, handle: Handle) -> None:
        self._informer = handle.informer(DEVICE_CLASSES)
        self._informer.add_handler(self._forget, lambda _, new: self._forget(new), self._forget)
        self._by_resource: dict[str, Obj] | None = None

    def _forget(self, _: Obj) -> None:
        self._by_resource = None

    @property
    def by_resource(self) -> Mapping[str, Obj]:
        if self._by_resource is None:
            self._by_resource = classes_by_resource(self._informer.list())
        return self._by_resource

    def behind(self, resources: Iterable[str]) -> tuple[str, ...]:
        """Those of ``resources`` that devices may stand behind."""
        known = self.by_resource
        if not known:
            return ()
        return tuple(name for name in resources if name in known and may_be_device(name))


def shared_classes(handle: Handle) -> ExtendedClasses:
    """One for all plugins of a scheduler."""
    if handle.device_classes is None:
        handle.device_classes = ExtendedClasses(handle)
    classes: ExtendedClasses = handle.device_classes
    return classes


def classes_by_resource(classes: Iterable[Obj]) -> dict[str, Obj]:
    found: dict[str, Obj] = {}
    order = sorted(classes, key=lambda c: (meta(c).get("creationTimestamp") or "", name_of(c)))
    for device_class in order:
        explicit = get_nested(device_class, "spec", "extendedResourceName")
        if explicit:
            found.setdefault(explicit, device_class)
        found[IMPLICIT + name_of(device_class)] = device_class
    return found


def may_be_device(resource: str) -> bool:
    return is_extended(resource) or resource.startswith(IMPLICIT)


def is_claim_of(pod: Obj, claim: Obj) -> bool:
    """Whether the claim was written for the pod's extended resources."""
    return (meta(claim).get("annotations") or {}).get(ANNOTATION) == "true" and any(
        owner.get("controller") and owner.get("uid") == uid_of(pod)
        for owner in meta(claim).get("ownerReferences") or ()
    )


def new_claim(pod: Obj, uid: str) -> Obj:
    owner = {
        "apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod),
        "controller": True,
    }  # fmt: skip
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "name": UNWRITTEN,
            "uid": uid,
            "generateName": f"{name_of(pod)}-extended-resources-",
            "namespace": namespace_of(pod),
            "ownerReferences": [owner],
            "annotations": {ANNOTATION: "true"},
        },
        "spec": {},
    }


class Requests:
    """The device requests of a pod's extended resources, and which container uses which.

    Init containers come and go: they use what later long-lived containers ask for, and share one
    request for what they need beyond that.
    """

    def __init__(self, pod: Obj) -> None:
        spec = pod["spec"]
        inits = list(spec.get("initContainers") or ())
        self._containers: list[Obj] = [*inits, *(spec.get("containers") or ())]
        self._short = [i for i, c in enumerate(inits) if c.get("restartPolicy") != "Always"]
        self._long = [i for i in range(len(self._containers)) if i not in set(self._short)]
        self.requests: list[Obj] = []
        self.mappings: list[Obj] = []

    def add(self, resource: str, class_name: str) -> None:
        lasting: list[Obj | None] = [None] * len(self._containers)
        for i in self._long:
            lasting[i], used = self._request(i, resource, class_name, ())
            self.mappings += used
        largest: Obj | None = None
        names, short_mappings = set(), []
        for i in self._short:
            reusable = [r for r in lasting[i:] if r is not None]
            request, used = self._request(i, resource, class_name, reusable)
            short_mappings += used
            if request is not None:
                names.add(request["name"])
                if largest is None or _count(largest) < _count(request):
                    largest = request
        if largest is not None:
            for mapping in short_mappings:
                if mapping["requestName"] in names:
                    mapping["requestName"] = largest["name"]
            self.requests.append(largest)
        self.mappings += short_mappings
        self.requests += [r for r in lasting if r is not None]
        self.requests.sort(key=lambda r: str(r["name"]))

    def _request(
        self, index: int, resource: str, class_name: str, reusable: Sequence[Obj]
    ) -> tuple[Obj | None, list[Obj]]:
        container = self._containers[index]
        asked: Mapping[str, Any] = (container.get("resources") or {}).get("requests") or {}
        wanted = Quantity.parse(asked.get(resource) or "0").value()
        if not wanted:
            return None, []
        mappings, found = [], 0
        for request in reusable:
            found += _count(request)
            mappings.append(_mapping(container, resource, request["name"]))
            if found >= wanted:
                return None, mappings
        name = f"container-{index}-request-{sorted(asked).index(resource)}"
        exactly = {
            "deviceClassName": class_name, "allocationMode": "ExactCount", "count": wanted - found,
        }  # fmt: skip
        mappings.append(_mapping(container, resource, name))
        return {"name": name, "exactly": exactly}, mappings


def _count(request: Obj) -> int:
    count: int = request["exactly"]["count"]
    return count


def _mapping(container: Obj, resource: str, request: str) -> Obj:
    return {
        "containerName": container["name"], "resourceName": resource, "requestName": request,
    }  # fmt: skip


def by_devices(
    requests: Mapping[str, int], allocatable: Mapping[str, int], classes: Mapping[str, Obj]
) -> Iterator[str]:
    """The resources that a node has only as devices.

    :raises LookupError: the node has one neither way.
    """
    for name in sorted(requests):
        if not requests[name] or not may_be_device(name):
            continue
        if name in classes and not allocatable.get(name):
            yield name
        elif name not in allocatable:
            raise LookupError(name)
