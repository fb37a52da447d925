"""configMap, secret, downwardAPI and projected volumes: gathers their files through the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from pilothouse.kubelet.field_refs import FieldError, downward_limits, field_value, resource_value
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.atomic_writer import FileContent
from pilothouse.kubelet.volumes.object_files import (
    DEFAULT_MODE,
    Files,
    binary_data,
    downward_files,
    object_files,
)
from pilothouse.kubelet.volumes.pod_certificates import PodCertificates
from pilothouse.kubelet.volumes.trust_bundles import trust_anchors

RENEW_SHARE = 0.8
"""A token is renewed after this share of its life."""


@dataclass(slots=True)
class _Token:
    text: str
    renew_at: float


class ObjectVolumes:
    """``files(pod, volume)`` for the four kinds of volumes that come from the API."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        allocatable: Callable[[], dict[str, str]],
        host_ip: str,
        node_name: str = "",
    ) -> None:
        self._client = client
        self._clock = clock
        self._allocatable = allocatable
        self._host_ip = host_ip
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._certificates = PodCertificates(client, clock, node_name)

    async def files(self, pod: Obj, volume: Obj) -> Files | None:
        """None when the volume is of another kind. :raises MountError: with the reason."""
        if volume.get("configMap"):
            source = volume["configMap"]
            return await self._object(pod, CONFIG_MAPS, source.get("name"), source)
        if volume.get("secret"):
            source = volume["secret"]
            return await self._object(pod, SECRETS, source.get("secretName"), source)
        if volume.get("downwardAPI"):
            source = volume["downwardAPI"]
            return self._downward(pod, source.get("items") or [], _mode(source))
        if volume.get("projected"):
            return await self._projected(pod, volume["name"], volume["projected"])
        return None

    def forget(self, uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]
        self._certificates.forget(uid)

    async def _projected(self, pod: Obj, volume: str, projected: Obj) -> Files:
        mode = _mode(projected)
        files: Files = {}
        for index, source in enumerate(projected.get("sources") or ()):
            if source.get("configMap"):
                inner = source["configMap"] | {"defaultMode": mode}
                files |= await self._object(pod, CONFIG_MAPS, inner.get("name"), inner)
            elif source.get("secret"):
                inner = source["secret"] | {"defaultMode": mode}
                files |= await self._object(pod, SECRETS, inner.get("name"), inner)
            elif source.get("downwardAPI"):
                files |= self._downward(pod, source["downwardAPI"].get("items") or [], mode)
            else:
                secret = await self._secret_data(pod, volume, index, source)
                files |= {path: _credential(pod, data, mode) for path, data in secret.items()}
        return files

    async def _secret_data(
        self, pod: Obj, volume: str, index: int, source: Obj
    ) -> dict[str, bytes]:
        """Sources whose files only their user may read, when it is known who that is."""
        if source.get("serviceAccountToken"):
            inner = source["serviceAccountToken"]
            return {inner["path"]: (await self._token(pod, inner)).encode()}
        if source.get("clusterTrustBundle"):
            inner = source["clusterTrustBundle"]
            return {inner["path"]: await trust_anchors(self._client, inner)}
        if source.get("podCertificate"):
            inner = source["podCertificate"]
            key, chain = await self._certificates.bundle(pod, volume, index, inner)
            data = {"credentialBundlePath": key + chain, "keyPath": key,
                    "certificateChainPath": chain}  # fmt: skip
            return {inner[path]: content for path, content in data.items() if inner.get(path)}
        kind = next(iter(source), "nothing")
        raise MountError(f"projected volumes from {kind} are not supported")

    async def _object(
        self, pod: Obj, resource: GroupVersionResource, name: str | None, source: Obj
    ) -> Files:
        namespace = pod["metadata"].get("namespace") or ""
        optional = bool(source.get("optional"))
        try:
            found = await self._client.get(resource, name or "", namespace)
        except StatusError as error:
            if optional and is_not_found(error):
                return {}
            raise MountError(error.message) from error
        return object_files(binary_data(found), source, _mode(source), optional=optional)

    def _downward(self, pod: Obj, items: list[Obj], mode: int) -> Files:
        ips = tuple(i["ip"] for i in (pod.get("status") or {}).get("podIPs") or ())

        def resource(reference: Obj) -> str:
            name = reference.get("containerName")
            containers = pod["spec"].get("containers") or ()
            container = next((c for c in containers if c["name"] == name), None)
            if container is None:
                raise FieldError(f"container {name} not found")
            defaults = downward_limits(pod, self._allocatable())
            return resource_value(container, reference, defaults)

        try:
            return downward_files(
                items, mode, lambda path: field_value(pod, path, ips, self._host_ip), resource
            )
        except FieldError as error:
            raise MountError(str(error)) from error

    async def _token(self, pod: Obj, source: Obj) -> str:
        metadata = pod["metadata"]
        audience = source.get("audience") or ""
        seconds = int(source.get("expirationSeconds") or 3600)
        key = (metadata["uid"], audience, str(seconds))
        cached = self._tokens.get(key)
        if cached is not None and self._clock.time() < cached.renew_at:
            return cached.text
        request: Obj = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        }  # fmt: skip
        account = pod["spec"].get("serviceAccountName") or "default"
        try:
            answer = await self._client.create(
                SERVICE_ACCOUNTS, request, metadata.get("namespace") or "", name=account,
                subresource="token",
            )  # fmt: skip
        except StatusError as error:
            raise MountError(f"failed to fetch token: {error.message}") from error
        status = answer["status"]
        now = self._clock.time()
        life = parse_time(status["expirationTimestamp"]).timestamp() - now
        self._tokens[key] = _Token(status["token"], now + life * RENEW_SHARE)
        return str(status["token"])


def _mode(source: Obj) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _credential(pod: Obj, data: bytes, mode: int) -> FileContent:
    owner = common_user(pod)
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return FileContent(data, mode if owner is None and group is None else 0o600, owner)


def common_user(pod: Obj) -> int | None:
    """The user that all containers run as; None when they differ or don't say."""
    spec = pod["spec"]
    common = (spec.get("securityContext") or {}).get("runAsUser")
    users = set()
    for list_name in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(list_name) or ():
            own = (container.get("securityContext") or {}).get("runAsUser")
            users.add(common if own is None else own)
    only = users.pop() if len(users) == 1 else None
    return None if only is None else int(only)
