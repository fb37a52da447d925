"""Defaults, minima, maxima and ratios of a namespace."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apiserver.admission.testing import Admission, container, pod


def limited(kind: str = "Container", **item: Any) -> Admission:
    admission = Admission()
    limits = [{"type": kind, **item}]
    admission.put(
        "limitranges", {"metadata": {"name": "l", "namespace": "ns"}, "spec": {"limits": limits}}
    )
    return admission


async def test_defaults_and_annotation() -> None:
    admission = limited(
        default={"cpu": "500m", "memory": "1Gi"}, defaultRequest={"cpu": "100m", "memory": "1Gi"}
    )
    obj = pod(
        containers=[container("a"), container("b", {"cpu": "50m"})],
        initContainers=[container("i", {"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"})],
    )
    await admission.run("CREATE", "pods", obj)
    first, second = (c["resources"] for c in obj["spec"]["containers"])
    assert first == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"cpu": "500m", "memory": "1Gi"},
    }
    assert second["requests"] == {"cpu": "50m", "memory": "1Gi"}
    assert obj["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container a; "
        "cpu, memory limit for container a; memory request for container b; "
        "cpu, memory limit for container b"
    )


@pytest.mark.parametrize(
    ("item", "requests", "limits", "text"),
    [
        (
            {"min": {"cpu": "100m"}},
            {"cpu": "50m"},
            None,
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            {"min": {"cpu": "100m"}},
            None,
            None,
            "minimum cpu usage per Container is 100m.  No request is specified",
        ),
        (
            {"max": {"memory": "1Gi"}},
            {"memory": "1Gi"},
            {"memory": "2Gi"},
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            {"max": {"memory": "1Gi"}},
            {"memory": "1Mi"},
            None,
            "maximum memory usage per Container is 1Gi.  No limit is specified",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "100m"},
            {"cpu": "250m"},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000",
        ),
    ],
)
async def test_container_bounds(
    item: Obj, requests: Obj | None, limits: Obj | None, text: str
) -> None:
    obj = pod(containers=[container("c", requests, limits)])
    error = await limited(**item).refusal("CREATE", "pods", obj)
    assert error.message == f'pods "p" is forbidden: {text}'


async def test_several_problems() -> None:
    obj = pod(containers=[container("c", {"cpu": "1"}), container("d", {"cpu": "2"})])
    error = await limited(min={"cpu": "5"}).refusal("CREATE", "pods", obj)
    assert error.message.endswith(
        "[minimum cpu usage per Container is 5, but request is 1, "
        "minimum cpu usage per Container is 5, but request is 2]"
    )


async def test_pod_sums() -> None:
    admission = limited("Pod", max={"cpu": "2"})
    two = [container(name, {"cpu": "1"}, {"cpu": "1"}) for name in ("a", "b")]
    await admission.run("CREATE", "pods", pod(containers=two))
    three = [container(name, {"cpu": "1"}, {"cpu": "1"}) for name in ("a", "b", "c")]
    error = await admission.refusal("CREATE", "pods", pod(containers=three))
    assert "maximum cpu usage per Pod is 2, but limit is 3" in error.message


async def test_claims() -> None:
    admission = limited("PersistentVolumeClaim", max={"storage": "2Gi"}, min={"storage": "1Gi"})

    def claim(size: str) -> Obj:
        return {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}}

    await admission.run("CREATE", "persistentvolumeclaims", claim("1Gi"))
    error = await admission.refusal("CREATE", "persistentvolumeclaims", claim("3Gi"))
    text = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    assert text in error.message


async def test_resize_counts_and_plain_updates_do_not() -> None:
    admission = limited(max={"cpu": "1"})
    old = pod(containers=[container("c", {"cpu": "1"}, {"cpu": "1"})])
    new = pod(containers=[container("c", {"cpu": "2"}, {"cpu": "2"})])
    await admission.run("UPDATE", "pods", new, old)
    error = await admission.refusal("UPDATE", "pods", new, old, subresource="resize")
    assert "maximum cpu usage per Container is 1, but limit is 2" in error.message
