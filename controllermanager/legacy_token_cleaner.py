"""Marks, then deletes, token Secrets that were made automatically and that nobody has used."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    get_nested,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.periodic import PeriodicController
from pilothouse.controllermanager.serviceaccount_tokens import (
    NAME_ANNOTATION,
    TYPE,
    UID_ANNOTATION,
)
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
DAY = 86400.0


def mounted_secrets(pod: Obj) -> set[str]:
    """Names of Secrets that a pod mounts or reads variables from."""
    names = {ref.get("name") for ref in get_nested(pod, "spec", "imagePullSecrets", default=())}
    for volume in get_nested(pod, "spec", "volumes", default=()):
        names.add(get_nested(volume, "secret", "secretName"))
        for source in get_nested(volume, "projected", "sources", default=()):
            names.add(get_nested(source, "secret", "name"))
    for list_name in ("containers", "initContainers", "ephemeralContainers"):
        for container in get_nested(pod, "spec", list_name, default=()):
            names |= {get_nested(e, "secretRef", "name") for e in container.get("envFrom") or ()}
            names |= {
                get_nested(e, "valueFrom", "secretKeyRef", "name")
                for e in container.get("env") or ()
            }
    return {name for name in names if name}


def is_stale(secret: Obj, now: float, unused_for: float) -> bool:
    """Whether the token is old and has not been used for so long."""
    if secret.get("type") != TYPE or meta(secret).get("deletionTimestamp"):
        return False
    if seconds_of(meta(secret).get("creationTimestamp")) >= now - unused_for:
        return False
    last_used = (meta(secret).get("labels") or {}).get(LAST_USED)
    return last_used is None or (is_date(last_used) and last_used < day(now - unused_for))


def day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


class LegacyTokenCleaner(PeriodicController):
    name = "legacy-serviceaccount-token-cleaner-controller"
    period = DAY

    def __init__(self, env: Environment, *, unused_for: float = 365 * DAY) -> None:
        super().__init__(env)
        self._unused_for = unused_for
        self._secrets = self.watch(SECRETS)
        self._accounts = self.watch(SERVICE_ACCOUNTS)
        self._pods = self.watch(PODS)

    async def look(self) -> None:
        tracked = await self._tracked_since()
        now = self.now()
        if tracked is None or now < tracked + self._unused_for:
            return  # nobody knows what was used before
        for secret in self._secrets.list():
            if is_stale(secret, now, self._unused_for) and self._is_automatic(secret):
                await self._clean(secret, now)

    async def _tracked_since(self) -> float | None:
        try:
            config_map = await self.client.get(CONFIG_MAPS, TRACKING, "kube-system")
        except StatusError as error:
            if is_not_found(error):
                return None
            raise
        since = get_nested(config_map, "data", "since", default="")
        if not is_date(since):
            return None
        start = datetime.combine(date.fromisoformat(since), datetime.min.time(), UTC)
        return (start + timedelta(days=1)).timestamp()

    def _is_automatic(self, secret: Obj) -> bool:
        """Its account lists it (as those made by old versions are), and no pod mounts it."""
        annotations = meta(secret).get("annotations") or {}
        namespace = namespace_of(secret)
        account = self._accounts.get(f"{namespace}/{annotations.get(NAME_ANNOTATION)}")
        if account is None or annotations.get(UID_ANNOTATION, uid_of(account)) != uid_of(account):
            return False
        if name_of(secret) not in [ref.get("name") for ref in account.get("secrets") or ()]:
            return False
        return all(name_of(secret) not in mounted_secrets(p) for p in self._pods.list(namespace))

    async def _clean(self, secret: Obj, now: float) -> None:
        since = (meta(secret).get("labels") or {}).get(INVALID_SINCE) or ""
        name, namespace = name_of(secret), namespace_of(secret)
        try:
            if not is_date(since):
                labels = {INVALID_SINCE: day(now)}
                patch = {"metadata": {"uid": uid_of(secret), "labels": labels}}
                await self.client.patch(
                    SECRETS, name, patch, "application/merge-patch+json", namespace
                )
            elif since < day(now - self._unused_for):
                version = meta(secret)["resourceVersion"]
                options = DeleteOptions(precondition_resource_version=version)
                await self.client.delete(SECRETS, name, namespace, options)
        except StatusError as error:
            if not (is_conflict(error) or is_not_found(error)):
                raise
