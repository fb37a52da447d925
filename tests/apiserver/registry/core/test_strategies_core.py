"""What the strategies of core kinds do to objects before and after validation."""

from __future__ import annotations

import copy
import random
from typing import Any

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.registry.context import RegistryContext
from pilothouse.apiserver.registry.core.event_conversion import CONVERTER
from pilothouse.apiserver.registry.strategies import strategy_for
from pilothouse.apiserver.request.context import UserInfo

Obj = dict[str, Any]
CONTEXT = RegistryContext(FakeClock(), random.Random(1), None)  # type: ignore[arg-type]


def prepared(resource: GroupResource, obj: Obj) -> Obj:
    strategy = strategy_for(resource)
    strategy.default(obj)
    strategy.prepare_for_create(CONTEXT, obj)
    return obj


def pod(**spec: Any) -> Obj:
    containers = [{"name": "c", "image": "x"}]
    return {"metadata": {"name": "a", "namespace": "d"}, "spec": {"containers": containers, **spec}}


PODS = GroupResource("", "pods")


def test_a_new_pod_is_pending() -> None:
    made = prepared(PODS, {**pod(), "status": {"phase": "Running"}})
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_grace_periods() -> None:
    strategy = strategy_for(PODS)
    bound = prepared(PODS, pod(nodeName="n", terminationGracePeriodSeconds=7))
    assert strategy.grace_period(CONTEXT, bound, None) == 7
    assert strategy.grace_period(CONTEXT, bound, 3) == 3
    bound["status"]["phase"] = "Succeeded"
    assert strategy.grace_period(CONTEXT, bound, None) == 0
    assert strategy.grace_period(CONTEXT, prepared(PODS, pod()), None) == 0


def test_pod_fields() -> None:
    made = prepared(PODS, pod(nodeName="n"))
    fields = strategy_for(PODS).fields(made)
    assert fields["spec.nodeName"] == "n"
    assert fields["status.phase"] == "Pending"
    assert fields["metadata.name"] == "a"
    assert set(strategy_for(PODS).selectable_fields) <= set(fields)


def test_a_namespace_gets_the_kubernetes_finalizer() -> None:
    made = prepared(GroupResource("", "namespaces"), {"metadata": {"name": "a"}})
    assert made["spec"]["finalizers"] == ["kubernetes"]
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "a"}


def test_string_data_goes_into_data() -> None:
    secret = {"metadata": {"name": "a"}, "stringData": {"a": "x"}, "data": {"b": "eQ=="}}
    made = prepared(GroupResource("", "secrets"), secret)
    assert made["data"] == {"a": "eA==", "b": "eQ=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


def test_a_requester_is_recorded() -> None:
    resource = GroupResource("certificates.k8s.io", "certificatesigningrequests")
    request: Obj = {"metadata": {"name": "a"}, "spec": {"username": "somebody-else"}}
    user = UserInfo("kim", ("dev",), "u", (("k", ("v",)),))
    strategy_for(resource).record_requester(request, user)
    assert request["spec"] == {
        "username": "kim",
        "uid": "u",
        "groups": ["dev"],
        "extra": {"k": ["v"]},
    }


def test_volume_phases_have_times() -> None:
    resource = GroupResource("", "persistentvolumes")
    made = prepared(resource, {"metadata": {"name": "a"}, "spec": {}})
    assert made["status"] == {
        "phase": "Pending",
        "lastPhaseTransitionTime": "2026-01-01T00:00:00Z",
    }
    CONTEXT.clock.advance(60)  # type: ignore[attr-defined]
    new = copy.deepcopy(made)
    new["status"]["phase"] = "Bound"
    strategy_for(resource).prepare_status_update(CONTEXT, new, made)
    assert new["status"]["lastPhaseTransitionTime"] == "2026-01-01T00:01:00Z"


def test_claim_sources_are_the_same() -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "x"}
    resource = GroupResource("", "persistentvolumeclaims")
    made = prepared(resource, {"metadata": {"name": "a"}, "spec": {"dataSource": source}})
    assert made["spec"]["dataSourceRef"] == source
    other = {"kind": "Image", "name": "x", "apiGroup": "a.b"}
    made = prepared(resource, {"metadata": {"name": "a"}, "spec": {"dataSource": other}})
    assert "dataSource" not in made["spec"]


def test_events_in_both_groups() -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "a"},
        "regarding": {"kind": "Pod"},
        "note": "hello",
        "reportingController": "me",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    }
    stored = CONVERTER.to_storage(event)
    assert stored["apiVersion"] == "v1"
    assert (stored["involvedObject"], stored["message"]) == ({"kind": "Pod"}, "hello")
    assert stored["reportingComponent"] == "me"
    back = CONVERTER.from_storage(stored)
    assert {key: back[key] for key in event} == event
