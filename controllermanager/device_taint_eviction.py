"""Deletes pods that use devices with a NoExecute taint which their claims don't tolerate.

Taints are in ResourceSlices (set by drivers) and in DeviceTaintRules (set by administrators), whose
status tells how far the eviction is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apis.core.resource_claims import is_reserved_for, pod_claim_keys
from pilothouse.controllermanager.controller import Controller, seconds_of
from pilothouse.controllermanager.pods import is_deleted, is_terminal
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import (
    DEVICE_TAINT_RULES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

BY_CLAIM = "pods by claim for taints"
IN_PROGRESS = "EvictionInProgress"
STATUS_PERIOD = 10.0
"""A rule's status is written at most so often."""
_RULE = "rule:"


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    added: float
    rule: str = ""
    """uid of the rule that it comes from."""


def rule_matches(rule: Obj, device: Obj) -> bool:
    """``device`` is an allocation result: driver, pool, device."""
    selector = get_nested(rule, "spec", "deviceSelector")
    if selector is None:
        return False
    return all(
        selector.get(field) in (None, "", device.get(field))
        for field in ("driver", "pool", "device")
    )


def slice_taints(slices: Iterable[Obj], device: Obj) -> list[Obj]:
    """The taints of an allocated device in the newest generation of its pool."""
    pool = [
        s for s in slices
        if get_nested(s, "spec", "driver") == device["driver"]
        and get_nested(s, "spec", "pool", "name") == device["pool"]
    ]  # fmt: skip
    newest = max((get_nested(s, "spec", "pool", "generation", default=0) for s in pool), default=0)
    for s in pool:
        if get_nested(s, "spec", "pool", "generation", default=0) == newest:
            for entry in s["spec"].get("devices") or ():
                if entry["name"] == device["device"]:
                    return entry.get("taints") or []
    return []


def eviction_time(device: Obj, taints: Sequence[Taint]) -> float | None:
    """When the device's user must go: the earliest of the taints; None: it may stay."""
    earliest: float | None = None
    for taint in taints:
        due = _due(device.get("tolerations") or (), taint)
        if due is not None and (earliest is None or due < earliest):
            earliest = due
    return earliest


def _due(tolerations: Iterable[Obj], taint: Taint) -> float | None:
    waits: list[float] = []
    for toleration in tolerations:
        if not tolerates(toleration, taint):
            continue
        seconds = toleration.get("tolerationSeconds")
        if seconds is None:
            return None
        waits.append(max(float(seconds), 0.0))
    return taint.added + (min(waits) if waits else 0.0)


def tolerates(toleration: Obj, taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", "NoExecute"):
        return False
    if toleration.get("key") and toleration["key"] != taint.key:
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return (toleration.get("value") or "") == taint.value


class DeviceTaintEvictionController(Controller):
    name = "device-taint-eviction-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 8) -> None:
        super().__init__(env, workers=workers)
        self._evicted: dict[str, int] = {}
        """By rule uid, since this process runs."""
        self._pods = self.watch(PODS, self._pod_changed, lambda _, new: self._pod_changed(new))
        self._pods.add_index(BY_CLAIM, pod_claim_keys)
        self._claims = self.watch(
            RESOURCE_CLAIMS, self._claim_changed, lambda _, new: self._claim_changed(new)
        )
        self._slices = self.watch(
            RESOURCE_SLICES, self._slice_changed, lambda old, new: self._slice_changed(new),
        )  # fmt: skip
        self._rules = self.watch(
            DEVICE_TAINT_RULES, self._rule_changed, lambda _, new: self._rule_changed(new)
        )

    def _pod_changed(self, pod: Obj) -> None:
        if pod_claim_keys(pod):
            self.enqueue(pod)

    def _claim_changed(self, claim: Obj) -> None:
        if get_nested(claim, "status", "allocation"):
            for pod in self._pods.by_index(BY_CLAIM, object_key(claim)):
                self.enqueue(pod)

    def _slice_changed(self, resource_slice: Obj) -> None:
        if any(d.get("taints") for d in resource_slice["spec"].get("devices") or ()):
            self._all_claims()

    def _rule_changed(self, rule: Obj) -> None:
        self.queue.add(_RULE + name_of(rule))
        self._all_claims()

    def _all_claims(self) -> None:
        for claim in self._claims.list():
            self._claim_changed(claim)

    async def sync(self, key: str) -> None:
        if key.startswith(_RULE):
            rule = self._rules.get(key.removeprefix(_RULE))
            if rule is not None:
                await self._write_status(rule)
            return
        pod = self._pods.get(key)
        if pod is None or is_deleted(pod) or is_terminal(pod):
            return
        due, rules = self._fate(pod)
        if due is None:
            return
        if due > self.now():
            self.queue.add_after(key, due - self.now())
            return
        await self._evict(pod)
        for rule in self._rules.list():
            if uid_of(rule) in rules:
                self._evicted[uid_of(rule)] = self._evicted.get(uid_of(rule), 0) + 1
                self.queue.add_after(_RULE + name_of(rule), STATUS_PERIOD)

    def _fate(self, pod: Obj) -> tuple[float | None, set[str]]:
        """(when it must go, uids of the rules that say so)"""
        earliest: float | None = None
        rules: set[str] = set()
        for key in pod_claim_keys(pod):
            claim = self._claims.get(key)
            if claim is None or not is_reserved_for(pod, claim):
                continue
            results = get_nested(claim, "status", "allocation", "devices", "results", default=())
            for device in results:
                taints = self._taints(device)
                due = eviction_time(device, taints)
                if due is not None:
                    rules |= {t.rule for t in taints if t.rule and eviction_time(device, [t])}
                    earliest = due if earliest is None else min(earliest, due)
        return earliest, rules

    def _taints(self, device: Obj) -> list[Taint]:
        """Those that throw pods out."""
        found = [
            _taint(raw, "") for raw in slice_taints(self._slices.list(), device)
            if raw.get("effect") == "NoExecute"
        ]  # fmt: skip
        for rule in self._rules.list():
            raw = rule["spec"].get("taint") or {}
            if raw.get("effect") == "NoExecute" and rule_matches(rule, device):
                found.append(_taint(raw, uid_of(rule)))
        return found

    async def _evict(self, pod: Obj) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Marking for deletion")
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByDeviceTaintManager",
            "message": "Device Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": self.timestamp(),
        }
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
        try:
            await self.client.patch(
                PODS, name, patch, "application/strategic-merge-patch+json", namespace,
                subresource="status",
            )  # fmt: skip
            options = DeleteOptions(precondition_uid=uid_of(pod))
            await self.client.delete(PODS, name, namespace, options)
        except StatusError as error:
            if not is_not_found(error):
                raise

    # Rules.

    async def _write_status(self, rule: Obj) -> None:
        old = condition_of(rule, IN_PROGRESS) or {}
        since = self.now() - seconds_of(old.get("lastTransitionTime"))
        generation = meta(rule).get("generation") or 0
        if old.get("observedGeneration") == generation and since < STATUS_PERIOD:
            self.queue.add_after(_RULE + name_of(rule), STATUS_PERIOD - since)
            return
        wanted = self._condition(rule) | {"observedGeneration": generation}
        if all(old.get(key) == value for key, value in wanted.items()):
            return
        wanted["lastTransitionTime"] = self.timestamp()
        patch = {"metadata": {"uid": uid_of(rule)}, "status": {"conditions": [wanted]}}
        await self.client.patch(
            DEVICE_TAINT_RULES, name_of(rule), patch, "application/merge-patch+json",
            subresource="status",
        )  # fmt: skip

    def _condition(self, rule: Obj) -> Obj:
        effect = get_nested(rule, "spec", "taint", "effect", default="")
        condition: Obj = {"type": IN_PROGRESS, "status": "False", "message": ""}
        evicted = self._evicted.get(uid_of(rule), 0)
        if effect == "NoExecute":
            pending = self._pending(rule)
            if pending:
                namespaces = len({namespace_of(pod) for pod in pending})
                condition |= {
                    "status": "True",
                    "reason": "PodsPendingEviction",
                    "message": pending_message(len(pending), namespaces),
                }
            else:
                condition["reason"] = "Completed" if evicted else "NotStarted"
        elif effect == "None":
            condition |= {"reason": "NoEffect", "message": self._what_if(rule)}
        else:
            condition |= {
                "reason": "OtherEffect",
                "message": "Eviction only happens for the NoExecute effect.",
            }
        if evicted:
            pods = "1 pod" if evicted == 1 else f"{evicted} pods"
            text = f"{condition['message']} {pods} evicted since starting the controller."
            condition["message"] = text.strip()
        return condition

    def _pending(self, rule: Obj) -> list[Obj]:
        return [
            pod
            for pod in self._pods.list()
            if pod_claim_keys(pod)
            and not is_deleted(pod)
            and not is_terminal(pod)
            and uid_of(rule) in self._fate(pod)[1]
        ]

    def _what_if(self, rule: Obj) -> str:
        """How many devices and pods the rule would mean if its effect were NoExecute."""
        published = sum(
            rule_matches(rule, {"driver": s["spec"].get("driver"),
                                "pool": get_nested(s, "spec", "pool", "name"),
                                "device": device["name"]})
            for s in self._slices.list()
            for device in s["spec"].get("devices") or ()
        )  # fmt: skip
        allocated, pods = 0, {}
        for claim in self._claims.list():
            results = get_nested(claim, "status", "allocation", "devices", "results", default=())
            means = sum(rule_matches(rule, device) for device in results)
            allocated += means
            if means:
                for pod in self._pods.by_index(BY_CLAIM, object_key(claim)):
                    if is_reserved_for(pod, claim) and not is_deleted(pod):
                        pods[uid_of(pod)] = namespace_of(pod)
        return what_if_message(published, allocated, len(pods), len(set(pods.values())))


def _taint(raw: Obj, rule: str) -> Taint:
    return Taint(raw["key"], raw.get("value") or "", seconds_of(raw.get("timeAdded")), rule)


def pending_message(pods: int, namespaces: int) -> str:
    text = "1 pod needs to be evicted in " if pods == 1 else f"{pods} pods need to be evicted in "
    return text + ("1 namespace." if namespaces == 1 else f"{namespaces} different namespaces.")


def what_if_message(published: int, allocated: int, pods: int, namespaces: int) -> str:
    return (
        f"{published} published device{'' if published == 1 else 's'} selected. "
        f"{allocated} allocated device{'' if allocated == 1 else 's'} selected. "
        f"{pods} pod{'' if pods == 1 else 's'} would be evicted in "
        f"{namespaces} {'namespace' if namespaces == 1 else 'different namespaces'} "
        "if the effect was NoExecute. This information will not be updated again. "
        "Recreate the DeviceTaintRule to trigger an update."
    )
