"""Puts the authorizer of one API server together from its flags.

``--authorization-mode`` names the authorizers in order; system:masters always pass. The result
also carries what others need of it: the RBAC index (``bootstrap`` seals its seeds) and the
escalation checker (the RBAC kinds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.authorization.bootstrap_policy import bootstrap_objects
from pilothouse.apiserver.authorization.escalation import Escalation
from pilothouse.apiserver.authorization.node import NodeAuthorizer
from pilothouse.apiserver.authorization.node_graph import NodeGraph
from pilothouse.apiserver.authorization.rbac import RBACAuthorizer, RBACIndex, follow
from pilothouse.apiserver.authorization.union import (
    AlwaysAllow,
    AlwaysDeny,
    RuleAuthorizer,
    UnionAuthorizer,
)

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Listers


class ClusterAuthorizer(UnionAuthorizer):
    """A union with the parts that the rest of the server asks for by name."""

    rbac_index: RBACIndex | None = None
    escalation: Escalation | None = None


def authorization_modes(config: Any) -> tuple[str, ...]:
    """``authorization_mode`` as a list or a comma-separated text; upstream's default when unset
    is AlwaysAllow, a cluster's is Node,RBAC."""
    value = getattr(config, "authorization_mode", None) or ("Node", "RBAC")
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def build_authorizer(config: Any, listers: Listers) -> ClusterAuthorizer:
    """:raises ValueError: an unknown mode."""
    authorizers: list[RuleAuthorizer] = []
    index: RBACIndex | None = None
    for mode in authorization_modes(config):
        if mode == "RBAC":
            index = RBACIndex()
            index.seed(bootstrap_objects())
            follow(index, listers)
            authorizers.append(RBACAuthorizer(index))
        elif mode == "Node":
            authorizers.append(NodeAuthorizer(NodeGraph(listers)))
        elif mode == "AlwaysAllow":
            authorizers.append(AlwaysAllow())
        elif mode == "AlwaysDeny":
            authorizers.append(AlwaysDeny())
        else:
            raise ValueError(f'unknown authorization mode "{mode}"')
    authorizer = ClusterAuthorizer(authorizers)
    if index is not None:
        authorizer.rbac_index = index
        authorizer.escalation = Escalation(authorizer, index)
    return authorizer
