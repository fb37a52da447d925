"""ServiceAccount: every pod runs as one, with its token mounted (serviceaccount/admission.go)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.names import generate_name
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.admission.plugin import SERVICE_ACCOUNTS, Plugin, refuse
from pilothouse.apiserver.pod_references import secret_names, service_account_token_sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes

DEFAULT_NAME = "default"
VOLUME_PREFIX = "kube-api-access-"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
ENFORCE_ANNOTATION = "kubernetes.io/enforce-mountable-secrets"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_DEFAULT_WAIT = 1.5
"""Seconds that a pod waits for its namespace's default account, which a controller makes."""
_GVR = GroupVersionResource("", "v1", "serviceaccounts")


class ServiceAccount(Plugin):
    def set_up(self) -> None:
        self._waiting: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        self._subscribed = False

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.operation != "CREATE" or attributes.subresource or pod is None:
            return
        if _is_mirror(pod):
            _check_mirror(attributes, pod)
            return
        spec = pod["spec"]
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = spec["serviceAccount"] = DEFAULT_NAME
        account = await self._account(attributes, spec["serviceAccountName"])
        if _automount(spec, account):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [
                {"name": reference["name"]} if reference.get("name") else {}
                for reference in account["imagePullSecrets"]
            ]

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None:
            return
        ephemeral = attributes.subresource == "ephemeralcontainers"
        if attributes.operation != "CREATE" and not ephemeral:
            return
        if not ephemeral and _is_mirror(pod):
            _check_mirror(attributes, pod)
            return
        name = pod["spec"].get("serviceAccountName")
        if not name:
            where = f"{attributes.namespace}/{(pod.get('metadata') or {}).get('name') or ''}"
            raise refuse(attributes, f"no service account specified for pod {where}")
        account = self.listers.get(SERVICE_ACCOUNTS, attributes.namespace, name)
        if account is None:
            account = await self._account(attributes, name)
        annotations = account["metadata"].get("annotations") or {}
        if annotations.get(ENFORCE_ANNOTATION) in _TRUE:
            problem = _unlisted_secret(pod["spec"], account, ephemeral)
            if problem:
                raise refuse(attributes, problem)

    async def _account(self, attributes: Attributes, name: str) -> Obj:
        namespace = attributes.namespace
        account = self.listers.get(SERVICE_ACCOUNTS, namespace, name)
        if account is None:
            account = await self._live(namespace, name)
        if account is None and name == DEFAULT_NAME:
            account = await self._wait(namespace, name)
        if account is None:
            raise refuse(
                attributes,
                f"error looking up service account {namespace}/{name}: "
                f'serviceaccount "{name}" not found',
            )
        return account

    async def _live(self, namespace: str, name: str) -> Obj | None:
        client = self.context.hooks.client
        if client is None:
            return None
        try:
            return await client.get(_GVR, name, namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise

    async def _wait(self, namespace: str, name: str) -> Obj | None:
        """Until the account appears in the cache, or the wait is over."""
        if self.context.hooks.client is None:
            return None
        if not self._subscribed:
            self._subscribed = True
            self.listers.subscribe(SERVICE_ACCOUNTS, self._appeared)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault((namespace, name), [])
        waiters.append(future)
        timer = self.context.clock.call_later(_DEFAULT_WAIT, _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            waiters.remove(future)
            if not waiters:
                self._waiting.pop((namespace, name), None)
        return self.listers.get(SERVICE_ACCOUNTS, namespace, name)

    def _appeared(self, event_type: str, obj: Obj, old: Obj | None) -> None:
        if self._waiting and event_type == "ADDED":
            metadata = obj["metadata"]
            key = (metadata.get("namespace") or "", metadata["name"])
            for future in self._waiting.get(key, ()):
                _finish(future)

    def _mount_token(self, spec: Obj) -> None:
        volumes = spec.get("volumes") or []
        existing = next(
            (v["name"] for v in volumes if (v.get("name") or "").startswith(VOLUME_PREFIX)), None
        )
        name = existing or generate_name(VOLUME_PREFIX, self.context.random)
        needed = False
        for field in ("initContainers", "containers"):
            for container in spec.get(field) or ():
                mounts = container.get("volumeMounts") or []
                if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                    continue
                mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
                container["volumeMounts"] = [*mounts, mount]
                needed = True
        if needed and existing is None:
            spec["volumes"] = [*volumes, token_volume(name)]


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def token_volume(name: str) -> Obj:
    """Token, CA and namespace, as every container finds them."""
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    ca = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return {
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": ca},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
            ],
        },
    }


def _is_mirror(pod: Obj) -> bool:
    return MIRROR_ANNOTATION in ((pod.get("metadata") or {}).get("annotations") or {})


def _check_mirror(attributes: Attributes, pod: Obj) -> None:
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        raise refuse(attributes, "a mirror pod may not reference service accounts")
    if any(True for _ in secret_names(pod)):
        raise refuse(attributes, "a mirror pod may not reference secrets")
    if any(True for _ in service_account_token_sources(spec)):
        reason = "a mirror pod may not use ServiceAccountToken volume projections"
        raise refuse(attributes, reason)


def _automount(spec: Obj, account: Obj) -> bool:
    for holder in (spec, account):
        wish = holder.get("automountServiceAccountToken")
        if wish is not None:
            return bool(wish)
    return True


def _container_secrets(spec: Obj, field: str, title: str) -> Iterator[tuple[str, str]]:
    """(secret, what refers to it) for each reference."""
    for container in spec.get(field) or ():
        head = f"{title} {container.get('name')}"
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                yield reference.get("name") or "", f"{head} with envVar {variable.get('name')}"
        for source in container.get("envFrom") or ():
            if reference := source.get("secretRef"):
                yield reference.get("name") or "", f"{head} with envFrom"


def _unlisted_secret(spec: Obj, account: Obj, ephemeral: bool) -> str:
    """The first Secret that an account with enforced mountable secrets does not list."""
    owner = account["metadata"]["name"]
    mountable = {reference.get("name") for reference in account.get("secrets") or ()}
    tail = f"is not allowed because service account {owner} does not reference that"
    if ephemeral:
        references = list(_container_secrets(spec, "ephemeralContainers", "ephemeral container"))
    else:
        for volume in spec.get("volumes") or ():
            name = (volume.get("secret") or {}).get("secretName")
            if "secret" in volume and name not in mountable:
                return f'volume with secret.secretName="{name}" {tail} secret'
        references = list(_container_secrets(spec, "initContainers", "init container"))
        references += _container_secrets(spec, "containers", "container")
    for name, referrer in references:
        if name not in mountable:
            return f'{referrer} referencing secret.secretName="{name}" {tail} secret'
    if ephemeral:
        return ""
    pullable = {reference.get("name") for reference in account.get("imagePullSecrets") or ()}
    for index, reference in enumerate(spec.get("imagePullSecrets") or ()):
        if reference.get("name") not in pullable:
            return (
                f'imagePullSecrets[{index}].name="{reference.get("name")}" {tail} imagePullSecret'
            )
    return ""


PLUGINS = {"ServiceAccount": ServiceAccount}
