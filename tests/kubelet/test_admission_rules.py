"""Pods that no node runs."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.kubelet.admission import PodAdmission
from pilothouse.kubelet.admission_rules import normalized, unsuitable


def pod(*sysctls: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    context = {"sysctls": [{"name": name, "value": "1"} for name in sysctls]}
    return {
        "metadata": {"uid": "u", "name": "p", "labels": labels or {}},
        "spec": {"securityContext": context, "containers": [], **spec},
    }


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (pod("kernel.shm_rmid_forced", "net/ipv4/tcp_rmem"), ""),
        (pod("kernel.msgmax"), '"kernel.msgmax" not allowlisted'),
        (pod("net.ipv4.tcp_rmem", "kernel/msgmax"), '"kernel.msgmax" not allowlisted'),
        (
            pod("net.ipv4.tcp_rmem", hostNetwork=True),
            '"net.ipv4.tcp_rmem" not allowed with host Net enabled',
        ),
        (
            pod("kernel.shm_rmid_forced", hostIPC=True),
            '"kernel.shm_rmid_forced" not allowed with host IPC enabled',
        ),
        (pod("kernel.shm_rmid_forced", hostNetwork=True), ""),
    ],
)
def test_sysctls(made: dict[str, Any], problem: str) -> None:
    wanted = ("SysctlForbidden", f"forbidden sysctl: {problem}") if problem else None
    assert unsuitable(made) == wanted


def test_unsafe_sysctls_that_the_node_allows() -> None:
    allowed = ("kernel.msg*", "net.ipv4.route.min_pmtu", "net/core/*")
    assert unsuitable(pod("kernel.msgmax", "net.core.somaxconn"), allowed) is None
    assert unsuitable(pod("net.ipv4.route.min_pmtu"), allowed) is None
    for bad in (
        pod("net.ipv4.route.min_pmtu2"),
        pod("kernel.sem"),
        pod("kernel.msgmax", hostIPC=True),
        pod("net.core.somaxconn", hostNetwork=True),
    ):
        assert (unsuitable(bad, allowed) or ("",))[0] == "SysctlForbidden"


def test_names_of_sysctls() -> None:
    assert normalized("net/ipv4/conf/eno2.100/rp_filter") == "net.ipv4.conf.eno2/100.rp_filter"
    assert normalized("net.ipv4.conf.eno2/100.rp_filter") == "net.ipv4.conf.eno2/100.rp_filter"


def test_pods_of_another_system() -> None:
    assert unsuitable(pod(os={"name": "linux"}, labels={"kubernetes.io/os": "linux"})) is None
    reason, message = unsuitable(pod(os={"name": "windows"})) or ("", "")
    assert reason == "PodOSNotSupported"
    assert message == "Failed to admit pod as the OS field doesn't match node OS"
    reason, _ = unsuitable(pod(labels={"kubernetes.io/os": "windows"})) or ("", "")
    assert reason == "PodOSSelectorNodeLabelDoesNotMatch"


def test_they_are_rejected_unless_they_run_already() -> None:
    bad = pod("kernel.msgmax")
    assert PodAdmission().admit(bad, {}, running=False) == (
        "SysctlForbidden",
        'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted',
    )
    assert PodAdmission().admit(bad, {}, running=True) is None
