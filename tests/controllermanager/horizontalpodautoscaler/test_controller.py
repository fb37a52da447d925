"""The controller against a real API server with its metrics API; the test is the kubelet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.metrics import Registry
from pilothouse.controllermanager.horizontalpodautoscaler.controller import (
    HorizontalPodAutoscalerController,
)
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import DEPLOYMENTS, EVENTS, NODES, PODS
from pilothouse.kubeclient.resources import HORIZONTAL_POD_AUTOSCALERS as HPAS

RESOURCES = {"requests": {"cpu": "100m", "memory": "64Mi"}}


class Lab:
    """A Deployment ``web`` whose pods use what ``usage`` says (thousandths of a core)."""

    def __init__(self, server: APIServer, clock: FakeClock) -> None:
        self.server = server
        self.clock = clock
        self.client = server.local_client()
        self.usage: dict[str, int] = {}
        informers = SharedInformerFactory(self.client, clock, Random(1), server.activity)
        self.env = Environment(self.client, informers, clock, Random(1), server.activity)
        self.controller = HorizontalPodAutoscalerController(self.env)

    async def request(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response:
        pods = [
            {
                "podRef": {"name": name, "namespace": "default"},
                "containers": [
                    {
                        "name": "app",
                        "cpu": {"usageCoreNanoSeconds": 0, "usageNanoCores": milli * 10**6},
                        "memory": {"workingSetBytes": 32 << 20},
                    }
                ],
            }
            for name, milli in self.usage.items()
        ]
        return Response(body=orjson.dumps({"node": {}, "pods": pods}))

    async def deploy(self, replicas: int) -> None:
        template = {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "web", "resources": RESOURCES}]},
        }
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
        }
        await self.client.create(
            DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
        )
        await self.client.create(NODES, {"metadata": {"name": "n1"}})
        self.server.local_nodes.register("n1", self)  # type: ignore[arg-type]
        for number in range(replicas):
            await self.pod(f"web-{number}")

    async def pod(self, name: str) -> None:
        pod = {
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "app", "image": "web", "resources": RESOURCES}],
            },
        }
        made = await self.client.create(PODS, pod)
        long_ago = "2001-01-01T00:00:00Z"
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": long_ago}
        status = {"phase": "Running", "startTime": long_ago, "conditions": [condition]}
        await self.client.update(PODS, {**made, "status": status}, subresource="status")

    async def autoscale(self, **spec: Any) -> None:
        whole = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 10,
            **spec,
        }
        await self.client.create(
            HPAS, {"metadata": {"name": "web", "namespace": "default"}, "spec": whole}
        )
        await self.server.activity.settle()

    async def later(self, seconds: float = 15.0) -> None:
        await self.clock.advance_through(seconds)
        await self.server.activity.settle()

    async def replicas(self) -> int:
        found = await self.client.get(DEPLOYMENTS, "web", "default")
        count: int = found["spec"]["replicas"]
        return count

    async def status(self) -> dict[str, Any]:
        found = await self.client.get(HPAS, "web", "default")
        status: dict[str, Any] = found["status"]
        return status

    async def condition(self, type_: str) -> tuple[str, str, str]:
        for each in (await self.status())["conditions"]:
            if each["type"] == type_:
                return each["status"], each["reason"], each["message"]
        raise AssertionError(f"no condition {type_}")

    async def events(self) -> list[tuple[str, str, str]]:
        found = (await self.client.list(EVENTS, "default")).items
        return [(each["type"], each["reason"], each["message"]) for each in found]


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    clock = FakeClock()
    async with running_server(clock=clock) as server:
        made = Lab(server, clock)
        await made.controller.start()
        yield made
        await made.controller.stop()
        await made.env.informers.stop()


async def test_scales_up_by_utilization_and_says_so(lab: Lab) -> None:
    await lab.deploy(2)
    lab.usage = {"web-0": 150, "web-1": 250}
    await lab.autoscale()  # 80 % of the processor requests is the default
    # Twice the target and a half is 5, but not more than 4 at once.
    assert await lab.replicas() == 4
    status = await lab.status()
    assert (status["currentReplicas"], status["desiredReplicas"]) == (2, 4)
    assert status["observedGeneration"] == 1
    assert status["lastScaleTime"] == format_time(lab.clock.now())
    assert status["currentMetrics"] == [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "current": {"averageUtilization": 200, "averageValue": "200m"},
            },
        }
    ]
    assert await lab.condition("AbleToScale") == (
        "True",
        "SucceededRescale",
        "the HPA controller was able to update the target scale to 4",
    )
    assert await lab.condition("ScalingActive") == (
        "True",
        "ValidMetricFound",
        "the HPA was able to successfully calculate a replica count from cpu resource "
        "utilization (percentage of request)",
    )
    assert (await lab.condition("ScalingLimited"))[:2] == ("True", "ScaleUpLimit")
    assert (
        "Normal",
        "SuccessfulRescale",
        "New size: 4; reason: cpu resource utilization (percentage of request) above target",
    ) in await lab.events()


async def test_metrics(lab: Lab) -> None:
    await lab.deploy(2)
    lab.usage = {"web-0": 150, "web-1": 250}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    missing = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "1"}}
    metrics = [{"type": "Resource", "resource": cpu}, {"type": "Pods", "pods": missing}]
    await lab.autoscale(metrics=metrics)
    monitor = lab.controller.monitor
    assert monitor.reconciliations.values == {("scale_up", "none"): 1}
    assert monitor.computations.values == {
        ("scale_up", "none", "Resource"): 1,
        ("none", "internal", "Pods"): 1,
    }
    assert monitor.desired.values == {("default", "web"): 4}
    registry = Registry()
    registry.add(*lab.controller.own_metrics)
    text = registry.text()
    name = "horizontal_pod_autoscaler_controller"
    assert f"{name}_num_horizontal_pod_autoscalers 1" in text
    labels = 'action="scale_up",error="none"'
    assert f"{name}_reconciliation_duration_seconds_count{{{labels}}} 1" in text
    await lab.client.delete(HPAS, "web", "default")
    await lab.server.activity.settle()
    assert monitor.desired.values == {}


async def test_scales_down_after_the_stabilization_window(lab: Lab) -> None:
    await lab.deploy(4)
    lab.usage = {f"web-{number}": 10 for number in range(4)}
    await lab.autoscale(minReplicas=2)
    assert await lab.replicas() == 4
    assert (await lab.condition("AbleToScale"))[1] == "ScaleDownStabilized"
    for _ in range(19):
        await lab.later()
    assert await lab.replicas() == 4
    for _ in range(3):
        await lab.later()
    assert await lab.replicas() == 2
    reason = "New size: 2; reason: All metrics below target"
    assert ("Normal", "SuccessfulRescale", reason) in await lab.events()


async def test_memory_and_containers(lab: Lab) -> None:
    await lab.deploy(2)
    lab.usage = {"web-0": 10, "web-1": 10}
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "16Mi"}}
    cpu = {
        "name": "cpu",
        "container": "app",
        "target": {"type": "Utilization", "averageUtilization": 50},
    }
    await lab.autoscale(
        metrics=[
            {"type": "ContainerResource", "containerResource": cpu},
            {"type": "Resource", "resource": memory},
        ]
    )
    assert await lab.replicas() == 4
    container, whole = (await lab.status())["currentMetrics"]
    assert container["containerResource"]["current"]["averageUtilization"] == 10
    assert whole["resource"]["current"] == {"averageValue": "32Mi"}


async def test_without_metrics_nothing_is_done(lab: Lab) -> None:
    await lab.deploy(1)
    await lab.autoscale()
    cause = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: "
        "no metrics returned from resource metrics API"
    )
    assert await lab.condition("ScalingActive") == (
        "False",
        "FailedGetResourceMetric",
        f"the HPA was unable to compute the replica count: {cause}",
    )
    events = await lab.events()
    assert ("Warning", "FailedGetResourceMetric", cause) in events
    assert (
        "Warning",
        "FailedComputeMetricsReplicas",
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource "
        f"metric value: {cause}",
    ) in events
    assert (await lab.status())["currentReplicas"] == 1
    lab.usage = {"web-0": 400}
    await lab.later()
    assert await lab.replicas() == 4


async def test_bounds_win_over_metrics(lab: Lab) -> None:
    await lab.deploy(1)
    await lab.autoscale(minReplicas=3)
    assert await lab.replicas() == 3
    reason = "New size: 3; reason: Current number of replicas below Spec.MinReplicas"
    assert ("Normal", "SuccessfulRescale", reason) in await lab.events()


async def test_a_target_of_zero_is_left_alone(lab: Lab) -> None:
    await lab.deploy(0)
    await lab.autoscale()
    assert await lab.replicas() == 0
    assert await lab.condition("ScalingActive") == (
        "False",
        "ScalingDisabled",
        "scaling is disabled since the replica count of the target is zero",
    )


async def test_a_missing_target(lab: Lab) -> None:
    await lab.autoscale()
    assert await lab.condition("AbleToScale") == (
        "False",
        "FailedGetScale",
        "the HPA controller was unable to get the target's current scale: "
        'deployments.apps "web" not found',
    )
    reference = {"apiVersion": "apps/v1", "kind": "Boat", "name": "web"}
    live = await lab.client.get(HPAS, "web", "default")
    await lab.client.update(HPAS, {**live, "spec": live["spec"] | {"scaleTargetRef": reference}})
    await lab.server.activity.settle()
    assert (await lab.condition("AbleToScale"))[2].endswith(
        'no matches for kind "Boat" in group "apps"'
    )


async def test_two_autoscalers_of_the_same_pods(lab: Lab) -> None:
    await lab.deploy(1)
    lab.usage = {"web-0": 80}
    await lab.autoscale()
    live = await lab.client.get(HPAS, "web", "default")
    twin = {"metadata": {"name": "twin", "namespace": "default"}, "spec": live["spec"]}
    await lab.client.create(HPAS, twin)
    await lab.server.activity.settle()
    await lab.later()
    assert await lab.condition("ScalingActive") == (
        "False",
        "AmbiguousSelector",
        "pods by selector app=web are controlled by more than one HPA "
        "(e.g. [default/web default/twin])",
    )


async def test_custom_and_external_metrics_need_their_apis(lab: Lab) -> None:
    await lab.deploy(1)
    target = {"type": "AverageValue", "averageValue": "10"}
    await lab.autoscale(
        metrics=[
            {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": target}},
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": target}},
        ]
    )
    assert await lab.condition("ScalingActive") == (
        "False",
        "FailedGetPodsMetric",
        "the HPA was unable to compute the replica count: unable to get metric qps: unable to "
        "fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) "
        "registered",
    )
    external = [each for each in await lab.events() if each[1] == "FailedGetExternalMetric"]
    assert external[0][2].startswith(
        "unable to get external metric default/queue/nil: unable to fetch metrics from external "
        "metrics API: the server could not find the requested resource (get queue.external."
    )


async def test_custom_and_external_metrics(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.deploy(2)
    custom = "/apis/custom.metrics.k8s.io"
    answers = {
        custom: {"versions": [{"version": "v1beta1"}]},
        f"{custom}/v1beta1/namespaces/default/pods/*/qps?labelSelector=app%3Dweb": {
            "items": [
                {"describedObject": {"name": f"web-{n}"}, "value": "15", "timestamp": None}
                for n in range(2)
            ]
        },
        f"{custom}/v1beta1/namespaces/default/services/front/hits"
        "?metricLabelSelector=verb%3DGET": {"items": [{"value": "9"}]},
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue": {
            "items": [{"value": "12"}, {"value": "6500m"}]
        },
    }  # fmt: skip
    request = lab.client.request

    async def answered(method: str, path: str, body: Any = None) -> Any:
        found = answers.get(path)
        return found if found is not None else await request(method, path, body)

    monkeypatch.setattr(lab.client, "request", answered)
    ten = {"type": "AverageValue", "averageValue": "10"}
    hits = {"name": "hits", "selector": {"matchLabels": {"verb": "GET"}}}
    front = {"apiVersion": "v1", "kind": "Service", "name": "front"}
    await lab.autoscale(
        metrics=[
            {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": ten}},
            {
                "type": "Object",
                "object": {
                    "metric": hits,
                    "describedObject": front,
                    "target": {"type": "Value", "value": "6"},
                },
            },
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": ten}},
        ]
    )
    assert await lab.replicas() == 3
    pods, one, external = (await lab.status())["currentMetrics"]
    assert pods["pods"]["current"] == {"averageValue": "15"}
    assert one["object"] == {
        "metric": hits, "describedObject": front, "current": {"value": "9"},
    }  # fmt: skip
    assert external["external"]["metric"] == {"name": "queue"}


async def test_deleted_autoscalers_are_forgotten(lab: Lab) -> None:
    await lab.deploy(1)
    lab.usage = {"web-0": 80}
    await lab.autoscale()
    await lab.client.delete(HPAS, "web", "default")
    await lab.later()
    assert not lab.controller._histories and not lab.controller._selectors
    with pytest.raises(StatusError):
        await lab.status()


async def test_scale_of_a_custom_resource(lab: Lab) -> None:
    crds = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    boats = GroupVersionResource("sea.example.com", "v1", "boats")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"scale": scale, "status": {}},
    }  # fmt: skip
    names = {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"}
    spec = {
        "group": "sea.example.com",
        "scope": "Namespaced",
        "names": names,
        "versions": [version],
    }
    await lab.client.create(crds, {"metadata": {"name": "boats.sea.example.com"}, "spec": spec})
    await lab.server.activity.settle()
    await lab.deploy(1)
    lab.usage = {"web-0": 160}
    boat = {
        "apiVersion": "sea.example.com/v1",
        "kind": "Boat",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1},
    }
    made = await lab.client.create(boats, boat)
    status = {"replicas": 1, "selector": "app=web"}
    await lab.client.update(boats, {**made, "status": status}, subresource="status")
    reference = {"apiVersion": "sea.example.com/v1", "kind": "Boat", "name": "web"}
    await lab.autoscale(scaleTargetRef=reference)
    assert (await lab.client.get(boats, "web", "default"))["spec"]["replicas"] == 2
