"""ResourceClaims of pods: made from templates, reserved for pods, let go when pods are done.

Names of generated claims go into ``status.resourceClaimStatuses`` of the pod. A claim that nobody
has reserved any more loses its allocation, so that its devices are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apis.core.resource_claims import (
    POD_CLAIM_ANNOTATION,
    all_claim_keys,
    claim_name_of,
    is_for_pod,
    is_reserved_for,
    pod_claim_keys,
)
from pilothouse.controllermanager.controller import Controller, SyncError, with_status
from pilothouse.controllermanager.pods import is_deleted, is_terminal, node_of
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

FINALIZER = "resource.kubernetes.io/delete-protection"
MAX_RESERVATIONS = 256
MAX_PREFIX = 57
"""Of a generated name: the rest is for the hyphen and five random characters."""
BY_CLAIM = "pods by resource claim"
_POD, _CLAIM = "pod:", "claim:"


def is_done(pod: Obj) -> bool:
    """Whether the pod will never use its claims (again)."""
    return is_terminal(pod) or (is_deleted(pod) and not node_of(pod))


def make_claim(pod: Obj, name: str, template: Obj) -> Obj:
    """The claim for the pod's entry ``name``, from its template."""
    spec = template.get("spec") or {}
    metadata = spec.get("metadata") or {}
    prefix = f"{name_of(pod)}-{name}-"
    if len(prefix) > MAX_PREFIX:
        share = len(prefix)
        pod_part = name_of(pod)[: len(name_of(pod)) * MAX_PREFIX // share]
        prefix = f"{pod_part}-{name[: len(name) * MAX_PREFIX // share]}"
    owner = {
        "apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod),
        "controller": True,
    }  # fmt: skip
    made: Obj = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": prefix,
            "namespace": namespace_of(pod),
            "ownerReferences": [owner],
            "annotations": {**(metadata.get("annotations") or {}), POD_CLAIM_ANNOTATION: name},
        },
        "spec": copy_object(spec.get("spec") or {}),
    }
    if metadata.get("labels"):
        made["metadata"]["labels"] = dict(metadata["labels"])
    return made


def without_reservations(claim: Obj, remaining: Sequence[Obj]) -> Obj:
    """The claim's status with only those; without any, it gives its devices back."""
    status: Obj = {**(claim.get("status") or {}), "reservedFor": list(remaining)}
    if not remaining:
        del status["reservedFor"]
        if FINALIZER in (meta(claim).get("finalizers") or ()):
            status.pop("allocation", None)
    return status


class ResourceClaimController(Controller):
    name = "resourceclaim-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 50) -> None:
        super().__init__(env, workers=workers, component="resource_claim")
        self._pods = self.watch(
            PODS, self._pod_changed, lambda _, new: self._pod_changed(new), self._pod_changed
        )
        self._pods.add_index(BY_CLAIM, all_claim_keys)
        self._claims = self.watch(
            RESOURCE_CLAIMS, self._claim_changed, lambda _, new: self._claim_changed(new),
            self._claim_changed,
        )  # fmt: skip
        self._templates = self.watch(RESOURCE_CLAIM_TEMPLATES)
        self._made: dict[tuple[str, str], Obj] = {}
        """Claims just made, by pod uid and entry, until the informer shows them."""

    def _pod_changed(self, pod: Obj) -> None:
        if get_nested(pod, "spec", "resourceClaims"):
            self.queue.add(_POD + object_key(pod))
        for key in all_claim_keys(pod):
            self.queue.add(_CLAIM + key)

    def _claim_changed(self, claim: Obj) -> None:
        self.queue.add(_CLAIM + object_key(claim))
        for pod in self._pods.by_index(BY_CLAIM, object_key(claim)):
            self.queue.add(_POD + object_key(pod))

    async def sync(self, key: str) -> None:
        if key.startswith(_POD):
            pod = self._pods.get(key.removeprefix(_POD))
            if pod is not None and not is_deleted(pod) and not is_terminal(pod):
                await self._sync_pod(pod)
            return
        claim = self._claims.get(key.removeprefix(_CLAIM))
        if claim is not None:
            await self._sync_claim(claim)

    # Pods.

    async def _sync_pod(self, pod: Obj) -> None:
        made: dict[str, str] = {}
        for entry in pod["spec"].get("resourceClaims") or ():
            try:
                name = await self._ensure(pod, entry)
            except (StatusError, SyncError) as error:
                message = f"PodResourceClaim {entry['name']}: {error}"
                self.recorder.event(pod, "Warning", "FailedResourceClaimCreation", message)
                raise SyncError(f"pod {object_key(pod)}, {message}") from error
            if name:
                made[entry["name"]] = name
        if made:
            await self._write_names(pod, made)
        if node_of(pod):
            await self._reserve(pod)

    async def _ensure(self, pod: Obj, entry: Obj) -> str:
        """The name of a claim that the pod's status does not tell yet; '' when all is well."""
        template_name = entry.get("resourceClaimTemplateName")
        if not template_name:
            return ""
        known = claim_name_of(pod, entry)
        if known is None:
            return ""  # this entry needs no claim
        if known:
            claim = self._claims.get(f"{namespace_of(pod)}/{known}")
            if claim is not None and is_for_pod(pod, claim):
                self._made.pop((uid_of(pod), entry["name"]), None)
                return ""
        claim = self._find(pod, entry["name"])
        if claim is None:
            template = self._templates.get(f"{namespace_of(pod)}/{template_name}")
            if template is None:
                raise SyncError(
                    f'resource claim template "{template_name}": resourceclaimtemplate.'
                    f'resource.k8s.io "{template_name}" not found'
                )
            wanted = make_claim(pod, entry["name"], template)
            claim = await self.client.create(RESOURCE_CLAIMS, wanted, namespace_of(pod))
            self._made[uid_of(pod), entry["name"]] = claim
        return "" if name_of(claim) == known else name_of(claim)

    def _find(self, pod: Obj, name: str) -> Obj | None:
        """A claim that was made for the entry before, but not noted."""
        for claim in self._claims.list(namespace_of(pod)):
            owner = controller_of(claim)
            annotations = meta(claim).get("annotations") or {}
            if owner is not None and owner.get("uid") == uid_of(pod):
                if annotations.get(POD_CLAIM_ANNOTATION) == name and not is_deleted(claim):
                    return claim
        return self._made.get((uid_of(pod), name))

    async def _write_names(self, pod: Obj, made: dict[str, str]) -> None:
        known = {
            s["name"]: s["resourceClaimName"]
            for s in get_nested(pod, "status", "resourceClaimStatuses", default=())
            if s.get("resourceClaimName")
        }
        statuses = [
            {"name": name, "resourceClaimName": claim}
            for name, claim in sorted({**known, **made}.items())
        ]
        applied = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name_of(pod), "namespace": namespace_of(pod)},
            "status": {"resourceClaimStatuses": statuses},
        }
        await self.client.patch(
            PODS, name_of(pod), applied, "application/apply-patch+yaml", namespace_of(pod),
            subresource="status", field_manager="ResourceClaimController", force=True,
        )  # fmt: skip

    async def _reserve(self, pod: Obj) -> None:
        """For pods that did not come through the scheduler."""
        for key in pod_claim_keys(pod):
            claim = self._claims.get(key)
            if claim is None or not get_nested(claim, "status", "allocation"):
                continue
            reserved = get_nested(claim, "status", "reservedFor", default=[])
            if is_reserved_for(pod, claim) or len(reserved) >= MAX_RESERVATIONS:
                continue
            consumer = {"resource": "pods", "name": name_of(pod), "uid": uid_of(pod)}
            status = {**claim["status"], "reservedFor": [*reserved, consumer]}
            await self.client.update(
                RESOURCE_CLAIMS, with_status(claim, status), subresource="status"
            )

    # Claims.

    async def _sync_claim(self, claim: Obj) -> None:
        reserved = get_nested(claim, "status", "reservedFor", default=[])
        remaining = [r for r in reserved if await self._is_needed(claim, r)]
        held = FINALIZER in (meta(claim).get("finalizers") or ())
        if len(remaining) < len(reserved) or (held and is_deleted(claim) and not remaining):
            status = without_reservations(claim, remaining)
            if status != claim.get("status"):
                new = with_status(claim, status)
                claim = await self.client.update(RESOURCE_CLAIMS, new, subresource="status")
            if held and not get_nested(claim, "status", "allocation"):
                new = copy_object(claim)
                new["metadata"]["finalizers"].remove(FINALIZER)
                claim = await self.client.update(RESOURCE_CLAIMS, new)
        if not remaining:
            await self._delete_if_orphaned(claim)

    async def _is_needed(self, claim: Obj, consumer: Obj) -> bool:
        if consumer.get("apiGroup") or consumer.get("resource") != "pods":
            return True
        pod = self._pods.get(f"{namespace_of(claim)}/{consumer['name']}")
        if pod is None:
            try:
                # The informer may be late.
                pod = await self.client.get(PODS, consumer["name"], namespace_of(claim))
            except StatusError as error:
                if is_not_found(error):
                    return False
                raise
        return uid_of(pod) == consumer.get("uid") and not is_done(pod)

    async def _delete_if_orphaned(self, claim: Obj) -> None:
        """A generated claim goes with its pod's end, not only with the pod."""
        owner = controller_of(claim)
        if owner is None or owner.get("kind") != "Pod" or is_deleted(claim):
            return
        pod = self._pods.get(f"{namespace_of(claim)}/{owner['name']}")
        if pod is None or uid_of(pod) != owner.get("uid") or not is_done(pod):
            return
        options = DeleteOptions(precondition_uid=uid_of(claim))
        try:
            await self.client.delete(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim), options)
        except StatusError as error:
            if not is_not_found(error):
                raise
