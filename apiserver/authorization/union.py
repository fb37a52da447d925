"""Several authorizers in order, and the two that need no state (authorization/union)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pilothouse.apiserver.authorization.interfaces import Decision
from pilothouse.apiserver.authorization.rules import RuleReview

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
    from pilothouse.apiserver.request.context import UserInfo

PRIVILEGED_GROUP = "system:masters"


class RuleAuthorizer(Protocol):
    """An authorizer that can also list what a user may do (authorizer.RuleResolver)."""

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]: ...

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview: ...


class UnionAuthorizer:
    """The first that allows or denies decides; reasons of the others are joined.

    Members of system:masters may do everything, before any authorizer is asked.
    """

    remote = False
    """Whether an answer may have to be fetched (``remote.py``)."""

    def __init__(self, authorizers: Sequence[RuleAuthorizer]) -> None:
        self.authorizers = tuple(authorizers)
        self.allowed: dict[RuleAuthorizer, int] = {}
        self.denied: dict[RuleAuthorizer, int] = {}
        """How often each of them decided; members of system:masters are no decision."""

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        if PRIVILEGED_GROUP in attributes.user.groups:
            return Decision.ALLOW, ""
        reasons: list[str] = []
        for authorizer in self.authorizers:
            decision, reason = authorizer.authorize(attributes)
            if decision is not Decision.NO_OPINION:
                self.count(authorizer, decision)
                return decision, reason
            if reason:
                reasons.append(reason)
        return Decision.NO_OPINION, "\n".join(reasons)

    def count(self, authorizer: RuleAuthorizer, decision: Decision) -> None:
        counts = self.allowed if decision is Decision.ALLOW else self.denied
        counts[authorizer] = counts.get(authorizer, 0) + 1

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        resource_rules: list[Obj] = []
        other_rules: list[Obj] = []
        incomplete = False
        errors: list[str] = []
        for authorizer in self.authorizers:
            review = authorizer.rules_for(user, namespace)
            resource_rules += review.resource_rules
            other_rules += review.non_resource_rules
            incomplete = incomplete or review.incomplete
            if review.error:
                errors.append(review.error)
        error = f"[{', '.join(errors)}]" if len(errors) > 1 else "".join(errors)
        return RuleReview(resource_rules, other_rules, incomplete, error)


class AlwaysAllow:
    """--authorization-mode=AlwaysAllow."""

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        return Decision.ALLOW, ""

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        return RuleReview([everything], [{"verbs": ["*"], "nonResourceURLs": ["*"]}])


class AlwaysDeny:
    """--authorization-mode=AlwaysDeny."""

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        return Decision.NO_OPINION, "Everything is forbidden."

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        return RuleReview([], [])
