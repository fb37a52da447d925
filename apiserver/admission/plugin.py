"""The base of admission plugins and what they are given.

A plugin overrides ``admit``, ``validate`` or both; the chain does not call the other one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_forbidden
from pilothouse.apimachinery.schema import GroupResource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupKind
    from pilothouse.apiserver.admission.interfaces import Attributes, Listers, Operation
    from pilothouse.apiserver.admission.order import Row
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.registry.resources import ResourceRegistry
    from pilothouse.apiserver.webhook.client import WebhookClient
    from pilothouse.componentbase.metrics import Registry as Metrics
    from pilothouse.kubeclient.interfaces import Client

NAMESPACES = GroupResource("", "namespaces")
PODS = GroupResource("", "pods")
SERVICE_ACCOUNTS = GroupResource("", "serviceaccounts")
NODES = GroupResource("", "nodes")
LIMIT_RANGES = GroupResource("", "limitranges")
RESOURCE_QUOTAS = GroupResource("", "resourcequotas")
PRIORITY_CLASSES = GroupResource("scheduling.k8s.io", "priorityclasses")
_ADMISSION = "admissionregistration.k8s.io"
VALIDATING_POLICIES = GroupResource(_ADMISSION, "validatingadmissionpolicies")
VALIDATING_POLICY_BINDINGS = GroupResource(_ADMISSION, "validatingadmissionpolicybindings")
MUTATING_POLICIES = GroupResource(_ADMISSION, "mutatingadmissionpolicies")
MUTATING_POLICY_BINDINGS = GroupResource(_ADMISSION, "mutatingadmissionpolicybindings")
MUTATING_WEBHOOKS = GroupResource(_ADMISSION, "mutatingwebhookconfigurations")
VALIDATING_WEBHOOKS = GroupResource(_ADMISSION, "validatingwebhookconfigurations")
CONFIGURATION = (
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    VALIDATING_POLICIES,
    VALIDATING_POLICY_BINDINGS,
    MUTATING_POLICIES,
    MUTATING_POLICY_BINDINGS,
)
"""Kinds whose objects decide what plugins are interested in."""


class ObjectIndex:
    """All objects of a small kind by namespace, kept by subscription; reads cost nothing."""

    def __init__(self, listers: Listers, resource: GroupResource) -> None:
        self._objects: dict[str, dict[str, Obj]] = {}
        self.generation = 0
        listers.subscribe(resource, self._changed)

    def _changed(self, event_type: str, obj: Obj, old: Obj | None) -> None:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata["name"]
        self.generation += 1
        if event_type != "DELETED":
            self._objects.setdefault(namespace, {})[name] = obj
            return
        objects = self._objects.get(namespace)
        if objects is not None:
            objects.pop(name, None)
            if not objects:
                del self._objects[namespace]

    def in_namespace(self, namespace: str = "") -> Iterable[Obj]:
        objects = self._objects.get(namespace)
        return objects.values() if objects else ()

    def get(self, namespace: str, name: str) -> Obj | None:
        return self._objects.get(namespace, {}).get(name)


@dataclass(slots=True)
class AdmissionHooks:
    """What the server fills in once it exists; plugins ask late."""

    client: Client | None = None
    """A loopback client with all rights: live reads when the cache lacks something, and the
    status updates of ResourceQuotas."""
    authorizer: Authorizer | None = None
    resources_for_kind: Callable[[GroupKind, str], list[tuple[GroupResource, bool]]] | None = None
    """(resource, namespaced) of a kind and version, for OwnerReferencesPermissionEnforcement."""
    registry: ResourceRegistry | None = None
    """What is served: other versions of a request's object, the kinds of policies' params."""
    webhooks: Callable[[], WebhookClient] | None = None
    """Makes the server's webhook client, or returns it."""
    metrics: Metrics | None = None
    """Where plugins register theirs, when they first have something to count."""


@dataclass(slots=True)
class AdmissionContext:
    """What all plugins of one API server share."""

    listers: Listers
    clock: Clock
    random: Random
    config: Any
    limit_ranges: ObjectIndex
    quotas: ObjectIndex
    priority_classes: ObjectIndex
    hooks: AdmissionHooks = field(default_factory=AdmissionHooks)
    configuration: dict[GroupResource, ObjectIndex] = field(default_factory=dict)
    """The objects of the kinds in :data:`CONFIGURATION`; a change makes the chain ask anew what
    concerns its plugins."""


class Plugin:
    """Implements :class:`~.interfaces.AdmissionPlugin` except for its work."""

    def __init__(self, row: Row, context: AdmissionContext) -> None:
        self.row = row
        self.name = row.name
        self.context = context
        self.listers = context.listers
        self.set_up()

    def set_up(self) -> None:
        """For state of the plugin's own."""

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        return self.row.matches(operation, resource, subresource)

    async def listed(self, resource: GroupResource) -> Listers:
        """The listers, once the cache of a rarely needed kind can be read."""
        ensure = getattr(self.listers, "ensure", None)
        if ensure is not None:
            await ensure(resource)
        return self.listers

    async def admit(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


def resource_name(attributes: Attributes) -> str:
    """The object's name for messages; names are not generated yet (extractResourceName)."""
    if attributes.name:
        return attributes.name
    if attributes.obj is None:
        return "Unknown"
    metadata = attributes.obj.get("metadata") or {}
    return metadata.get("name") or metadata.get("generateName") or "Unknown"


def refuse(attributes: Attributes, reason: str) -> StatusError:
    """403 as admission.NewForbidden words it."""
    return new_forbidden(attributes.resource.group_resource, resource_name(attributes), reason)
