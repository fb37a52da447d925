"""What one entry of ``spec.metrics`` asks for (horizontal.go ``computeStatusFor…``).

Reads the metric, asks the pure calculator and describes both in the words of a MetricStatus.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.quantity import BINARY_SI, DECIMAL_SI, Quantity
from pilothouse.controllermanager.horizontalpodautoscaler.metrics_client import MetricsError
from pilothouse.controllermanager.horizontalpodautoscaler.replica_calculator import (
    CalculationError,
    PodMetric,
    Readiness,
    Tolerances,
    capped_sum,
    per_pod_replicas,
    plain_replicas,
    resource_replicas,
    total_replicas,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.controllermanager.horizontalpodautoscaler.metrics_client import MetricsClient
    from pilothouse.kubeclient.discovery import Discovered


class MetricFailure(Exception):
    """The metric gives no replica count. ``reason`` is that of the condition ScalingActive and
    of the event; ``cause`` their message; the text is what the whole reconciliation says."""

    def __init__(self, reason: str, cause: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Proposal:
    replicas: int
    name: str
    """Of the metric, as events name it."""
    status: Obj
    """An entry of status.currentMetrics."""


@dataclass(frozen=True, slots=True)
class Target:
    """The workload as metrics are about it."""

    namespace: str
    selector: str
    pods: Sequence[Obj]
    spec_replicas: int
    status_replicas: int


class MetricSources:
    def __init__(
        self,
        client: MetricsClient,
        target: Target,
        tolerances: Tolerances,
        readiness: Readiness,
        discovered: Discovered,
    ) -> None:
        self._client = client
        self._target = target
        self._tolerances = tolerances
        self._readiness = readiness
        self._discovered = discovered

    async def propose(self, spec: Obj) -> Proposal:
        """:raises MetricFailure: it can't be told."""
        kind = spec.get("type")
        if kind == "Resource":
            source = spec["resource"]
            what = f"failed to get {source['name']} resource metric value"
            return await self._guarded(self._resource(source), "FailedGetResourceMetric", what)
        if kind == "ContainerResource":
            source = spec["containerResource"]
            what = f"failed to get {source['container']} container metric value"
            running = self._resource(source, source["container"])
            return await self._guarded(running, "FailedGetContainerResourceMetric", what)
        if kind == "Pods":
            what = "failed to get pods metric value"
            return await self._guarded(self._pods(spec["pods"]), "FailedGetPodsMetric", what)
        if kind == "Object":
            what = "failed to get object metric value"
            return await self._guarded(self._object(spec["object"]), "FailedGetObjectMetric", what)
        if kind == "External":
            source = spec["external"]
            what = f"failed to get {source['metric']['name']} external metric value"
            return await self._guarded(self._external(source), "FailedGetExternalMetric", what)
        text = f'unknown metric source type "{kind}"'
        raise MetricFailure("InvalidMetricSourceType", text, text)

    async def _guarded(self, running: Awaitable[Proposal], reason: str, what: str) -> Proposal:
        try:
            return await running
        except (MetricsError, CalculationError, ValueError) as error:
            inner = error.inner if isinstance(error, _Wrapped) else str(error)
            raise MetricFailure(reason, inner, f"{what}: {error}") from error

    # -- resource metrics ----------------------------------------------------------------

    async def _resource(self, source: Obj, container: str = "") -> Proposal:
        resource, target = source["name"], source["target"]
        if target.get("averageValue") is not None:
            return await self._resource_value(source, container)
        if target.get("averageUtilization") is None:
            raise CalculationError(
                "invalid resource metric source: neither an average utilization target nor an "
                "average value (usage) target was set"
            )
        percent = int(target["averageUtilization"])
        wanted = self._target
        with _prefixed(f"failed to get {resource} utilization"):
            metrics = await self._resource_metrics(resource, container)
            replicas, utilization, average = resource_replicas(
                wanted.spec_replicas, percent, resource, metrics, wanted.pods,
                self._tolerances, self._readiness, container,
            )  # fmt: skip
        current = {
            "averageUtilization": utilization,
            "averageValue": _resource_quantity(resource, average),
        }
        what = "container resource" if container else "resource"
        name = f"{resource} {what} utilization (percentage of request)"
        return Proposal(replicas, name, _resource_status(source, container, current))

    async def _resource_value(self, source: Obj, container: str) -> Proposal:
        resource = source["name"]
        value = Quantity.parse(source["target"]["averageValue"]).milli_value()
        wanted = self._target
        with _prefixed(f"failed to get {resource} usage"):
            metrics = await self._resource_metrics(resource, container)
            replicas, average = plain_replicas(
                wanted.spec_replicas, value, metrics, wanted.pods, self._tolerances,
                self._readiness, resource,
            )  # fmt: skip
        current = {"averageValue": _resource_quantity(resource, average)}
        return Proposal(
            replicas, f"{resource} resource", _resource_status(source, container, current)
        )

    async def _resource_metrics(self, resource: str, container: str) -> dict[str, PodMetric]:
        wanted = self._target
        with _prefixed(f"unable to get metrics for resource {resource}"):
            return await self._client.resource(
                resource, wanted.namespace, wanted.selector, container
            )

    # -- custom and external metrics -----------------------------------------------------

    async def _pods(self, source: Obj) -> Proposal:
        metric, wanted = source["metric"], self._target
        with _prefixed(f"unable to get metric {metric['name']}"):
            metrics = await self._client.pods(
                metric["name"], wanted.namespace, wanted.selector, _selector(metric)
            )
        value = Quantity.parse(source["target"]["averageValue"]).milli_value()
        replicas, average = plain_replicas(
            wanted.spec_replicas, value, metrics, wanted.pods, self._tolerances, self._readiness
        )
        current = {"averageValue": _quantity(average)}
        status = {"type": "Pods", "pods": {"metric": dict(metric), "current": current}}
        return Proposal(replicas, f"pods metric {metric['name']}", status)

    async def _object(self, source: Obj) -> Proposal:
        metric, target, wanted = source["metric"], source["target"], self._target
        reference = source["describedObject"]
        if _target_of(target) is None:
            raise CalculationError(
                "invalid object metric source: neither a value target nor an average value "
                "target was set"
            )
        outer = "" if target["type"] == "Value" else f"failed to get {metric['name']} object metric"
        where = f"{reference['kind']} {wanted.namespace}/{reference['name']}"
        with _wrapped(outer), _prefixed(f"unable to get metric {metric['name']} on {where}"):
            usage = await self._client.object(
                metric["name"], wanted.namespace, reference, _selector(metric), self._discovered
            )
        replicas, current = self._shared_value(usage, target)
        status = {
            "type": "Object",
            "object": {
                "metric": dict(metric), "current": current, "describedObject": dict(reference),
            },
        }  # fmt: skip
        name = f"{reference['kind']} metric {metric['name']}"
        if "averageValue" in current:
            name = f"external metric {metric['name']}({_go_selector(metric.get('selector'))})"
        return Proposal(replicas, name, status)

    async def _external(self, source: Obj) -> Proposal:
        metric, target, wanted = source["metric"], source["target"], self._target
        if _target_of(target) is None:
            raise CalculationError(
                "invalid external metric source: neither a value target nor an average value "
                "target was set"
            )
        name, shown = metric["name"], _go_selector(metric.get("selector"))
        outer = f"failed to get external metric {name}"
        if target.get("averageValue") is not None:
            outer = f"failed to get {name} external metric"
        inner = f"unable to get external metric {wanted.namespace}/{name}/{shown}"
        with _wrapped(outer), _prefixed(inner):
            values = await self._client.external(name, wanted.namespace, _selector(metric))
        replicas, current = self._shared_value(capped_sum(values), target)
        status = {"type": "External", "external": {"metric": dict(metric), "current": current}}
        return Proposal(replicas, f"external metric {name}({shown})", status)

    def _shared_value(self, usage: int, target: Obj) -> tuple[int, Obj]:
        """For a value of the whole: (replicas, what is shown as the current value)."""
        wanted = self._target
        if target.get("averageValue") is not None:
            share = Quantity.parse(target["averageValue"]).milli_value()
            replicas, average = per_pod_replicas(
                wanted.status_replicas, usage, share, self._tolerances
            )
            return replicas, {"averageValue": _quantity(average)}
        value = Quantity.parse(target["value"]).milli_value()
        replicas = total_replicas(wanted.spec_replicas, usage, value, wanted.pods, self._tolerances)
        return replicas, {"value": _quantity(usage)}


class _Wrapped(CalculationError):
    """The condition and its Event tell only ``inner``."""

    def __init__(self, outer: str, inner: str) -> None:
        super().__init__(f"{outer}: {inner}")
        self.inner = inner


@contextmanager
def _wrapped(outer: str) -> Iterator[None]:
    try:
        yield
    except (MetricsError, CalculationError) as error:
        if not outer:
            raise
        raise _Wrapped(outer, str(error)) from error


@contextmanager
def _prefixed(what: str) -> Iterator[None]:
    """Puts what was being done in front of the text of an error."""
    try:
        yield
    except (MetricsError, CalculationError) as error:
        if not what:
            raise
        raise type(error)(f"{what}: {error}") from error


def _target_of(target: Obj) -> Obj | None:
    found = target.get("averageValue")
    return target.get("value") if found is None else found


def _selector(metric: Obj) -> str:
    selector = metric.get("selector")
    return "" if selector is None else str(selector_from_label_selector(selector))


def _go_selector(selector: Obj | None) -> str:
    """How Go prints a ``*metav1.LabelSelector``."""
    if selector is None:
        return "nil"
    labels = selector.get("matchLabels") or {}
    inner = " ".join(f"{key}: {labels[key]}," for key in sorted(labels))
    expressions = "".join(
        "LabelSelectorRequirement{"
        f"Key:{each['key']},Operator:{each['operator']},"
        f"Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{inner}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _quantity(milli: int) -> str:
    return str(Quantity.of_milli(milli, DECIMAL_SI))


def _resource_quantity(resource: str, milli: int) -> str:
    return str(Quantity.of_milli(milli, BINARY_SI if resource == "memory" else DECIMAL_SI))


def _resource_status(source: Obj, container: str, current: Obj) -> Obj:
    if container:
        inner = {"name": source["name"], "container": container, "current": current}
        return {"type": "ContainerResource", "containerResource": inner}
    return {"type": "Resource", "resource": {"name": source["name"], "current": current}}
