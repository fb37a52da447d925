"""What the pod sub-resources share: finding the pod, its container, its node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request

_LISTS = ("initContainers", "containers", "ephemeralContainers")


async def live_pod(request: Request, served: ServedResource) -> Obj:
    """:raises StatusError: 404."""
    info = request.info
    return (await served.store.get(info.namespace, info.name)).obj


def container_of(pod: Obj, wanted: str) -> str:
    """The container that is meant. :raises StatusError: 400, none or a wrong one is named."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    names = [c["name"] for key in _LISTS for c in spec.get(key) or ()]
    if wanted:
        if wanted not in names:
            raise new_bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    containers = spec.get("containers") or []
    if len(containers) == 1:
        return str(containers[0]["name"])
    text = f"a container name must be specified for pod {name}"
    if containers:
        text += f", choose one of: [{' '.join(names)}]"
    raise new_bad_request(text)


def node_of(pod: Obj) -> str:
    """The pod's node. :raises StatusError: 400, it has none yet."""
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        raise new_bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return str(node)


def set_condition(status: Obj, condition: Obj, now: str) -> None:
    """UpdatePodCondition: replaces the condition of that type; its transition time is kept
    while the status stays the same."""
    conditions = list(status.get("conditions") or ())
    for index, current in enumerate(conditions):
        if current.get("type") == condition["type"]:
            same = current.get("status") == condition["status"]
            since = current.get("lastTransitionTime") if same else now
            conditions[index] = {**condition, "lastTransitionTime": since}
            break
    else:
        conditions.append({**condition, "lastTransitionTime": now})
    status["conditions"] = conditions
