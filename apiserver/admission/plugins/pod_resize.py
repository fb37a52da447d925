"""PodResizeValidator: no pod is resized to more than its node can give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import get_nested
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.resource_requests import pod_requests
from pilothouse.apiserver.admission.plugin import NODES, Plugin, refuse

if TYPE_CHECKING:
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes

_OS_LABEL = "kubernetes.io/os"


class PodResizeValidator(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old_obj
        name = get_nested(pod, "spec", "nodeName")
        if pod is None or old is None or not name or _same_resources(pod, old):
            return
        node = self.listers.get(NODES, "", name)
        if node is None:
            raise refuse(attributes, f'node "{name}" not found')
        system = (node["metadata"].get("labels") or {}).get(_OS_LABEL, "linux")
        if system != "linux":
            text = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            raise _with_cause(refuse(attributes, text), "UnsupportedPlatform")
        problems = _over_allocatable(pod, node)
        if problems:
            text = f"node didn't have enough allocatable resources: {'; '.join(problems)}"
            raise _with_cause(refuse(attributes, text), "NodeCapacity")


def _same_resources(pod: Obj, old: Obj) -> bool:
    return bool(pod.get("spec") == old.get("spec"))


def _over_allocatable(pod: Obj, node: Obj) -> list[str]:
    allocatable = get_nested(node, "status", "allocatable", default={})
    requests = pod_requests(pod)
    problems: list[str] = []
    for name in ("cpu", "memory"):
        wanted, given = requests.get(name), parse_quantity(allocatable.get(name, "0"))
        if wanted is None or not wanted > given:
            continue
        if name == "cpu":
            amounts = (wanted.milli_value(), given.milli_value())
        else:
            amounts = (wanted.value(), given.value())
        problems.append(f"{name}, requested: {amounts[0]}, allocatable: {amounts[1]}")
    return problems


def _with_cause(error: StatusError, reason: str) -> StatusError:
    error.details = {**(error.details or {}), "causes": [{"reason": reason}]}
    return error


PLUGINS = {"PodResizeValidator": PodResizeValidator}
