"""The status of PodDisruptionBudgets: how many pods may be evicted now.

:func:`compute` is the pure part. The eviction sub-resource counts ``disruptionsAllowed`` down and
notes the pod in ``disruptedPods``; this controller counts anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    controller_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
)
from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.controllermanager.controller import (
    Controller,
    SyncError,
    seconds_of,
    with_status,
)
from pilothouse.controllermanager.intstr import scaled_value
from pilothouse.controllermanager.pods import is_deleted, is_ready, is_terminal
from pilothouse.controllermanager.replicaset import replicas_of
from pilothouse.kubeclient.discovery import discover
from pilothouse.kubeclient.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

DELETION_TIMEOUT = 120.0
STALE_CONDITION_TIMEOUT = 120.0
_STALE = "stale/"


@dataclass(slots=True)
class Verdict:
    status: Obj
    recheck_after: float | None = None
    """Seconds until a pod that should have been deleted counts again."""
    not_deleted: list[Obj] = field(default_factory=list)
    """Pods whose eviction was granted but that are still there."""


def compute(budget: Obj, pods: Sequence[Obj], expected: int, now: float, timestamp: str) -> Verdict:
    """The new status; ``expected`` is how many pods their controllers want.

    :raises ValueError: the budget's number is no number or percentage.
    """
    desired = _desired_healthy(budget, expected)
    verdict = Verdict({})
    disrupted = _disrupted(budget, pods, now, verdict)
    healthy = sum(
        1 for pod in pods if not is_deleted(pod) and name_of(pod) not in disrupted and is_ready(pod)
    )
    allowed = max(0, healthy - desired) if expected > 0 else 0
    generation = meta(budget).get("generation") or 0
    verdict.status = {
        "observedGeneration": generation,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "conditions": _conditions(
            budget,
            "True" if allowed else "False",
            "SufficientPods" if allowed else "InsufficientPods",
            "",
            generation,
            timestamp,
        ),
    }
    if disrupted:
        verdict.status["disruptedPods"] = disrupted
    return verdict


def _desired_healthy(budget: Obj, expected: int) -> int:
    spec = budget.get("spec") or {}
    if spec.get("maxUnavailable") is not None:
        unavailable = scaled_value(spec["maxUnavailable"], expected, round_up=True)
        return max(0, expected - unavailable)
    return scaled_value(spec.get("minAvailable"), expected, round_up=True)


def needs_scale(budget: Obj) -> bool:
    """Whether the expected count is what controllers want, not what is there."""
    spec = budget.get("spec") or {}
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def _disrupted(budget: Obj, pods: Sequence[Obj], now: float, verdict: Verdict) -> dict[str, str]:
    noted = get_nested(budget, "status", "disruptedPods", default={})
    result: dict[str, str] = {}
    for pod in pods:
        since = noted.get(name_of(pod))
        if since is None or is_deleted(pod):
            continue
        left = seconds_of(since) + DELETION_TIMEOUT - now
        if left <= 0:
            verdict.not_deleted.append(pod)
            continue
        result[name_of(pod)] = since
        if verdict.recheck_after is None or left < verdict.recheck_after:
            verdict.recheck_after = left
    return result


def _conditions(
    budget: Obj, status: str, reason: str, message: str, generation: int, timestamp: str
) -> list[Obj]:
    old = condition_of(budget, "DisruptionAllowed")
    changed = old is None or old.get("status") != status
    new = {
        "type": "DisruptionAllowed",
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": timestamp if changed or old is None else old["lastTransitionTime"],
        "reason": reason,
        "message": message,
    }
    others = get_nested(budget, "status", "conditions", default=())
    return [*(c for c in others if c.get("type") != "DisruptionAllowed"), new]


class DisruptionController(Controller):
    """Keys are budgets, and ``stale/<pod>`` for pods whose eviction never happened."""

    name = "disruption-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers, component="controllermanager")
        self._budgets = self.watch_keys(POD_DISRUPTION_BUDGETS)
        self._pods = self.watch(PODS, self._pod_changed, self._pod_updated, self._enqueue_budgets)
        changed = self._owner_changed
        self._owners = {
            "ReplicaSet": self.watch(REPLICA_SETS, on_update=changed),
            "ReplicationController": self.watch(REPLICATION_CONTROLLERS, on_update=changed),
            "StatefulSet": self.watch(STATEFUL_SETS, on_update=changed),
            "Deployment": self.watch(DEPLOYMENTS, on_update=changed),
        }

    def _pod_changed(self, pod: Obj) -> None:
        budgets = self._budgets_of(pod)
        for budget in budgets:
            self.enqueue(budget)
        if len(budgets) > 1:  # the pod can't be evicted then
            message = (
                f'Pod "{namespace_of(pod)}"/"{name_of(pod)}" matches multiple '
                f'PodDisruptionBudgets.  Chose "{name_of(budgets[0])}" arbitrarily.'
            )
            self.recorder.event(pod, "Warning", "MultiplePodDisruptionBudgets", message)
        if _has_stale_condition(pod):
            self.queue.add(_STALE + object_key(pod))

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        self._pod_changed(new)
        if meta(old).get("labels") != meta(new).get("labels"):
            self._enqueue_budgets(old)

    def _enqueue_budgets(self, pod: Obj) -> None:
        for budget in self._budgets_of(pod):
            self.enqueue(budget)

    def _budgets_of(self, pod: Obj) -> list[Obj]:
        labels = meta(pod).get("labels")
        return [
            budget
            for budget in self._budgets.list(namespace_of(pod))
            if selector_from_label_selector(get_nested(budget, "spec", "selector")).matches(labels)
        ]

    def _owner_changed(self, old: Obj, new: Obj) -> None:
        """A scaled controller changes what its pods' budgets expect."""
        if replicas_of(old) != replicas_of(new):
            for budget in self._budgets.list(namespace_of(new)):
                self.enqueue(budget)

    async def sync(self, key: str) -> None:
        if key.startswith(_STALE):
            await self._sync_stale(key)
            return
        budget = self._budgets.get(key)
        if budget is None:
            return
        try:
            await self._try_sync(key, budget)
        except (StatusError, SyncError, ValueError) as error:
            if isinstance(error, StatusError) and is_conflict(error):
                raise
            await self._fail_safe(budget, str(error))

    async def _try_sync(self, key: str, budget: Obj) -> None:
        selector = selector_from_label_selector(get_nested(budget, "spec", "selector"))
        pods = self._pods.list(namespace_of(budget), selector)
        pods = [pod for pod in pods if not is_terminal(pod)]
        if not pods:
            self.recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        expected = len(pods)
        if needs_scale(budget):
            try:
                expected = await self._expected_scale(budget, pods)
            except (StatusError, SyncError) as error:
                message = f"Failed to calculate the number of expected pods: {error}"
                self.recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", message)
                raise
        verdict = compute(budget, pods, expected, self.now(), self.timestamp())
        for pod in verdict.not_deleted:
            message = f"Pod was expected by PDB {key} to be deleted but it wasn't"
            self.recorder.event(pod, "Warning", "NotDeleted", message)
        if verdict.status != _filled(budget.get("status") or {}):
            new = with_status(budget, verdict.status)
            await self.client.update(POD_DISRUPTION_BUDGETS, new, subresource="status")
        if verdict.recheck_after is not None:
            self.queue.add_after(key, verdict.recheck_after)

    async def _fail_safe(self, budget: Obj, message: str) -> None:
        """When in doubt nobody is evicted."""
        status = copy_object(budget.get("status") or {})
        generation = status.get("observedGeneration") or 0
        status["disruptionsAllowed"] = 0
        status["conditions"] = _conditions(
            budget, "False", "SyncFailed", message, generation, self.timestamp()
        )
        for count in ("currentHealthy", "desiredHealthy", "expectedPods"):
            status.setdefault(count, 0)
        if status != budget.get("status"):
            new = with_status(budget, status)
            await self.client.update(POD_DISRUPTION_BUDGETS, new, subresource="status")

    async def _expected_scale(self, budget: Obj, pods: Sequence[Obj]) -> int:
        scales: dict[str, int] = {}
        unmanaged = []
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged.append(name_of(pod))
            elif reference["uid"] not in scales:
                found = await self._scale_of(reference, namespace_of(pod))
                if found is None:
                    raise SyncError(f'found no controllers for pod "{name_of(pod)}"')
                scales[found[0]] = found[1]
                scales.setdefault(reference["uid"], 0)
        if unmanaged:
            self._report_unmanaged(budget)
        return sum(scales.values())

    def _report_unmanaged(self, budget: Obj) -> None:
        selector = _as_go_prints(get_nested(budget, "spec", "selector", default={}))
        self.recorder.event(
            budget,
            "Warning",
            "UnmanagedPods",
            f"Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be "
            "unmanaged. As a result, the status of the PDB cannot be calculated correctly, which "
            "may result in undefined behavior. To account for these pods please set "
            '".spec.minAvailable" field of the PDB to an integer value.',
        )

    async def _scale_of(self, reference: Obj, namespace: str) -> tuple[str, int] | None:
        """(uid, wanted replicas) of whoever scales the pods of that controller."""
        informer = self._owners.get(reference["kind"])
        if informer is None:
            return await self._custom_scale(reference, namespace)
        owner = informer.get(f"{namespace}/{reference['name']}")
        if owner is None or meta(owner).get("uid") != reference["uid"]:
            return None
        above = controller_of(owner)
        if reference["kind"] == "ReplicaSet" and above and above.get("kind") == "Deployment":
            deployment = self._owners["Deployment"].get(f"{namespace}/{above['name']}")
            if deployment is None or meta(deployment).get("uid") != above["uid"]:
                return None
            owner = deployment
        return meta(owner)["uid"], replicas_of(owner)

    async def _custom_scale(self, reference: Obj, namespace: str) -> tuple[str, int] | None:
        """Of any kind that has a scale sub-resource."""
        discovered = await discover(self.client)
        resource = discovered.for_kind(reference["apiVersion"], reference["kind"])
        if resource is None:
            return None
        try:
            scale = await self.client.get(
                resource.gvr, reference["name"], namespace, subresource="scale"
            )
        except StatusError as error:
            if error.code == 404:
                raise SyncError(
                    f"{GroupVersionKind(*resource.gvr[:2], reference['kind']).group_kind} "
                    "does not implement the scale subresource"
                ) from error
            raise
        if meta(scale).get("uid") not in (None, reference["uid"]):
            return None
        return reference["uid"], get_nested(scale, "spec", "replicas", default=0)

    async def _sync_stale(self, key: str) -> None:
        """An eviction that was granted but not carried out is taken back after two minutes."""
        pod = self._pods.get(key.removeprefix(_STALE))
        if pod is None or not _has_stale_condition(pod):
            return
        condition = condition_of(pod, "DisruptionTarget")
        since = seconds_of((condition or {}).get("lastTransitionTime"))
        left = since + STALE_CONDITION_TIMEOUT - self.now()
        if left > 0:
            self.queue.add_after(key, left)
            return
        copy = copy_object(pod)
        new = condition_of(copy, "DisruptionTarget")
        assert new is not None
        new |= {"status": "False", "lastTransitionTime": self.timestamp()}
        new["observedGeneration"] = meta(pod).get("generation") or 0
        new.pop("reason", None)
        new.pop("message", None)
        await self.client.update(PODS, copy, subresource="status")


def _as_go_prints(selector: Obj) -> str:
    labels = "".join(f"{k}: {v}," for k, v in sorted((selector.get("matchLabels") or {}).items()))
    needs = "".join(
        f"LabelSelectorRequirement{{Key:{need['key']},Operator:{need['operator']},"
        f"Values:[{' '.join(need.get('values') or ())}],}},"
        for need in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{needs}}},}}"
    )


def _has_stale_condition(pod: Obj) -> bool:
    condition = condition_of(pod, "DisruptionTarget")
    return (
        condition is not None
        and condition.get("status") == "True"
        and condition.get("reason") != "TerminationByKubelet"
        and not is_deleted(pod)
        and not is_terminal(pod)
    )


def _filled(status: Obj) -> Obj:
    """A stored status with the counts and fields that the server may leave out when zero."""
    counts = ("currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed")
    filled: Obj = {**dict.fromkeys(counts, 0), "observedGeneration": 0, "conditions": []}
    filled |= status
    filled["conditions"] = [
        {"observedGeneration": 0, "message": ""} | c for c in filled["conditions"]
    ]
    return filled
