"""Levels, modes and texts of the Pod Security Standards."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apiserver.admission.plugins.pod_security import policy_of
from pilothouse.apiserver.admission.testing import Admission, pod
from pilothouse.componentbase.metrics import Registry

PREFIX = "pod-security.kubernetes.io/"


def namespace(**labels: str) -> Obj:
    named = {PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
    return {"metadata": {"name": "ns", "labels": named}, "status": {"phase": "Active"}}


def labelled(**labels: str) -> Admission:
    admission = Admission()
    admission.put("namespaces", namespace(**labels))
    return admission


def secure(**more: Any) -> Obj:
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return pod(containers=[{"name": "c", "image": "i", "securityContext": context | more}])


async def test_restricted_text() -> None:
    error = await labelled(enforce="restricted").refusal("CREATE", "pods", pod())
    assert error.message == (
        'pods "p" is forbidden: violates PodSecurity "restricted:latest": '
        'allowPrivilegeEscalation != false (container "c" must set '
        "securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "
        '"c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or '
        'container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or '
        'container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")'
    )
    await labelled(enforce="restricted").run("CREATE", "pods", secure())
    await labelled(enforce="baseline").run("CREATE", "pods", pod())
    await labelled(enforce="privileged").run("CREATE", "pods", pod(hostNetwork=True))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {"hostNetwork": True, "hostPID": True},
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
            'hostPath volumes (volume "v")',
        ),
        (
            {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]},
            'hostPort (container "c" uses hostPort 80)',
        ),
        (
            {"containers": [{"name": "c", "securityContext": {"privileged": True}}]},
            'privileged (container "c" must not set securityContext.privileged=true)',
        ),
        (
            {
                "containers": [
                    {"name": "c", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
                ]
            },
            'non-default capabilities (container "c" must not include "NET_ADMIN" in '
            "securityContext.capabilities.add)",
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            {"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}},
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user '
            "may not be set)",
        ),
        (
            {"containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]},
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "1.2.3.4"}}}]},
            'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")',
        ),
        (
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ],
)
async def test_baseline(spec: Obj, text: str) -> None:
    error = await labelled(enforce="baseline").refusal("CREATE", "pods", pod(**spec))
    assert f'violates PodSecurity "baseline:latest": {text}' in error.message


async def test_restricted_only_checks() -> None:
    admission = labelled(enforce="restricted")
    error = await admission.refusal("CREATE", "pods", secure(runAsUser=0))
    assert 'runAsUser=0 (container "c" must not set runAsUser=0)' in error.message
    obj = secure()
    obj["spec"]["volumes"] = [{"name": "v", "nfs": {}}, {"name": "ok", "emptyDir": {}}]
    error = await admission.refusal("CREATE", "pods", obj)
    assert 'restricted volume types (volume "v" uses restricted volume type "nfs")' in error.message


async def test_versions() -> None:
    probe = {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "h"}}}]}
    old = labelled(enforce="baseline", enforce_version="v1.33")
    await old.run("CREATE", "pods", pod(**probe))
    new = labelled(enforce="baseline", enforce_version="v1.34")
    error = await new.refusal("CREATE", "pods", pod(**probe))
    assert 'violates PodSecurity "baseline:v1.34"' in error.message


async def test_warn_and_audit_let_through() -> None:
    admission = labelled(warn="restricted", audit="baseline")
    attributes = await admission.run("CREATE", "pods", pod(hostIPC=True))
    assert attributes.warnings[0].startswith(
        'would violate PodSecurity "restricted:latest": host namespaces (hostIPC=true), '
    )
    assert attributes.audit_annotations[f"{PREFIX}audit-violations"] == (
        'would violate PodSecurity "baseline:latest": host namespaces (hostIPC=true)'
    )


async def test_templates_only_warn() -> None:
    deployment = {"metadata": {"name": "d"}, "spec": {"template": pod(hostPID=True)}}
    attributes = await labelled(enforce="baseline").run("CREATE", "deployments", deployment)
    assert attributes.warnings == [
        'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    ]


async def test_updates_that_change_no_image_pass() -> None:
    admission = labelled(enforce="restricted")
    await admission.run("UPDATE", "pods", pod(), pod())
    newer = pod(containers=[{"name": "c", "image": "other"}])
    await admission.refusal("UPDATE", "pods", newer, pod())


async def test_namespace_labels() -> None:
    admission = Admission()
    error = await admission.refusal("CREATE", "namespaces", namespace(enforce="x"), namespace="")
    assert error.code == 422
    assert "must be one of privileged, baseline, restricted" in error.message
    admission.put("pods", pod(hostPID=True))
    attributes = await admission.run(
        "UPDATE", "namespaces", namespace(enforce="baseline"), namespace(), namespace=""
    )
    assert attributes.warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level '
        '"baseline:latest"',
        "p: host namespaces",
    ]


def test_bad_labels_fail_closed_for_enforce_only() -> None:
    policy, errors = policy_of({f"{PREFIX}enforce": "typo", f"{PREFIX}warn": "typo"})
    assert policy.enforce.level == "restricted" and policy.warn.level == "privileged"
    assert len(errors) == 2


async def test_metrics() -> None:
    admission = labelled(enforce="baseline", enforce_version="v1.34", warn="restricted")
    admission.chain.hooks.metrics = registry = Registry()
    await admission.run("CREATE", "pods", pod())
    await admission.refusal("CREATE", "pods", pod(hostIPC=True))
    future = labelled(enforce="baseline", enforce_version="v1.99")
    future.chain.hooks.metrics = registry
    await future.run("CREATE", "pods", secure())
    plain = labelled()
    plain.chain.hooks.metrics = registry
    await plain.run("CREATE", "pods", pod(hostIPC=True))
    counted: Any = registry.get("pod_security_evaluations_total")
    create = ("create", "pod", "")
    assert counted.values == {
        ("allow", "baseline", "v1.34", "enforce", *create): 1,
        ("deny", "restricted", "latest", "warn", *create): 1,
        ("deny", "baseline", "v1.34", "enforce", *create): 1,
        ("allow", "baseline", "future", "enforce", *create): 1,
        ("allow", "privileged", "latest", "enforce", *create): 1,
    }
