"""A pod's hostname and domain: in the kernel and in /etc/hosts."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.kubelet.runtime.container_specs import domain_of, kernel_hostname, sandbox_config
from pilothouse.kubelet.runtime.errors import StartError
from pilothouse.kubelet.volumes.host_files import hosts_file


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}


def last_line(pod: dict[str, Any]) -> str:
    return hosts_file(pod, "10.0.0.1", "cluster.local").splitlines()[-1]


def test_domain_is_for_hosts_and_only_on_request_for_the_kernel() -> None:
    with_domain = pod(hostname="h", subdomain="sub")
    assert domain_of(with_domain, "cluster.local") == "sub.ns.svc.cluster.local"
    assert last_line(with_domain) == "10.0.0.1\th.sub.ns.svc.cluster.local\th"
    assert kernel_hostname(with_domain, "cluster.local") == "h"
    full = pod(hostname="h", subdomain="sub", setHostnameAsFQDN=True)
    config = sandbox_config(full, 0, log_directory="/l", cluster_domain="cluster.local")
    assert config.hostname == "h.sub.ns.svc.cluster.local"
    assert kernel_hostname(pod(setHostnameAsFQDN=True), "cluster.local") == "p"


def test_an_overridden_hostname_stands_alone() -> None:
    override = pod(hostname="h", subdomain="sub", hostnameOverride="o.example")
    assert last_line(override) == "10.0.0.1\to.example"
    assert kernel_hostname(override, "cluster.local") == "o.example"


def test_a_name_that_the_kernel_cannot_have() -> None:
    long = pod(hostname="h" * 63, subdomain="sub", setHostnameAsFQDN=True)
    with pytest.raises(StartError, match=r"is too long \(64 characters is the max, 88 "):
        kernel_hostname(long, "cluster.local")
    on_node = pod(hostNetwork=True, nodeName="n1", subdomain="sub", setHostnameAsFQDN=True)
    assert kernel_hostname(on_node, "cluster.local") == "n1"
