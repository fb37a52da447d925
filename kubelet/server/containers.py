"""From the names in a path to a pod, its sandbox, its running container."""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.runtime.interfaces import ContainerStatus, SandboxStatus
from pilothouse.kubelet.server.interfaces import KubeletHost, Refusal

_SPEC_LISTS = ("containers", "initContainers", "ephemeralContainers")


def find_pod(host: KubeletHost, namespace: str, name: str, uid: str = "") -> Obj:
    """:raises Refusal: 404, this node does not run it."""
    pod = host.find_pod(namespace, name)
    if pod is None:
        raise Refusal(404, "pod does not exist")
    if uid and pod["metadata"]["uid"] != uid:
        raise Refusal(404, "pod not found")
    return pod


def container_spec(pod: Obj, name: str) -> Obj | None:
    for key in _SPEC_LISTS:
        for container in pod["spec"].get(key) or ():
            if container["name"] == name:
                return container  # type: ignore[no-any-return]
    return None


def running_container(host: KubeletHost, pod: Obj, name: str) -> ContainerStatus | None:
    listed = host.cache.get(pod["metadata"]["uid"]).containers.get(name, ())
    return next((status for status in listed if status.state == "running"), None)


def ready_sandbox(host: KubeletHost, pod: Obj) -> SandboxStatus:
    """:raises Refusal: 500, the pod has none."""
    for sandbox in host.cache.get(pod["metadata"]["uid"]).sandboxes:
        if sandbox.state == "ready":
            return sandbox
    raise Refusal(500, f'pod not found ("{full_name(pod)}")')


def full_name(pod: Obj) -> str:
    """``name_namespace``, as upstream's messages have it."""
    return f"{pod['metadata']['name']}_{pod['metadata'].get('namespace')}"
