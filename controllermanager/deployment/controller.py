"""Keeps Deployments: claims ReplicaSets, carries out ``compute``'s plan, writes the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.labels import selector_from_label_selector
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
from pilothouse.controllermanager import pods as podutil
from pilothouse.controllermanager.controller import Controller, SyncError
from pilothouse.controllermanager.controller_ref import RefManager, controller_reference
from pilothouse.controllermanager.deployment import revisions, scaling, status
from pilothouse.controllermanager.deployment.compute import Plan, Write, compute
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING
from pilothouse.kubeclient.resources import DEPLOYMENTS, PODS, REPLICA_SETS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

SELECTING_ALL = "This deployment is selecting all pods. A non-empty selector is required."


class DeploymentController(Controller):
    name = "deployment-controller"

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._deployments = self.watch_keys(DEPLOYMENTS)
        self._replica_sets = self.watch(
            REPLICA_SETS,
            self._replica_set_added,
            self._replica_set_updated,
            self._replica_set_deleted,
        )
        self._pods = self.watch(PODS, on_delete=self._pod_deleted)
        self._pods.add_index(podutil.CONTROLLER_INDEX, podutil.controller_index)

    # Events.

    def _resolve(self, namespace: str, reference: Obj | None) -> Obj | None:
        if reference is None or reference.get("kind") != "Deployment":
            return None
        owner = self._deployments.get(f"{namespace}/{reference.get('name')}")
        return owner if owner is not None and uid_of(owner) == reference.get("uid") else None

    def _enqueue_owner(self, replica_set: Obj) -> None:
        owner = self._resolve(namespace_of(replica_set), controller_of(replica_set))
        if owner is not None:
            self.enqueue(owner)

    def _enqueue_matching(self, replica_set: Obj) -> None:
        labels = meta(replica_set).get("labels")
        if not labels:
            return
        for deployment in self._deployments.list(namespace_of(replica_set)):
            selector = selector_from_label_selector(deployment["spec"].get("selector"))
            if not selector.empty and selector.matches(labels):
                self.enqueue(deployment)

    def _replica_set_added(self, replica_set: Obj) -> None:
        if podutil.is_deleted(replica_set):
            self._replica_set_deleted(replica_set)
        elif controller_of(replica_set) is not None:
            self._enqueue_owner(replica_set)
        else:
            self._enqueue_matching(replica_set)

    def _replica_set_updated(self, old: Obj, new: Obj) -> None:
        before, reference = controller_of(old), controller_of(new)
        if before is not None and before != reference:
            self._enqueue_owner(old)
        if reference is not None:
            self._enqueue_owner(new)
        elif before is not None or meta(old).get("labels") != meta(new).get("labels"):
            self._enqueue_matching(new)

    def _replica_set_deleted(self, replica_set: Obj) -> None:
        self._enqueue_owner(replica_set)

    def _pod_deleted(self, pod: Obj) -> None:
        """Recreate waits for the last old pod."""
        reference = controller_of(pod)
        if reference is None or reference.get("kind") != "ReplicaSet":
            return
        replica_set = self._replica_sets.get(f"{namespace_of(pod)}/{reference.get('name')}")
        if replica_set is None:
            return
        owner = self._resolve(namespace_of(pod), controller_of(replica_set))
        if owner is None or scaling.is_rolling_update(owner):
            return
        if not any(pods for pods in self._pods_by_owner(self._owned(owner)).values()):
            self.enqueue(owner)

    def _owned(self, deployment: Obj) -> list[Obj]:
        return [
            rs
            for rs in self._replica_sets.list(namespace_of(deployment))
            if (controller_of(rs) or {}).get("uid") == uid_of(deployment)
        ]

    def _pods_by_owner(self, replica_sets: list[Obj]) -> dict[str, list[Obj]]:
        return {
            uid_of(rs): self._pods.by_index(
                podutil.CONTROLLER_INDEX,
                podutil.controller_index_key(namespace_of(rs), controller_reference(rs)),
            )
            for rs in replica_sets
        }

    # Sync.

    async def sync(self, key: str) -> None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return
        label_selector = deployment["spec"].get("selector")
        if label_selector == {}:
            await self._refuse_selecting_all(deployment)
            return
        try:
            selector = selector_from_label_selector(label_selector)
        except ValueError as error:
            raise SyncError(f"deployment {key} has invalid label selector: {error}") from error
        references = RefManager(self.client, DEPLOYMENTS, deployment, selector, REPLICA_SETS)
        replica_sets = await references.claim(self._replica_sets.list(namespace_of(deployment)))
        if await self._roll_back(deployment, replica_sets):
            return
        pods: dict[str, list[Obj]] = {}
        if not scaling.is_rolling_update(deployment):
            pods = self._pods_by_owner(replica_sets)
        plan = compute(deployment, replica_sets, pods, self.now(), self.timestamp())
        for write in plan.writes:
            await self._carry_out(deployment, write)
        written = await self._write_status(deployment, plan)
        if not written and plan.check_after is not None:
            if plan.check_after == 0:
                self.queue.add_rate_limited(key)
            else:
                self.queue.add_after(key, plan.check_after)

    async def _refuse_selecting_all(self, deployment: Obj) -> None:
        self.recorder.event(deployment, "Warning", "SelectingAll", SELECTING_ALL)
        generation = meta(deployment).get("generation") or 0
        if get_nested(deployment, "status", "observedGeneration", default=0) < generation:
            copy = copy_object(deployment)
            copy.setdefault("status", {})["observedGeneration"] = generation
            await self.client.update(DEPLOYMENTS, copy, subresource="status")

    async def _carry_out(self, deployment: Obj, write: Write) -> None:
        if write.verb == "create":
            await self._create(deployment, write)
        elif write.verb == "update":
            await self.client.update(REPLICA_SETS, copy_object(write.obj))
        else:
            try:
                await self.client.delete(REPLICA_SETS, name_of(write.obj), namespace_of(write.obj))
            except StatusError as error:
                if not is_not_found(error):
                    raise
        if write.message:
            self.recorder.event(deployment, "Normal", "ScalingReplicaSet", write.message)

    async def _create(self, deployment: Obj, write: Write) -> None:
        try:
            await self.client.create(REPLICA_SETS, copy_object(write.obj), namespace_of(deployment))
        except StatusError as error:
            if is_already_exists(error):
                await self._resolve_collision(deployment, write, error)
            elif error.has_cause(NAMESPACE_TERMINATING):
                raise
            else:
                await self._report_create_error(deployment, write.obj, error)
                raise

    async def _resolve_collision(self, deployment: Obj, write: Write, error: StatusError) -> None:
        """The name is taken: by our own ReplicaSet that the informer has not shown yet, or by
        another template with the same hash, which a higher collisionCount gets around."""
        existing = await self.client.get(REPLICA_SETS, name_of(write.obj), namespace_of(deployment))
        ours = (controller_of(existing) or {}).get("uid") == uid_of(deployment)
        if ours and revisions.same_template(
            deployment["spec"]["template"], existing["spec"]["template"]
        ):
            write.message = ""
            return
        copy = copy_object(deployment)
        current = get_nested(copy, "status", "collisionCount", default=0)
        copy.setdefault("status", {})["collisionCount"] = current + 1
        await self.client.update(DEPLOYMENTS, copy, subresource="status")
        raise error

    async def _report_create_error(
        self, deployment: Obj, replica_set: Obj, error: StatusError
    ) -> None:
        message = f'Failed to create new replica set "{name_of(replica_set)}": {error}'
        self.recorder.event(deployment, "Warning", status.CREATE_ERROR, message)
        if status.has_progress_deadline(deployment):
            copy = copy_object(deployment)
            failed = status.condition(
                "Progressing", "False", status.CREATE_ERROR, message, self.timestamp()
            )
            status.set_condition(copy.setdefault("status", {}), failed)
            try:
                await self.client.update(DEPLOYMENTS, copy, subresource="status")
            except StatusError:
                pass  # the creation's error is the one to report

    async def _write_status(self, deployment: Obj, plan: Plan) -> bool:
        annotations = revisions.annotations_of(deployment)
        revised = plan.revision and annotations.get(revisions.REVISION) != plan.revision
        if not revised and _comparable(deployment.get("status") or {}) == _comparable(plan.status):
            return False
        copy = copy_object(deployment)
        if revised:
            copy["metadata"]["annotations"] = {**annotations, revisions.REVISION: plan.revision}
        copy["status"] = plan.status
        await self.client.update(DEPLOYMENTS, copy, subresource="status")
        return True

    # Rollback by annotation (kubectl rolls back by patching the template itself).

    async def _roll_back(self, deployment: Obj, replica_sets: list[Obj]) -> bool:
        text = revisions.annotations_of(deployment).get(revisions.ROLLBACK_TO)
        if not text or podutil.is_deleted(deployment) or deployment["spec"].get("paused"):
            return False
        try:
            wanted = int(text)
        except ValueError:
            return False
        new, done = copy_object(deployment), ""
        wanted = wanted or revisions.last_revision(replica_sets)
        target = next((rs for rs in replica_sets if revisions.revision_of(rs) == wanted), None)
        if not wanted:
            self._rollback_warning(
                deployment, "DeploymentRollbackRevisionNotFound", "Unable to find last revision."
            )
        elif target is None:
            self._rollback_warning(
                deployment,
                "DeploymentRollbackRevisionNotFound",
                "Unable to find the revision to rollback to.",
            )
        elif revisions.same_template(deployment["spec"]["template"], target["spec"]["template"]):
            self._rollback_warning(
                deployment,
                "DeploymentRollbackTemplateUnchanged",
                "The rollback revision contains the same template as current deployment "
                f'"{name_of(deployment)}"',
            )
        else:
            new = revisions.rolled_back(deployment, target)
            done = f'Rolled back deployment "{name_of(deployment)}" to revision {wanted}'
        new["metadata"]["annotations"].pop(revisions.ROLLBACK_TO, None)
        await self.client.update(DEPLOYMENTS, new)
        if done:
            self.recorder.event(deployment, "Normal", "DeploymentRollback", done)
        return True

    def _rollback_warning(self, deployment: Obj, reason: str, message: str) -> None:
        self.recorder.event(deployment, "Warning", reason, message)

    def enqueue(self, obj: Obj) -> None:
        self.queue.add(object_key(obj))


def _comparable(value: Obj) -> Obj:
    return {k: v for k, v in value.items() if v or k in ("terminatingReplicas", "collisionCount")}
