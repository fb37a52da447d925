"""Imports what every in-process cluster is made of, together with :class:`Cluster` itself.

The parts import each other on first use, which keeps the command line quick; a test's first
``Cluster()`` would pay for all of that (140 ms). With this the first one starts like the others.
"""

from __future__ import annotations

from importlib import import_module

_PARTS = (
    "cryptography.x509",
    "pilothouse.apiserver.admission.chain",
    "pilothouse.apiserver.admission.plugins.namespace_lifecycle",
    "pilothouse.apiserver.admission.plugins.pod_security",
    "pilothouse.apiserver.admission.plugins.priority",
    "pilothouse.apiserver.admission.plugins.resource_quota",
    "pilothouse.apiserver.admission.plugins.taint_nodes_by_condition",
    "pilothouse.apiserver.authentication.build",
    "pilothouse.apiserver.authorization.bootstrap_policy",
    "pilothouse.apiserver.authorization.build",
    "pilothouse.apiserver.authorization.node",
    "pilothouse.apiserver.bootstrap.run",
    "pilothouse.apiserver.endpoints.discovery",
    "pilothouse.apiserver.registry.core.event",
    "pilothouse.apiserver.registry.core.node",
    "pilothouse.apiserver.registry.core.pod",
    "pilothouse.apiserver.registry.core.service_allocators",
    "pilothouse.apiserver.registry.core.serviceaccount",
    "pilothouse.apiserver.registry.rbac.clusterrole",
    "pilothouse.apiserver.registry.subresources.status",
    "pilothouse.apiserver.storage.memory",
    "pilothouse.cluster.kubelets",
    "pilothouse.cluster.nodes",
    "pilothouse.componentbase.serving.tls",
    "pilothouse.kubelet.runtime.fake",
    "pilothouse.scheduler.scheduler",
)


def preload() -> None:
    """Missing parts are left to whoever needs them."""
    for name in _PARTS:
        try:
            import_module(name)
        except ImportError:
            continue
    from pilothouse.controllermanager.manager import CONTROLLERS

    for entry in CONTROLLERS:
        import_module(f"pilothouse.controllermanager.{entry.module}")
