"""Which strategy a built-in resource has: a module, imported when first asked for."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.registry.builtin import PlainStrategy

if TYPE_CHECKING:
    from pilothouse.apiserver.registry.strategy import Strategy

_MODULES: dict[str, dict[str, str]] = {
    "": {
        "namespaces": "core.namespace",
        "nodes": "core.node",
        "pods": "core.pod",
        "services": "core.service",
        "configmaps": "core.configmap",
        "secrets": "core.secret",
    },
    "apps": {
        "deployments": "apps.deployment",
        "replicasets": "apps.replicaset",
    },
}


@lru_cache(maxsize=512)
def strategy_for(resource: GroupResource) -> Strategy:
    """The strategy of a built-in resource; one without rules when it has no module."""
    module = _MODULES.get(resource.group, {}).get(resource.resource)
    if module is not None:
        found: Strategy = importlib.import_module(
            f"pilothouse.apiserver.registry.{module}"
        ).STRATEGY
        return found
    return _plain(resource)


def _plain(resource: GroupResource) -> Strategy:
    from pilothouse.apis.resources import BUILT_IN

    row = next((r for r in BUILT_IN if r.group_resource == resource), None)
    namespaced = row is None or row.namespaced
    has_status = row is not None and any(s.name == "status" for s in row.subresources)
    return PlainStrategy(resource, namespaced=namespaced, has_status=has_status)
