"""serviceaccounts/token: a signed token for a ServiceAccount (registry/core/serviceaccount).

:class:`TokenIssuer` is what the sub-resource does; the endpoint decodes and answers 201. Objects
that a token is bound to are read from the API server's own caches.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pilothouse.apimachinery import errors
from pilothouse.apimachinery.fieldpath import ErrorList, Path, invalid
from pilothouse.apimachinery.object import get_nested
from pilothouse.apimachinery.schema import GroupKind, GroupResource, parse_api_version
from pilothouse.apiserver.authentication.jws import b64decode
from pilothouse.apiserver.authentication.serviceaccount import (
    EXTENDED_SECONDS,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    WARN_ONLY_SECONDS,
    BoundObjects,
    make_claims,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.authentication.jws import KeySet

GROUP = "authentication.k8s.io"
_KIND = GroupKind(GROUP, "TokenRequest")
_MINIMUM_SECONDS = 600
_MAXIMUM_SECONDS = 1 << 32
DEFAULT_SECONDS = 3600
_WEBHOOK_KINDS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


def validate_token_request(request: Obj) -> ErrorList:
    spec = request.get("spec") or {}
    path = Path("spec", "expirationSeconds")
    seconds = spec.get("expirationSeconds")
    found: ErrorList = []
    if seconds is not None and seconds < _MINIMUM_SECONDS:
        found.append(invalid(path, seconds, "may not specify a duration less than 10 minutes"))
    if seconds is not None and seconds > _MAXIMUM_SECONDS:
        found.append(invalid(path, seconds, "may not specify a duration larger than 2^32 seconds"))
    if attestations := spec.get("attestations"):
        detail = "attestations may only be specified with a webhook bound object reference"
        return [invalid(Path("spec", "attestations"), attestations, detail)]
    return found


class TokenIssuer:
    """Issues tokens that :class:`ServiceAccountTokens` of the same keys accepts."""

    def __init__(
        self,
        *,
        keys: KeySet,
        issuer: str,
        api_audiences: Sequence[str],
        listers: Listers,
        clock: Clock,
        random: Random,
        max_seconds: int = 0,
        extend: bool = True,
    ) -> None:
        """``max_seconds`` and ``extend`` are --service-account-max-token-expiration (0: none)
        and --service-account-extend-token-expiration."""
        self._keys = keys
        self._issuer = issuer
        self._api_audiences = tuple(api_audiences)
        self._listers = listers
        self._clock = clock
        self._random = random
        self._max_seconds = max_seconds
        self._extend = extend

    def issue(self, namespace: str, name: str, request: Obj, warnings: list[str]) -> Obj:
        """The TokenRequest with its status filled in; ``request`` is not changed.

        :raises StatusError: 400, 404, 409, 422 with upstream's texts.
        """
        account = self._account(namespace, name, request)
        metadata = account["metadata"]
        spec: Obj = dict(request.get("spec") or {})
        spec["audiences"] = list(spec.get("audiences") or self._api_audiences)
        if spec.get("expirationSeconds") is None:
            spec["expirationSeconds"] = DEFAULT_SECONDS
        problems = validate_token_request({"spec": spec})
        if problems:
            raise errors.new_invalid(_KIND, "", problems)
        bound = self._bound_objects(namespace, name, spec.get("boundObjectRef"))
        seconds: int = spec["expirationSeconds"]
        if 0 < self._max_seconds < seconds:
            warnings.append(
                f"requested expiration of {seconds} seconds shortened to "
                f"{self._max_seconds} seconds"
            )
            spec["expirationSeconds"] = seconds = self._max_seconds
        now = self._clock.now().replace(microsecond=0)
        token = self._sign(account, bound, spec["audiences"], int(now.timestamp()), seconds)
        identity = {"name": metadata["name"], "namespace": namespace, "uid": metadata.get("uid")}
        return {
            "kind": "TokenRequest",
            "apiVersion": f"{GROUP}/v1",
            "metadata": {
                **(request.get("metadata") or {}),
                **{key: value for key, value in identity.items() if value},
                "creationTimestamp": _wire_time(now),
            },
            "spec": spec,
            "status": {
                "token": token,
                "expirationTimestamp": _wire_time(now + timedelta(seconds=seconds)),
            },
        }

    def _account(self, namespace: str, name: str, request: Obj) -> Obj:
        metadata = request.get("metadata") or {}
        for field, wanted in (("name", name), ("namespace", namespace)):
            given = metadata.get(field)
            if given and given != wanted:
                detail = f"must match the service account {field} if specified"
                problem = invalid(Path("metadata", field), given, detail)
                raise errors.new_invalid(_KIND, name, [problem])
        account = self._listers.get(SERVICE_ACCOUNTS, namespace, name)
        if account is None:
            raise errors.new_not_found(SERVICE_ACCOUNTS, name)
        uid, actual = metadata.get("uid"), account["metadata"].get("uid")
        if uid and uid != actual:
            reason = (
                f"the UID in the token request ({uid}) does not match the UID of the service "
                f"account ({actual})"
            )
            raise errors.new_conflict(GroupResource(GROUP, "TokenRequest"), name, reason)
        return account

    def _bound_objects(self, namespace: str, name: str, reference: Obj | None) -> BoundObjects:
        if not reference:
            return BoundObjects()
        kind, target = reference.get("kind") or "", reference.get("name") or ""
        group, version = parse_api_version(reference.get("apiVersion") or "")
        if group == "" and kind == "Pod":
            pod = self._get(PODS, namespace, target)
            if get_nested(pod, "spec", "serviceAccountName") != name:
                raise errors.new_bad_request(
                    f'cannot bind token for serviceaccount "{name}" to pod running with different '
                    "serviceaccount name."
                )
            bound = BoundObjects(pod=pod, node=self._node_of(pod))
            obj = pod
        elif group == "" and kind == "Secret":
            obj = self._get(SECRETS, namespace, target)
            bound = BoundObjects(secret=obj)
        elif group == "" and kind == "Node":
            obj = self._get(NODES, "", target)
            bound = BoundObjects(node=obj)
        else:
            prefix = f"{group}/{version}"
            text = f"cannot bind token to object of type {prefix}, Kind={kind}"
            if prefix == "admissionregistration.k8s.io/v1" and kind in _WEBHOOK_KINDS:
                text += " (feature gate APIServerWebhookAuthenticationToken is disabled)"
            raise errors.new_bad_request(text)
        wanted, actual = reference.get("uid"), obj["metadata"].get("uid")
        if wanted and wanted != actual:
            reason = (
                f"the UID in the bound object reference ({wanted}) does not match the UID in "
                "record. The object might have been deleted and then recreated"
            )
            raise errors.new_conflict(GroupResource(group, kind), target, reason)
        return bound

    def _get(self, resource: GroupResource, namespace: str, name: str) -> Obj:
        obj = self._listers.get(resource, namespace, name)
        if obj is None:
            raise errors.new_not_found(resource, name)
        return obj

    def _node_of(self, pod: Obj) -> Obj | None:
        """The pod's Node; when that object is gone, one with nothing but the name."""
        name = get_nested(pod, "spec", "nodeName")
        if not name:
            return None
        return self._listers.get(NODES, "", name) or {"metadata": {"name": name}}

    def _sign(
        self, account: Obj, bound: BoundObjects, audiences: Sequence[str], now: int, seconds: int
    ) -> str:
        warn_after = 0
        if (
            self._extend
            and bound.pod is not None
            and seconds == WARN_ONLY_SECONDS
            and set(audiences) <= set(self._api_audiences)
        ):
            warn_after, seconds = seconds, EXTENDED_SECONDS
        claims = make_claims(
            account,
            bound,
            issuer=self._issuer,
            audiences=audiences,
            now=now,
            expiration_seconds=seconds,
            warn_after=warn_after,
            token_id=str(UUID(int=self._random.getrandbits(128), version=4)),
        )
        try:
            return self._keys.sign(claims)
        except RuntimeError as error:
            raise errors.new_internal_error(f"failed to generate token: {error}") from error


def credential_id(token: str) -> str:
    """What a token that we have issued is called in audit logs and users' extras."""
    claims = json.loads(b64decode(token.split(".")[1]))
    return f"JTI={claims['jti']}"


def _wire_time(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def build_token_issuer(
    config: Any, authenticator: Any, listers: Listers, clock: Clock, random: Random
) -> TokenIssuer:
    """From the flags and the ``ClusterAuthenticator`` of the same server."""
    extend = getattr(config, "service_account_extend_token_expiration", None)
    maximum = getattr(config, "service_account_max_token_expiration", None) or 0
    seconds = maximum.total_seconds() if isinstance(maximum, timedelta) else maximum
    return TokenIssuer(
        keys=authenticator.keys,
        issuer=authenticator.issuers[0],
        api_audiences=authenticator.api_audiences,
        listers=listers,
        clock=clock,
        random=random,
        max_seconds=int(seconds),
        extend=extend is None or bool(extend),
    )
