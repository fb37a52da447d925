"""A container's environment: service links, envFrom, env with $(VAR) (kubelet_pods.go)."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import CONFIG_MAPS, SECRETS
from pilothouse.kubelet.env_files import value_from_file
from pilothouse.kubelet.field_refs import FieldError, downward_limits, field_value, resource_value
from pilothouse.kubelet.interfaces import ContainerConfigError, MountedVolume

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
KINDS = {"configMap": ("configmap", CONFIG_MAPS), "secret": ("secret", SECRETS)}


class EnvironmentMaker:
    """Implements ``interfaces.Environments``.

    ``services(namespace)`` gives the Services whose links the pod gets (its namespace's and the
    ``kubernetes`` one); ``allocatable()`` the node's, for resourceFieldRef without a limit.
    """

    def __init__(
        self,
        client: Client,
        *,
        services: Callable[[str], Iterable[Obj]],
        allocatable: Callable[[], dict[str, str]],
        host_ip: str,
    ) -> None:
        self._client = client
        self._services = services
        self._allocatable = allocatable
        self._host_ip = host_ip

    async def make(
        self,
        pod: Obj,
        container: Obj,
        pod_ips: tuple[str, ...],
        mounted: Mapping[str, MountedVolume] = MappingProxyType({}),
    ) -> list[tuple[str, str]]:
        links = service_links(
            self._services(pod["metadata"].get("namespace") or ""),
            all_services=pod["spec"].get("enableServiceLinks") is not False,
        )
        values: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            values |= await self._from_source(pod, source)
        visible = dict(values)
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
            if reference:
                value = await asyncio.to_thread(value_from_file, reference, mounted)
            else:
                value = await self._value(pod, container, variable, visible, links, pod_ips)
            if value is not None:
                visible[variable["name"]] = values[variable["name"]] = value
        # Service links come last: they never override what the user has set.
        return [*values.items(), *((k, v) for k, v in links.items() if k not in values)]

    def expand(self, text: str, variables: dict[str, str]) -> str:
        return expand(text, variables)

    async def _value(
        self,
        pod: Obj,
        container: Obj,
        variable: Obj,
        visible: dict[str, str],
        links: dict[str, str],
        pod_ips: tuple[str, ...],
    ) -> str | None:
        """One ``env`` entry; None for an optional reference to nothing."""
        source = variable.get("valueFrom")
        if not source:
            return expand(variable.get("value") or "", links | visible)
        try:
            if "fieldRef" in source:
                return field_value(pod, source["fieldRef"]["fieldPath"], pod_ips, self._host_ip)
            if "resourceFieldRef" in source:
                reference = source["resourceFieldRef"]
                target = _container(pod, reference.get("containerName")) or container
                return resource_value(target, reference, downward_limits(pod, self._allocatable()))
        except FieldError as error:
            raise ContainerConfigError(str(error)) from error
        for kind in KINDS:
            if f"{kind}KeyRef" in source:
                return await self._key(pod, kind, source[f"{kind}KeyRef"])
        return None

    async def _key(self, pod: Obj, kind: str, reference: Obj) -> str | None:
        found = await self._read(pod, kind, reference)
        if found is None:
            return None
        key = reference["key"]
        data = text_data(found)
        if key not in data:
            if reference.get("optional"):
                return None
            title = "ConfigMap" if kind == "configMap" else "Secret"
            namespace = pod["metadata"].get("namespace")
            raise ContainerConfigError(
                f"couldn't find key {key} in {title} {namespace}/{reference['name']}"
            )
        return data[key]

    async def _from_source(self, pod: Obj, source: Obj) -> dict[str, str]:
        prefix = source.get("prefix") or ""
        for kind in KINDS:
            reference = source.get(f"{kind}Ref")
            if reference:
                found = await self._read(pod, kind, reference)
                return {prefix + k: v for k, v in text_data(found or {}).items()}
        return {}

    async def _read(self, pod: Obj, kind: str, reference: Obj) -> Obj | None:
        word, resource = KINDS[kind]
        return await read_or_none(
            self._client, resource, word, pod["metadata"].get("namespace") or "", reference
        )


async def read_or_none(
    client: Client, resource: GroupVersionResource, word: str, namespace: str, reference: Obj
) -> Obj | None:
    """The object; None when it is optional and missing.

    :raises ContainerConfigError: missing or unreadable, with the API's text.
    """
    name = reference.get("name") or ""
    try:
        return await client.get(resource, name, namespace)
    except StatusError as error:
        if is_not_found(error):
            if reference.get("optional"):
                return None
            raise ContainerConfigError(f'{word} "{name}" not found') from error
        raise ContainerConfigError(error.message) from error


def text_data(obj: Obj) -> dict[str, str]:
    """``data`` of a ConfigMap or Secret as text."""
    if obj.get("kind") == "Secret":
        return {
            key: base64.b64decode(value).decode(errors="surrogateescape")
            for key, value in (obj.get("data") or {}).items()
        }
    return dict(obj.get("data") or {})


def _container(pod: Obj, name: str | None) -> Obj | None:
    for list_name in ("containers", "initContainers"):
        for container in pod["spec"].get(list_name) or ():
            if container["name"] == name:
                return container  # type: ignore[no-any-return]
    return None


def expand(text: str, variables: dict[str, str]) -> str:
    """$(VAR) becomes its value; unknown ones stay; ``$$(VAR)`` gives a literal ``$(VAR)``."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1]
        return variables.get(name, match[0])

    return _REFERENCE.sub(replace, text)


def service_links(services: Iterable[Obj], *, all_services: bool) -> dict[str, str]:
    """``REDIS_SERVICE_HOST`` and the docker-link variables of each Service with an address."""
    result: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service.get("spec") or {}
        is_kubernetes = metadata["name"] == "kubernetes" and metadata.get("namespace") == "default"
        address = spec.get("clusterIP")
        if not address or address == "None" or not (all_services or is_kubernetes):
            continue
        name = metadata["name"].replace("-", "_").upper()
        ports = spec.get("ports") or ()
        result[f"{name}_SERVICE_HOST"] = address
        for i, port in enumerate(ports):
            if i == 0:
                result[f"{name}_SERVICE_PORT"] = str(port["port"])
            if port.get("name"):
                suffix = port["name"].replace("-", "_").upper()
                result[f"{name}_SERVICE_PORT_{suffix}"] = str(port["port"])
        result |= _docker_links(name, _bracketed(address), ports)
    return result


def _docker_links(name: str, address: str, ports: Iterable[Obj]) -> dict[str, str]:
    result: dict[str, str] = {}
    for i, port in enumerate(ports):
        protocol = (port.get("protocol") or "TCP").lower()
        number = port["port"]
        url = f"{protocol}://{address}:{number}"
        if i == 0:
            result[f"{name}_PORT"] = url
        prefix = f"{name}_PORT_{number}_{protocol.upper()}"
        result[prefix] = url
        result[f"{prefix}_PROTO"] = protocol
        result[f"{prefix}_PORT"] = str(number)
        result[f"{prefix}_ADDR"] = address
    return result


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
