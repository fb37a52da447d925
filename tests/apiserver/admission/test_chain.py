"""The chain: order, flags, what concerns whom, and its price."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.chain import enabled_rows
from pilothouse.apiserver.admission.interfaces import Attributes
from pilothouse.apiserver.admission.order import ORDER
from pilothouse.apiserver.admission.testing import Admission, pod


def names(**flags: Any) -> list[str]:
    return [row.name for row in enabled_rows(type("Config", (), flags)())]


def test_default_plugins_as_upstream() -> None:
    enabled = set(names())
    assert {"NamespaceLifecycle", "LimitRanger", "ServiceAccount", "ResourceQuota"} <= enabled
    assert not {"NodeRestriction", "AlwaysPullImages", "AlwaysDeny"} & enabled
    order = [row.name for row in ORDER]
    assert order.index("ServiceAccount") < order.index("Priority") < order.index("ResourceQuota")


def test_flags() -> None:
    changed = names(
        enable_admission_plugins="NodeRestriction", disable_admission_plugins=["LimitRanger"]
    )
    assert "NodeRestriction" in changed and "LimitRanger" not in changed
    with pytest.raises(ValueError, match='enable-admission-plugins plugin "Nope" is unknown'):
        names(enable_admission_plugins=["Nope"])
    with pytest.raises(ValueError, match="overlapped"):
        names(enable_admission_plugins=["Priority"], disable_admission_plugins=["Priority"])
    with pytest.raises(ValueError, match="not available"):
        names(enable_admission_plugins=["EventRateLimit"])


def test_every_row_has_its_plugin() -> None:
    admission = Admission(
        enable_admission_plugins=[row.name for row in ORDER if row.module and not row.default_on]
    )
    for row in ORDER:
        if row.module:
            assert admission.chain._plugin(row).name == row.name


async def test_pod_gets_everything() -> None:
    admission = Admission()
    obj = pod()
    await admission.run("CREATE", "pods", obj)
    spec = obj["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["priority"] == 0 and spec["preemptionPolicy"] == "PreemptLowerPriority"
    assert [t["key"] for t in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert {t["tolerationSeconds"] for t in spec["tolerations"]} == {300}


async def test_added_plugins_run_before_quota() -> None:
    seen: list[str] = []

    class Spy:
        name = "Spy"

        def interested(self, operation: str, resource: GroupResource, subresource: str) -> bool:
            return resource.resource == "configmaps"

        async def admit(self, attributes: Attributes) -> None:
            seen.append("admit")

        async def validate(self, attributes: Attributes) -> None:
            seen.append("validate")

    admission = Admission()
    await admission.run("CREATE", "configmaps", {"metadata": {"name": "c"}})
    admission.chain.add(Spy())
    await admission.run("CREATE", "configmaps", {"metadata": {"name": "c"}})
    await admission.run("CREATE", "services", {"metadata": {"name": "c"}, "spec": {}})
    assert seen == ["admit", "validate"]


async def test_nothing_to_do_calls_nothing() -> None:
    admission = Admission()
    attributes = admission.attributes("UPDATE", "configmaps", {"metadata": {"name": "c"}})
    await admission.chain.admit(attributes)
    key = (attributes.operation, attributes.resource, attributes.subresource)
    assert admission.chain._steps[key] == ((), ())
