"""Which function answers the POST of each kind that is never stored.

``create_review`` is what the create endpoint calls instead of a store for the resources of
:data:`REVIEW_RESOURCES`; admission and decoding have happened before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apimachinery.schema import GroupResource

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authorization.union import RuleAuthorizer
    from pilothouse.apiserver.request.context import UserInfo

_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"
REVIEW_RESOURCES = frozenset(
    {
        GroupResource(_AUTHENTICATION, "tokenreviews"),
        GroupResource(_AUTHENTICATION, "selfsubjectreviews"),
        GroupResource(_AUTHORIZATION, "subjectaccessreviews"),
        GroupResource(_AUTHORIZATION, "localsubjectaccessreviews"),
        GroupResource(_AUTHORIZATION, "selfsubjectaccessreviews"),
        GroupResource(_AUTHORIZATION, "selfsubjectrulesreviews"),
    }
)


@dataclass(frozen=True, slots=True)
class ReviewServices:
    """``authenticator`` is a ``ClusterAuthenticator`` (tokens and API audiences)."""

    authenticator: Any
    authorizer: RuleAuthorizer
    clock: Clock


async def create_review(
    services: ReviewServices, resource: GroupResource, user: UserInfo, namespace: str, obj: Obj
) -> Obj:
    """The answer (201). :raises StatusError: 400 or 422, upstream's texts."""
    if resource not in REVIEW_RESOURCES:
        raise KeyError(resource)
    name = resource.resource
    if resource.group == _AUTHENTICATION:
        from pilothouse.apiserver.registry.authentication import reviews as authentication

        if name == "selfsubjectreviews":
            return authentication.self_subject_review(obj, user, services.clock)
        if namespace:
            raise new_bad_request(f"namespace is not allowed on this type: {namespace}")
        source = services.authenticator
        return await authentication.token_review(obj, source.tokens, source.api_audiences)

    from pilothouse.apiserver.authorization.remote import resolve
    from pilothouse.apiserver.registry.authorization import reviews as authorization

    def review(authorizer: Any) -> Obj:
        if name == "subjectaccessreviews":
            return authorization.subject_access_review(obj, authorizer)
        if name == "localsubjectaccessreviews":
            return authorization.local_subject_access_review(obj, authorizer, namespace)
        if name == "selfsubjectaccessreviews":
            return authorization.self_subject_access_review(obj, authorizer, user)
        return authorization.self_subject_rules_review(obj, authorizer, user)

    return await resolve(services.authorizer, review)
