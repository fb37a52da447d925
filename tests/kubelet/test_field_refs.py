"""What containers are told about their resources and their host."""

from __future__ import annotations

from pilothouse.kubelet.field_refs import downward_limits, resource_value
from pilothouse.kubelet.runtime.container_specs import hostname_of

NODE = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi"}


def test_the_pods_own_limits_stand_for_missing_ones() -> None:
    pod = {"spec": {"resources": {"limits": {"memory": "64Mi", "hugepages-2Mi": "2Mi"}}}}
    limits = downward_limits(pod, NODE)
    assert limits == {"cpu": "8", "memory": "64Mi", "ephemeral-storage": "100Gi"}
    assert resource_value({}, {"resource": "limits.memory"}, limits) == str(64 << 20)
    own = {"resources": {"limits": {"memory": "1Mi"}}}
    assert resource_value(own, {"resource": "limits.memory"}, limits) == str(1 << 20)
    assert resource_value({}, {"resource": "limits.cpu"}, limits) == "8"
    assert resource_value(
        {}, {"resource": "limits.memory"}, downward_limits({"spec": {}}, NODE)
    ) == (str(16 << 30))


def test_host_names() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"hostname": "h", "nodeName": "n1"}}
    assert hostname_of(pod) == "h"
    assert hostname_of({**pod, "spec": {"nodeName": "n1"}}) == "p"
    assert hostname_of({**pod, "spec": {**pod["spec"], "hostNetwork": True}}) == "n1"
