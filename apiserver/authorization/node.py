"""The node authorizer: a kubelet may do what its own pods need (authorizer/node).

Rules that need no look at the object come from ``system:node``'s bootstrap rules; the rest is
subdivided by resource, with ``node_graph.py`` knowing which pods run where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.authorization.bootstrap_policy import bootstrap_objects
from pilothouse.apiserver.authorization.interfaces import Decision
from pilothouse.apiserver.authorization.node_graph import (
    ATTACHMENTS,
    POD_CERTIFICATES,
    SLICES,
    NodeGraph,
)
from pilothouse.apiserver.authorization.rules import RuleReview, compile_rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
    from pilothouse.apiserver.request.context import UserInfo

Result = tuple[Decision, str]
NO_OPINION: Result = (Decision.NO_OPINION, "")
ALLOW: Result = (Decision.ALLOW, "")
USER_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"
_OWN_OBJECT_VERBS = ("get", "create", "update", "patch", "delete")


def node_of_user(user: UserInfo) -> str | None:
    """The node that ``user`` is the kubelet of; None when it is none; "" when unnamed."""
    if NODES_GROUP not in user.groups or not user.name.startswith(USER_PREFIX):
        return None
    return user.name[len(USER_PREFIX) :]


def _no(reason: str) -> Result:
    return Decision.NO_OPINION, reason


def selects_node(field_selector: str, node: str) -> bool:
    """Whether a field selector asks for ``spec.nodeName=<node>`` (and maybe more)."""
    wanted = (f"spec.nodeName={node}", f"spec.nodeName=={node}")
    return any(part in wanted for part in field_selector.split(","))


class NodeAuthorizer:
    def __init__(self, graph: NodeGraph) -> None:
        self._graph = graph
        role = next(
            o
            for o in bootstrap_objects()
            if o["kind"] == "ClusterRole" and o["metadata"]["name"] == "system:node"
        )
        self._rules = tuple(compile_rule(rule) for rule in role["rules"])
        self._special: dict[tuple[str, str], Callable[[str, AuthorizationAttributes], Result]] = {
            ("", "secrets"): self._read_namespaced,
            ("", "configmaps"): self._read_namespaced,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("resource.k8s.io", "resourceclaims"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("", "serviceaccounts"): self._service_account,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("resource.k8s.io", "resourceslices"): self._resource_slice,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            ("certificates.k8s.io", "podcertificaterequests"): self._pod_certificate,
        }

    def authorize(self, attributes: AuthorizationAttributes) -> Result:
        user = attributes.user
        if not user.name.startswith(USER_PREFIX):
            return NO_OPINION
        node = node_of_user(user)
        if node is None:
            return NO_OPINION
        if not node:
            return _no(f'unknown node for user "{user.name}"')
        if not attributes.resource_request:
            return NO_OPINION
        special = self._special.get((attributes.group, attributes.resource))
        if special:
            return special(node, attributes)
        subresource = attributes.subresource
        combined = f"{attributes.resource}/{subresource}" if subresource else attributes.resource
        wildcard = f"*/{subresource}" if subresource else ""
        for rule in self._rules:
            if rule.allows_resource(attributes.verb, attributes.group, combined, wildcard):
                return ALLOW
        return NO_OPINION

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        if node_of_user(user) is None:
            return RuleReview([], [])
        error = "node authorizer does not support user rule resolution"
        return RuleReview([], [], True, error)

    def _related(self, node: str, attributes: AuthorizationAttributes) -> Result:
        name, namespace = attributes.name, attributes.namespace
        if not name:
            return _no("No Object name found")
        resource = attributes.resource
        if resource == "secrets":
            found = self._graph.uses_secret(node, namespace, name)
        elif resource == "persistentvolumes":
            found = self._graph.uses_volume(node, name)
        elif resource == "volumeattachments":
            found = self._graph.belongs_to(node, ATTACHMENTS, "", name)
        elif resource == "resourceslices":
            found = self._graph.belongs_to(node, SLICES, "", name)
        elif resource == "podcertificaterequests":
            found = self._graph.belongs_to(node, POD_CERTIFICATES, namespace, name)
        else:
            found = self._graph.uses(node, resource, namespace, name)
        if found:
            return ALLOW
        return _no(f"no relationship found between node '{node}' and this object")

    def _get(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.verb != "get":
            return _no("can only get individual resources of this type")
        if attributes.subresource:
            return _no("cannot get subresource")
        return self._related(node, attributes)

    def _read_namespaced(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.verb not in ("get", "list", "watch"):
            return _no("can only read resources of this type")
        if attributes.subresource:
            return _no("cannot read subresource")
        if not attributes.namespace:
            return _no("can only read namespaced object of this type")
        return self._related(node, attributes)

    def _claim(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.subresource != "status":
            return self._get(node, attributes)
        if attributes.verb not in ("update", "patch"):
            return _no("can only get/update/patch this type")
        return self._related(node, attributes)

    def _service_account(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.verb == "get" and not attributes.subresource:
            return self._read_namespaced(node, attributes)
        if attributes.verb != "create" or not attributes.name:
            return _no("can only create tokens for individual service accounts")
        if attributes.subresource != "token":
            return _no("can only create token subresource of serviceaccount")
        return self._related(node, attributes)

    def _lease(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.verb not in _OWN_OBJECT_VERBS:
            return _no("can only get, create, update, patch, or delete a node lease")
        if attributes.namespace != LEASE_NAMESPACE:
            return _no(f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        if attributes.verb != "create" and attributes.name != node:
            return _no("can only access node lease with the same name as the requesting node")
        return ALLOW

    def _csi_node(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.subresource == "status":
            return _no("CSINode status access requires CSIVolumeHealth feature")
        if attributes.subresource:
            return _no("cannot authorize CSINode subresources")
        if attributes.verb not in _OWN_OBJECT_VERBS:
            return _no("can only get, create, update, patch, or delete a CSINode")
        if attributes.verb != "create" and attributes.name != node:
            return _no("can only access CSINode with the same name as the requesting node")
        return ALLOW

    def _resource_slice(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.subresource:
            return _no("cannot authorize ResourceSlice subresources")
        verb = attributes.verb
        if verb == "create":
            return ALLOW
        if verb in ("get", "update", "patch", "delete"):
            return self._related(node, attributes)
        if verb in ("watch", "list", "deletecollection"):
            if selects_node(attributes.field_selector, node):
                return ALLOW
            return _no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector"
            )
        return _no(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, "
            "update, patch, delete, deletecollection"
        )

    def _pod_certificate(self, node: str, attributes: AuthorizationAttributes) -> Result:
        if attributes.subresource:
            return _no("nodes may not access the status subresource of PodCertificateRequests")
        verb = attributes.verb
        if verb == "create":
            return ALLOW
        if verb == "get":
            return self._related(node, attributes)
        if verb in ("list", "watch"):
            if selects_node(attributes.field_selector, node):
                return ALLOW
            return _no("can only list/watch podcertificaterequests with nodeName field selector")
        return _no(f"nodes may not {verb} podcertificaterequests")

    def _node(self, node: str, attributes: AuthorizationAttributes) -> Result:
        verb = attributes.verb
        if attributes.subresource == "":
            if verb in ("create", "update", "patch"):
                return ALLOW
            if verb in ("get", "list", "watch"):
                if attributes.name == node:
                    return ALLOW
                if not attributes.name:
                    return _no(f"node '{node}' cannot read all nodes, only its own Node object")
                return _no(
                    f"node '{node}' cannot read '{attributes.name}', only its own Node object"
                )
        elif attributes.subresource == "status" and verb in ("update", "patch"):
            return ALLOW
        return NO_OPINION

    def _pod(self, node: str, attributes: AuthorizationAttributes) -> Result:
        verb, subresource = attributes.verb, attributes.subresource
        if subresource == "status":
            return ALLOW if verb in ("update", "patch") else NO_OPINION
        if subresource == "eviction":
            return ALLOW if verb == "create" else NO_OPINION
        if subresource:
            return NO_OPINION
        if verb == "get":
            return self._get(node, attributes)
        if verb in ("list", "watch"):
            if selects_node(attributes.field_selector, node):
                return ALLOW
            if attributes.name:
                return self._related(node, attributes)
            return _no("can only list/watch pods with spec.nodeName field selector")
        return ALLOW if verb in ("create", "delete") else NO_OPINION
