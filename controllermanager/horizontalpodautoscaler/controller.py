"""The horizontal-pod-autoscaler controller (podautoscaler/horizontal.go).

Each autoscaler is looked at when it appears, when its spec changes and every 15 seconds: metrics
can't be watched. One look: scale → metrics → :mod:`replica_calculator` → :mod:`normalization` →
scale, status, events.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict
from pilothouse.apimachinery.labels import parse_selector
from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, namespace_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.schema import parse_api_version
from pilothouse.controllermanager.controller import Controller, with_status
from pilothouse.controllermanager.horizontalpodautoscaler.metric_sources import (
    MetricFailure,
    MetricSources,
    Target,
)
from pilothouse.controllermanager.horizontalpodautoscaler.metrics_client import MetricsClient
from pilothouse.controllermanager.horizontalpodautoscaler.monitor import (
    INTERNAL,
    NONE,
    SPEC,
    Monitor,
    action_of,
)
from pilothouse.controllermanager.horizontalpodautoscaler.normalization import (
    History,
    Request,
    normalize,
    normalize_with_behavior,
)
from pilothouse.controllermanager.horizontalpodautoscaler.replica_calculator import (
    Readiness,
    Tolerances,
)
from pilothouse.controllermanager.horizontalpodautoscaler.status import (
    ABLE,
    ACTIVE,
    LIMITED,
    SCALED_TO_ZERO,
    Status,
    has_shared_metrics,
    min_replicas,
)
from pilothouse.kubeclient.discovery import discover
from pilothouse.kubeclient.resources import HORIZONTAL_POD_AUTOSCALERS, PODS

if TYPE_CHECKING:
    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.discovery import Discovered
    from pilothouse.kubeclient.interfaces import Environment

log = logging.getLogger(__name__)

_CONFLICT_TRIES = 5


class _Failed(Exception):
    """This look is over; status and events are to be written as they are."""

    label = INTERNAL


class _BadSpec(_Failed):
    label = SPEC


class HorizontalPodAutoscalerController(Controller):
    name = "horizontal-pod-autoscaler-controller"

    def __init__(
        self,
        env: Environment,
        *,
        workers: int = 5,
        sync_period: float = 15.0,
        downscale_stabilization: float = 300.0,
        tolerance: float = 0.1,
        cpu_initialization_period: float = 300.0,
        initial_readiness_delay: float = 30.0,
    ) -> None:
        super().__init__(env, workers=workers, component="horizontal-pod-autoscaler")
        self.sync_period = sync_period
        self.downscale_stabilization = downscale_stabilization
        self.tolerance = tolerance
        self.cpu_initialization_period = cpu_initialization_period
        self.initial_readiness_delay = initial_readiness_delay
        self.metrics = MetricsClient(self.client)
        self._histories: dict[str, History] = {}
        self._selectors: dict[str, Selector] = {}
        self._discovered: Discovered | None = None
        self._autoscalers = self.watch(
            HORIZONTAL_POD_AUTOSCALERS, self.enqueue, self._updated, self.enqueue
        )
        self._pods = self.watch(PODS)
        self.monitor = Monitor(lambda: len(self._autoscalers.list()))
        self.own_metrics = self.monitor.metrics

    def _updated(self, old: Obj, new: Obj) -> None:
        """Our own status writes wait for the next period."""
        if meta(old).get("generation") != meta(new).get("generation"):
            self.enqueue(new)

    async def sync(self, key: str) -> None:
        autoscaler = self._autoscalers.get(key)
        if autoscaler is None:
            self._histories.pop(key, None)
            self._selectors.pop(key, None)
            self.monitor.forget(*key.split("/", 1))
            return
        look = _Look(self, key, autoscaler)
        start, problem = perf_counter(), NONE
        try:
            await look.reconcile()
        except _Failed as error:
            problem = error.label
            log.debug("%s: %s", key, error)
        finally:
            self.queue.add_after(key, self.sync_period)
        await look.write_status()
        self.monitor.reconciled(look.action, problem, perf_counter() - start)

    # What looks share.

    def history(self, key: str) -> History:
        return self._histories.setdefault(key, History())

    def pods_of(self, namespace: str, selector: Selector) -> list[Obj]:
        return self._pods.list(namespace, selector)

    def others_selecting(self, key: str, selector: Selector, pods: list[Obj]) -> list[str]:
        """Autoscalers of pods among ``pods``, this one included, two of them at most."""
        self._selectors[key] = selector
        namespace = key.partition("/")[0]
        found = []
        for other, others in self._selectors.items():
            if other.partition("/")[0] == namespace and any(
                others.matches(meta(pod).get("labels")) for pod in pods
            ):
                found.append(other)
        return found[:2]

    async def resources_of(self, group: str, kind: str) -> list[GroupVersionResource]:
        """Where objects of the kind are, preferred version first; asks anew for unknown ones."""
        for fresh in (False, True):
            if fresh or self._discovered is None:
                self._discovered = await discover(self.client)
            found = [
                each.gvr
                for each in self._discovered.resources
                if (each.gvr.group, each.kind) == (group, kind)
            ]
            if found:
                return found
        return []

    async def discovered(self) -> Discovered:
        if self._discovered is None:
            self._discovered = await discover(self.client)
        return self._discovered

    def tolerances(self, behavior: Obj | None) -> Tolerances:
        def one(rules: Obj | None) -> float:
            own = (rules or {}).get("tolerance")
            return self.tolerance if own is None else Quantity.parse(own).as_float()

        behavior = behavior or {}
        return Tolerances(one(behavior.get("scaleDown")), one(behavior.get("scaleUp")))


class _Look:
    """One reconciliation of one autoscaler."""

    def __init__(
        self, controller: HorizontalPodAutoscalerController, key: str, autoscaler: Obj
    ) -> None:
        self._controller = controller
        self._client = controller.client
        self._key = key
        self._autoscaler = autoscaler
        self._status = Status(autoscaler, controller.timestamp())
        spec = autoscaler["spec"]
        self._target = spec["scaleTargetRef"]
        self._minimum = min_replicas(autoscaler)
        self._maximum = int(spec["maxReplicas"])
        self._behavior: Obj | None = spec.get("behavior")
        self._resource: GroupVersionResource | None = None
        self.action = NONE
        """What has been done."""

    def _event(self, type_: str, reason: str, message: str) -> None:
        self._controller.recorder.event(self._autoscaler, type_, reason, message)

    async def write_status(self) -> None:
        new = self._status.value
        if new == (self._autoscaler.get("status") or {}):
            return
        try:
            await self._client.update(
                HORIZONTAL_POD_AUTOSCALERS,
                with_status(self._autoscaler, new),
                subresource="status",
            )
        except StatusError as error:
            if error.code != 404:
                self._event("Warning", "FailedUpdateStatus", str(error))

    async def reconcile(self) -> None:
        """:raises _Failed: nothing was done, for a reason that status and events tell."""
        controller, status = self._controller, self._status
        scale = await self._get_scale()
        message = "the HPA controller was able to get the target's current scale"
        status.set(ABLE, True, "SucceededGetScale", message)
        current = int(get_nested(scale, "spec", "replicas", default=0))
        controller.history(self._key).start_with(current, controller.now())
        metrics: list[Obj] = []
        reason = ""
        was_zeroed = status.is_true(SCALED_TO_ZERO)
        may_wake = was_zeroed and (self._minimum != 0 or has_shared_metrics(self._autoscaler))
        if current == 0 and not may_wake:
            message = "scaling is disabled since the replica count of the target is zero"
            status.set(ACTIVE, False, "ScalingDisabled", message)
            desired = 0
        elif current > self._maximum:
            desired, reason = self._maximum, "Current number of replicas above Spec.MaxReplicas"
        elif current and current < self._minimum:
            desired, reason = self._minimum, "Current number of replicas below Spec.MinReplicas"
        else:
            desired, reason, metrics = await self._by_metrics(scale, current)
            if current == 0 and desired < self._minimum:
                desired = self._minimum
                reason = reason or "Current number of replicas below Spec.MinReplicas"
        rescales = desired != current
        if rescales:
            await self._rescale(scale, current, desired, reason, metrics)
            self.action = action_of(current, desired)
        status.replicas(current, desired, metrics, rescaled=rescales)
        names = namespace_of(self._autoscaler), name_of(self._autoscaler)
        controller.monitor.desired.set(float(desired), *names)

    # -- the scale -----------------------------------------------------------------------

    async def _get_scale(self) -> Obj:
        target = self._target
        try:
            group, _ = parse_api_version(target.get("apiVersion") or "v1")
        except ValueError as error:
            raise _BadSpec(str(self._no_scale(str(error)))) from error
        try:
            resources = await self._controller.resources_of(group, target["kind"])
            if not resources:
                text = f'no matches for kind "{target["kind"]}" in group "{group}"'
                raise self._no_scale(text)
            return await self._first_scale(resources)
        except (StatusError, ConnectionError) as error:
            raise self._no_scale(str(error)) from error

    async def _first_scale(self, resources: list[GroupVersionResource]) -> Obj:
        """Of the versions of the kind the first that has a scale. :raises StatusError: none."""
        first: StatusError | None = None
        for resource in resources:
            try:
                scale = await self._client.get(
                    resource,
                    self._target["name"],
                    namespace_of(self._autoscaler),
                    subresource="scale",
                )
            except StatusError as error:
                first = first or error
                continue
            self._resource = resource
            return scale
        assert first is not None
        raise first

    def _no_scale(self, text: str) -> _Failed:
        message = f"the HPA controller was unable to get the target's current scale: {text}"
        self._event("Warning", "FailedGetScale", text)
        self._status.set(ABLE, False, "FailedGetScale", message)
        return _Failed(text)

    async def _rescale(
        self, scale: Obj, current: int, desired: int, reason: str, metrics: list[Obj]
    ) -> None:
        status = self._status
        try:
            await self._write_scale(scale, desired)
        except (StatusError, ConnectionError) as error:
            text = f"New size: {desired}; reason: {reason}; error: {error}"
            self._event("Warning", "FailedRescale", text)
            message = f"the HPA controller was unable to update the target scale: {error}"
            status.set(ABLE, False, "FailedUpdateScale", message)
            status.replicas(current, None, metrics)
            raise _Failed(str(error)) from error
        message = f"the HPA controller was able to update the target scale to {desired}"
        status.set(ABLE, True, "SucceededRescale", message)
        self._event("Normal", "SuccessfulRescale", f"New size: {desired}; reason: {reason}")
        if self._behavior is not None:
            now = self._controller.now()
            self._controller.history(self._key).scaled(current, desired, now)
        if desired == 0 and self._minimum == 0 and has_shared_metrics(self._autoscaler):
            message = "the HPA controller scaled the workload to zero"
            status.set(SCALED_TO_ZERO, True, "ScaledToZero", message)
        else:
            message = "the HPA controller did not scale the workload to zero"
            status.set(SCALED_TO_ZERO, False, "NotScaledToZero", message)

    async def _write_scale(self, scale: Obj, desired: int) -> None:
        assert self._resource is not None
        for left in reversed(range(_CONFLICT_TRIES)):
            changed = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": desired}}
            try:
                await self._client.update(self._resource, changed, subresource="scale")
                return
            except StatusError as error:
                if not (is_conflict(error) and left):
                    raise
            scale = await self._client.get(
                self._resource, name_of(scale), namespace_of(scale), subresource="scale"
            )

    # -- the metrics ---------------------------------------------------------------------

    async def _by_metrics(self, scale: Obj, current: int) -> tuple[int, str, list[Obj]]:
        """(replicas, why, what the status shows of the metrics)."""
        proposed, name, metrics = await self._propose(scale, current)
        desired = max(0, proposed)
        reason = ""
        if desired > current:
            reason = f"{name} above target"
        elif desired < current:
            reason = "All metrics below target"
        return self._normalized(current, desired), reason, metrics

    def _normalized(self, current: int, desired: int) -> int:
        controller, status = self._controller, self._status
        history = controller.history(self._key)
        request = Request(current, desired, self._minimum, self._maximum, controller.now())
        window = controller.downscale_stabilization
        if self._behavior is None:
            result = normalize(request, history, window)
        else:
            result = normalize_with_behavior(request, history, self._behavior, window)
        status.set(ABLE, True, *result.able)
        status.set(LIMITED, result.limited, *result.limit)
        return result.replicas

    async def _propose(self, scale: Obj, current: int) -> tuple[int, str, list[Obj]]:
        """(the largest count that a metric asks for, its name, the metrics' statuses)."""
        sources = await self._sources(scale, current)
        replicas, name = 0, ""
        statuses: list[Obj] = []
        failures: list[MetricFailure] = []
        specs = self._autoscaler["spec"].get("metrics") or []
        for spec in specs:
            start, kind = perf_counter(), spec.get("type") or ""
            try:
                proposal = await sources.propose(spec)
            except MetricFailure as failure:
                error = SPEC if failure.reason == "InvalidMetricSourceType" else INTERNAL
                self._computed(NONE, error, kind, start)
                self._event("Warning", failure.reason, failure.cause)
                failures.append(failure)
                statuses.append({"type": ""})
                continue
            known = int((self._autoscaler.get("status") or {}).get("currentReplicas") or 0)
            self._computed(action_of(known, proposal.replicas), NONE, kind, start)
            statuses.append(proposal.status)
            if replicas == 0 or proposal.replicas > replicas:
                replicas, name = proposal.replicas, proposal.name
        if failures and (len(failures) >= len(specs) or replicas < current):
            self._give_up(failures, len(specs), current, statuses)
        message = f"the HPA was able to successfully calculate a replica count from {name}"
        self._status.set(ACTIVE, True, "ValidMetricFound", message)
        return replicas, name, statuses

    def _computed(self, action: str, error: str, kind: str, start: float) -> None:
        self._controller.monitor.computed(action, error, kind, perf_counter() - start)

    def _give_up(
        self, failures: list[MetricFailure], total: int, current: int, statuses: list[Obj]
    ) -> None:
        first = failures[0]
        message = f"the HPA was unable to compute the replica count: {first.cause}"
        self._status.set(ACTIVE, False, first.reason, message)
        text = f"invalid metrics ({len(failures)} invalid out of {total}), first error is: {first}"
        self._fail(text, current, statuses)

    def _fail(self, text: str, current: int, statuses: list[Obj]) -> None:
        self._status.replicas(current, None, statuses)
        self._event("Warning", "FailedComputeMetricsReplicas", text)
        raise _Failed(text)

    async def _sources(self, scale: Obj, current: int) -> MetricSources:
        controller = self._controller
        namespace = namespace_of(self._autoscaler)
        text = get_nested(scale, "status", "selector", default="")
        selector = self._selector(text, current)
        pods = controller.pods_of(namespace, selector)
        both = controller.others_selecting(self._key, selector, pods)
        if len(both) > 1:
            listed = " ".join(both)
            message = (
                f"pods by selector {text} are controlled by more than one HPA (e.g. [{listed}])"
            )
            self._bad_selector("AmbiguousSelector", "AmbiguousSelector", message, message, current)
        readiness = Readiness(
            controller.now(),
            controller.cpu_initialization_period,
            controller.initial_readiness_delay,
        )
        target = Target(
            namespace, text, pods, current,
            int(get_nested(scale, "status", "replicas", default=0)),
        )  # fmt: skip
        tolerances = controller.tolerances(self._behavior)
        discovered = await controller.discovered()
        return MetricSources(controller.metrics, target, tolerances, readiness, discovered)

    def _selector(self, text: str, current: int) -> Selector:
        if not text:
            message = "the HPA target's scale is missing a selector"
            self._bad_selector(
                "SelectorRequired", "InvalidSelector", "selector is required", message, current
            )
        try:
            return parse_selector(text)
        except ValueError as error:
            message = (
                f"couldn't convert selector into a corresponding internal selector object: {error}"
            )
            self._bad_selector("InvalidSelector", "InvalidSelector", message, message, current)
            raise

    def _bad_selector(self, event: str, reason: str, text: str, message: str, current: int) -> None:
        self._event("Warning", event, text)
        self._status.set(ACTIVE, False, reason, message)
        self._fail(text, current, [])
