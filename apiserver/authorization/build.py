"""Puts the authorizer of one API server together from its flags.

``--authorization-mode`` or ``--authorization-config`` name the authorizers in order;
system:masters always pass. The result also carries what others need of it: the RBAC index
(``bootstrap`` seals its seeds) and the escalation checker (the RBAC kinds).
"""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.clock import RealClock
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
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.authorization.configuration import AuthorizerSettings
    from pilothouse.componentbase.tasks import TaskOwner

log = logging.getLogger(__name__)


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


def build_authorizer(
    config: Any,
    listers: Listers,
    *,
    clock: Clock | None = None,
    random: Random | None = None,
    tasks: TaskOwner | None = None,
) -> ClusterAuthorizer:
    """``tasks``: where a changed configuration file is read again.

    :raises ValueError: an unknown mode, or a configuration that is none. :raises OSError: files.
    """
    from pilothouse.apiserver.authorization.configuration import load_settings, settings_from_flags

    clock = clock or RealClock()
    parts = _Parts(config, listers, clock, random or Random())
    file = getattr(config, "authorization_config", "")
    if file:
        data = Path(file).read_bytes()
        settings = load_settings(data)
    else:
        settings = settings_from_flags(config, authorization_modes(config))
    authorizer = _union(parts, settings, remote=bool(file))
    if file and tasks is not None:
        types = {each.type for each in settings} - {"Webhook"}
        tasks.start(_follow(file, data, parts, authorizer, types), "authorization-config")
    return authorizer


def _union(parts: _Parts, settings: list[AuthorizerSettings], *, remote: bool) -> ClusterAuthorizer:
    """``remote``: webhooks may come later."""
    authorizers = parts.make(settings)
    if remote or any(each.webhook for each in settings):
        from pilothouse.apiserver.authorization.remote import RemoteUnion

        authorizer: ClusterAuthorizer = RemoteUnion(authorizers)
    else:
        authorizer = ClusterAuthorizer(authorizers)
    if parts.index is not None:
        authorizer.rbac_index = parts.index
        authorizer.escalation = Escalation(authorizer, parts.index)
    return authorizer


class _Parts:
    """Makes authorizers; all but webhooks live as long as the server."""

    def __init__(self, config: Any, listers: Listers, clock: Clock, random: Random) -> None:
        self._config = config
        self._listers = listers
        self._clock = clock
        self._random = random
        self._made: dict[str, RuleAuthorizer] = {}
        self.index: RBACIndex | None = None

    def make(self, settings: list[AuthorizerSettings]) -> list[RuleAuthorizer]:
        return [self._one(each) for each in settings]

    def _one(self, each: AuthorizerSettings) -> RuleAuthorizer:
        if each.webhook is not None:
            return self._webhook(each)
        made = self._made.get(each.type)
        if made is None:
            made = self._made[each.type] = self._local(each.type)
        return made

    def _local(self, mode: str) -> RuleAuthorizer:
        if mode == "RBAC":
            self.index = RBACIndex()
            self.index.seed(bootstrap_objects())
            follow(self.index, self._listers)
            return RBACAuthorizer(self.index)
        if mode == "Node":
            return NodeAuthorizer(NodeGraph(self._listers))
        if mode == "AlwaysAllow":
            return AlwaysAllow()
        if mode == "AlwaysDeny":
            return AlwaysDeny()
        from pilothouse.apiserver.authorization.abac import ABACAuthorizer, load_policies

        return ABACAuthorizer(load_policies(self._config.authorization_policy_file))

    def _webhook(self, each: AuthorizerSettings) -> RuleAuthorizer:
        from pilothouse.apiserver.authentication.review_client import ReviewClient
        from pilothouse.apiserver.authorization.match_conditions import (
            MatchConditions,
            compile_condition,
        )
        from pilothouse.apiserver.authorization.webhook import WebhookAuthorizer

        webhook = each.webhook
        assert webhook is not None
        if webhook.version not in ("v1", "v1beta1"):
            raise ValueError(
                f'unsupported webhook authorizer version "{webhook.version}", supported versions '
                'are "v1", "v1beta1"'
            )
        client = ReviewClient(
            webhook.kubeconfig, self._clock, self._random, timeout=webhook.timeout
        )
        conditions = None
        if webhook.expressions:
            conditions = MatchConditions([compile_condition(e) for e in webhook.expressions])
        return WebhookAuthorizer(client, webhook, self._clock, conditions)

    def check_known(self, settings: list[AuthorizerSettings]) -> None:
        """:raises ValueError: a type that the server was not started with."""
        for each in settings:
            if each.webhook is None and each.type in ("Node", "RBAC", "ABAC"):
                if each.type not in self._made:
                    raise ValueError(
                        f"authorizer type {each.type} is not allowed if it was not enabled at "
                        "initial server startup"
                    )

    @property
    def clock(self) -> Clock:
        return self._clock


async def _follow(
    file: str, data: bytes, parts: _Parts, authorizer: ClusterAuthorizer, types: set[str]
) -> None:
    """Exchanges the authorizers whenever the file has changed and is good."""
    from pilothouse.apiserver.authorization.configuration import load_settings
    from pilothouse.componentbase.file_changes import FileChanges

    async for new in FileChanges(file, parts.clock).follow(data):
        try:
            settings = load_settings(new, types)
            parts.check_known(settings)
            made = tuple(parts.make(settings))
        except (OSError, ValueError) as error:
            log.error("reloading authorization config: %s", error)
            continue
        old, authorizer.authorizers = authorizer.authorizers, made
        log.info("reloaded authz config")
        for each in old:
            if (close := getattr(each, "close", None)) is not None:
                await close()
