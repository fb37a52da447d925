"""TokenReview and SelfSubjectReview: kinds that are answered and never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request, new_internal_error
from pilothouse.apiserver.authentication.tokens import InvalidToken
from pilothouse.apiserver.authentication.users import user_to_wire, with_authenticated_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authentication.tokens import TokenAuthenticator
    from pilothouse.apiserver.request.context import UserInfo


async def token_review(
    obj: Obj, tokens: TokenAuthenticator | None, api_audiences: Sequence[str]
) -> Obj:
    """``obj`` with the verdict in its status. :raises StatusError: 400 without a token."""
    spec = obj.get("spec") or {}
    token = spec.get("token")
    if not token:
        raise new_bad_request("token is required for TokenReview in authentication")
    status: Obj = {}
    wanted = spec.get("audiences") or api_audiences
    if tokens is not None:
        try:
            found = await tokens.authenticate_token(token, wanted)
        except InvalidToken as error:
            status["error"] = str(error)
        else:
            if found is None:
                status["error"] = "invalid bearer token"
            elif wanted and found.audiences and not set(wanted) & set(found.audiences):
                raise new_internal_error("error validating audiences")
            else:
                status["authenticated"] = True
                status["user"] = user_to_wire(with_authenticated_group(found.user))
                if audiences := found.audiences or tuple(wanted):
                    status["audiences"] = list(audiences)
    status.setdefault("user", {})
    return {**obj, "status": status}


def self_subject_review(obj: Obj, user: UserInfo, clock: Clock) -> Obj:
    """Who the caller is."""
    return {
        "kind": obj.get("kind") or "SelfSubjectReview",
        "apiVersion": obj.get("apiVersion") or "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"},
        "status": {"userInfo": user_to_wire(user)},
    }
