"""Reads metrics from the APIs that serve them (podautoscaler/metrics/client.go).

Resource metrics from metrics.k8s.io; custom and external ones from whatever stands behind the
APIServices of custom.metrics.k8s.io and external.metrics.k8s.io.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.schema import GroupVersionResource, parse_api_version
from pilothouse.apimachinery.timefmt import parse_duration
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.horizontalpodautoscaler.replica_calculator import PodMetric
from pilothouse.kubeclient.interfaces import ListOptions

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.discovery import Discovered
    from pilothouse.kubeclient.interfaces import Client

POD_METRICS = GroupVersionResource("metrics.k8s.io", "v1beta1", "pods")
_CUSTOM = "custom.metrics.k8s.io"
_CUSTOM_VERSIONS = ("v1beta2", "v1beta1")
_DEFAULT_WINDOW = 60.0


class MetricsError(Exception):
    """A metric can't be had; the text says why."""


_NOT_SERVED = "the server could not find the requested resource"


def _told(error: Exception, resource: str) -> str:
    """An error as client-go tells it: of an API that is not served, what was asked for."""
    text = str(error)
    if isinstance(error, StatusError) and error.code == 404:
        if text.strip() in (_NOT_SERVED, "404 page not found"):
            return f"{_NOT_SERVED} (get {resource})"
    return text


class MetricsClient:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def resource(
        self, resource: str, namespace: str, selector: str, container: str = ""
    ) -> dict[str, PodMetric]:
        """By pod. :raises MetricsError: there are none."""
        options = ListOptions(label_selector=selector)
        try:
            found = await self._client.list(POD_METRICS, namespace, options)
        except (StatusError, OSError) as error:
            text = _told(error, "pods.metrics.k8s.io")
            text = f"unable to fetch metrics from resource metrics API: {text}"
            raise MetricsError(text) from error
        if not found.items:
            raise MetricsError("no metrics returned from resource metrics API")
        return pod_metrics(found.items, resource, container)

    async def pods(
        self, metric: str, namespace: str, selector: str, metric_selector: str
    ) -> dict[str, PodMetric]:
        """A custom metric of pods, by pod. :raises MetricsError: there are none."""
        items = await self._custom(f"namespaces/{namespace}/pods/*/{quote(metric)}", {
            "labelSelector": selector, "metricLabelSelector": metric_selector,
        })  # fmt: skip
        if not items:
            raise MetricsError("no metrics returned from custom metrics API")
        return {
            item["describedObject"]["name"]: PodMetric(
                Quantity.parse(item["value"]).milli_value(),
                seconds_of(item.get("timestamp")),
                float(item.get("windowSeconds") or item.get("window") or _DEFAULT_WINDOW),
            )
            for item in items
        }

    async def object(
        self,
        metric: str,
        namespace: str,
        reference: Obj,
        metric_selector: str,
        discovered: Discovered,
    ) -> int:
        """A custom metric of one object. :raises MetricsError: it has none."""
        group, _ = parse_api_version(reference.get("apiVersion") or "v1")
        kind, name = reference["kind"], reference["name"]
        if (group, kind) == ("", "Namespace"):
            path = f"namespaces/{namespace}/metrics/{quote(metric)}"
        else:
            resource = _qualified(discovered, group, kind)
            path = f"namespaces/{namespace}/{resource}/{quote(name)}/{quote(metric)}"
        items = await self._custom(path, {"metricLabelSelector": metric_selector})
        if len(items) != 1:
            raise MetricsError(
                "unable to fetch metrics from custom metrics API: the custom metrics API server "
                f"returned {len(items)} results when we asked for exactly one"
            )
        return Quantity.parse(items[0]["value"]).milli_value()

    async def external(self, metric: str, namespace: str, selector: str) -> list[int]:
        """All values of an external metric. :raises MetricsError: there are none."""
        query = urlencode({"labelSelector": selector}) if selector else ""
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{quote(metric)}"
        try:
            found = await self._client.request("GET", f"{path}?{query}" if query else path)
        except (StatusError, OSError) as error:
            text = _told(error, f"{metric}.external.metrics.k8s.io")
            text = f"unable to fetch metrics from external metrics API: {text}"
            raise MetricsError(text) from error
        items = found.get("items") or ()
        if not items:
            raise MetricsError("no metrics returned from external metrics API")
        return [Quantity.parse(item["value"]).milli_value() for item in items]

    async def _custom(self, path: str, options: dict[str, str]) -> list[Any]:
        query = urlencode({key: value for key, value in options.items() if value})
        try:
            version = await self._custom_version()
            whole = f"/apis/{_CUSTOM}/{version}/{path}"
            found = await self._client.request("GET", f"{whole}?{query}" if query else whole)
        except (StatusError, OSError) as error:
            text = f"unable to fetch metrics from custom metrics API: {error}"
            raise MetricsError(text) from error
        return list(found.get("items") or ())

    async def _custom_version(self) -> str:
        try:
            group = await self._client.request("GET", f"/apis/{_CUSTOM}")
        except StatusError as error:
            if error.code != 404:
                raise
            group = {}
        served = {each["version"] for each in group.get("versions") or ()}
        for version in _CUSTOM_VERSIONS:
            if version in served:
                return version
        raise MetricsError(
            "unable to fetch metrics from custom metrics API: "
            f"no custom metrics API ({_CUSTOM}) registered"
        )


def pod_metrics(items: list[Obj], resource: str, container: str = "") -> dict[str, PodMetric]:
    """PodMetrics objects as values by pod: of one container, or of all of them together. Pods
    that lack a value of a container are left out."""
    found: dict[str, PodMetric] = {}
    for item in items:
        values = [
            each["usage"].get(resource)
            for each in item.get("containers") or ()
            if not container or each["name"] == container
        ]
        if not values or None in values:
            continue
        total = sum(Quantity.parse(value).milli_value() for value in values)
        window = parse_duration(item.get("window") or "0s")
        metric = PodMetric(total, seconds_of(item.get("timestamp")), window)
        found[item["metadata"]["name"]] = metric
    return found


def _qualified(discovered: Discovered, group: str, kind: str) -> str:
    for each in discovered.resources:
        if (each.gvr.group, each.kind) == (group, kind):
            return f"{each.gvr.resource}.{group}" if group else each.gvr.resource
    raise MetricsError(f'no matches for kind "{kind}" in group "{group}"')
