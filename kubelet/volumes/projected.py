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
from pilothouse.kubelet.field_refs import FieldError, field_value, resource_value
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.atomic_writer import FileContent
from pilothouse.kubelet.volumes.object_files import (
    DEFAULT_MODE,
    Files,
    binary_data,
    downward_files,
    object_files,
)
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
    ) -> None:
        self._client = client
        self._clock = clock
        self._allocatable = allocatable
        self._host_ip = host_ip
        self._tokens: dict[tuple[str, ...], _Token] = {}

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
            return await self._projected(pod, volume["projected"])
        return None

    def forget(self, uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]

    async def _projected(self, pod: Obj, projected: Obj) -> Files:
        mode = _mode(projected)
        files: Files = {}
        for source in projected.get("sources") or ():
            if source.get("configMap"):
                inner = source["configMap"] | {"defaultMode": mode}
                files |= await self._object(pod, CONFIG_MAPS, inner.get("name"), inner)
            elif source.get("secret"):
                inner = source["secret"] | {"defaultMode": mode}
                files |= await self._object(pod, SECRETS, inner.get("name"), inner)
            elif source.get("downwardAPI"):
                files |= self._downward(pod, source["downwardAPI"].get("items") or [], mode)
            elif source.get("serviceAccountToken"):
                inner = source["serviceAccountToken"]
                token = await self._token(pod, inner)
                files[inner["path"]] = FileContent(token.encode(), mode)
            elif source.get("clusterTrustBundle"):
                inner = source["clusterTrustBundle"]
                anchors = await trust_anchors(self._client, inner)
                files[inner["path"]] = FileContent(anchors, mode)
            else:
                kind = next(iter(source), "nothing")
                raise MountError(f"projected volumes from {kind} are not supported yet")
        return files

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
            return resource_value(container, reference, self._allocatable())

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
