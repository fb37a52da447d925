"""Service-account tokens: their claims, and whether they still hold (pkg/serviceaccount).

A signature is checked once a token (bounded cache); time and bound objects are checked at each
request against the API server's own caches, so a deleted pod's token fails at once.
"""

from __future__ import annotations

from base64 import b64encode as _b64
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authentication.jws import InvalidSignature, KeySet, unverified_issuer
from pilothouse.apiserver.authentication.tokens import InvalidToken, TokenInfo
from pilothouse.apiserver.authentication.users import (
    CREDENTIAL_ID,
    NODE_NAME,
    NODE_UID,
    POD_NAME,
    POD_UID,
    SERVICE_ACCOUNT_PREFIX,
    service_account_user,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.request.context import UserInfo

SERVICE_ACCOUNTS = GroupResource("", "serviceaccounts")
PODS = GroupResource("", "pods")
SECRETS = GroupResource("", "secrets")
NODES = GroupResource("", "nodes")

LEEWAY = 60
"""Seconds by which clocks may differ, and a deleted object's tokens still live."""
WARN_ONLY_SECONDS = 3607
"""Asked for by the tokens that admission mounts; these get EXTENDED_SECONDS and a warning."""
EXTENDED_SECONDS = 365 * 24 * 3600
LEGACY_ISSUER = "kubernetes/serviceaccount"
_CACHE_SIZE = 4096


class BoundObjects(NamedTuple):
    """What a token is tied to besides its ServiceAccount."""

    pod: Obj | None = None
    secret: Obj | None = None
    node: Obj | None = None


def _reference(obj: Obj) -> dict[str, str]:
    metadata = obj["metadata"]
    reference = {"name": metadata.get("name") or "", "uid": metadata.get("uid") or ""}
    return {key: value for key, value in reference.items() if value}


def make_claims(
    account: Obj,
    bound: BoundObjects,
    *,
    issuer: str,
    audiences: Sequence[str],
    now: int,
    expiration_seconds: int,
    warn_after: int,
    token_id: str,
) -> dict[str, Any]:
    """The body of a token; ``warn_after`` 0 leaves that claim out."""
    metadata = account["metadata"]
    private: dict[str, Any] = {
        "namespace": metadata["namespace"],
        "serviceaccount": _reference(account),
    }
    for kind in ("node", "pod", "secret"):
        obj = getattr(bound, kind)
        if obj is not None:
            private[kind] = _reference(obj)
    if warn_after:
        private["warnafter"] = now + warn_after
    return {
        "aud": list(audiences),
        "exp": now + expiration_seconds,
        "iat": now,
        "iss": issuer,
        "jti": token_id,
        "kubernetes.io": dict(sorted(private.items())),
        "nbf": now,
        "sub": f"{SERVICE_ACCOUNT_PREFIX}{metadata['namespace']}:{metadata['name']}",
    }


class TokenCounts:
    """How tokens were used, for /metrics."""

    __slots__ = (
        "bad", "hits", "legacy", "legacy_auto", "legacy_manual", "misses", "stale", "valid",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hits = self.misses = self.bad = 0
        self.valid = self.stale = 0
        """Of tokens that say when they should have been replaced."""
        self.legacy = self.legacy_auto = self.legacy_manual = 0


class ServiceAccountTokens:
    """Authenticates tokens of this API server's issuers."""

    def __init__(
        self,
        keys: KeySet,
        issuers: Sequence[str],
        api_audiences: Sequence[str],
        listers: Listers,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._issuers = frozenset(issuers)
        self._api_audiences = tuple(api_audiences)
        self._listers = listers
        self._clock = clock
        self.counts = TokenCounts()
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        claims = self._claims(token)
        if claims is None:
            return None
        token_audiences = claims.get("aud") or self._api_audiences
        if isinstance(token_audiences, str):
            token_audiences = (token_audiences,)
        wanted = tuple(audiences) or self._api_audiences
        matching = tuple(a for a in token_audiences if a in wanted)
        if not matching and self._api_audiences:
            shown, targets = (_quoted(values) for values in (token_audiences, wanted))
            raise InvalidToken(
                f"token audiences {shown} is invalid for the target audiences {targets}"
            )
        return TokenInfo(self._user(claims, token), matching)

    def _claims(self, token: str) -> dict[str, Any] | None:
        claims = self._verified.get(token)
        if claims is not None:
            self.counts.hits += 1
            return claims
        if unverified_issuer(token) not in self._issuers:
            return None
        self.counts.misses += 1
        try:
            claims = self._keys.verify(token)
        except InvalidSignature as error:
            self.counts.bad += 1
            raise InvalidToken(str(error)) from error
        if claims.get("iss") not in self._issuers:
            raise InvalidToken(f'token issuer "{claims.get("iss")}" is invalid')
        self._verified[token] = claims
        if len(self._verified) > _CACHE_SIZE:
            self._verified.popitem(last=False)
        return claims

    def _user(self, claims: dict[str, Any], token: str) -> UserInfo:
        now = self._clock.time()
        _check_times(claims, now)
        private = claims.get("kubernetes.io")
        if not isinstance(private, dict):
            return self._legacy_user(claims, token)
        namespace = private.get("namespace") or ""
        account = private.get("serviceaccount") or {}
        self._check_account(namespace, account, now)
        extra: dict[str, tuple[str, ...]] = {}
        if token_id := claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={token_id}",)
        if secret := private.get("secret"):
            self._check_bound("secret", SECRETS, namespace, secret, now)
        pod, node = private.get("pod"), private.get("node")
        if pod:
            self._check_bound("pod", PODS, namespace, pod, now)
            extra[POD_NAME] = (pod.get("name") or "",)
            extra[POD_UID] = (pod.get("uid") or "",)
        if node:
            if not pod:
                self._check_bound("node", NODES, "", node, now)
            extra[NODE_NAME] = (node.get("name") or "",)
            if uid := node.get("uid"):
                extra[NODE_UID] = (uid,)
        if warn_after := private.get("warnafter"):
            if now > warn_after:
                self.counts.stale += 1
            else:
                self.counts.valid += 1
        return service_account_user(
            namespace, account.get("name") or "", account.get("uid") or "", extra
        )

    def _check_account(self, namespace: str, reference: dict[str, str], now: float) -> Obj:
        name = reference.get("name") or ""
        account = self._listers.get(SERVICE_ACCOUNTS, namespace, name)
        if account is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found')
        uid = account["metadata"].get("uid") or ""
        if uid != (reference.get("uid") or ""):
            wanted = reference.get("uid") or ""
            raise InvalidToken(f"service account UID ({uid}) does not match claim ({wanted})")
        if _deleted(account, now):
            raise InvalidToken(f"service account {namespace}/{name} has been deleted")
        return account

    def _check_bound(
        self,
        kind: str,
        resource: GroupResource,
        namespace: str,
        reference: dict[str, str],
        now: float,
    ) -> None:
        obj = self._listers.get(resource, namespace, reference.get("name") or "")
        if obj is None or _deleted(obj, now):
            raise InvalidToken("service account token has been invalidated")
        uid, wanted = obj["metadata"].get("uid") or "", reference.get("uid") or ""
        if uid != wanted:
            raise InvalidToken(
                f"{kind} UID ({uid}) does not match service account {kind} ref claim ({wanted})"
            )

    def _legacy_user(self, claims: dict[str, Any], token: str) -> UserInfo:
        """Tokens kept in Secrets of type kubernetes.io/service-account-token."""
        prefix = "kubernetes.io/serviceaccount/"
        namespace = claims.get(f"{prefix}namespace") or ""
        name = claims.get(f"{prefix}service-account.name") or ""
        secret_name = claims.get(f"{prefix}secret.name") or ""
        if not (namespace and name and secret_name):
            raise InvalidToken("service account token is missing its claims")
        uid = claims.get(f"{prefix}service-account.uid") or ""
        account = self._check_account(namespace, {"name": name, "uid": uid}, self._clock.time())
        secret = self._listers.get(SECRETS, namespace, secret_name)
        if secret is None or _deleted(secret, self._clock.time()):
            raise InvalidToken("service account token has been invalidated")
        if _b64(token.encode()).decode() != (secret.get("data") or {}).get("token"):
            raise InvalidToken("service account token does not match server's copy")
        counts = self.counts
        counts.legacy += 1
        if any(each.get("name") == secret_name for each in account.get("secrets") or ()):
            counts.legacy_auto += 1
        else:
            counts.legacy_manual += 1
        return service_account_user(namespace, name, uid)


def _quoted(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _check_times(claims: dict[str, Any], now: float) -> None:
    if (expiry := claims.get("exp")) is not None and now - LEEWAY > expiry:
        raise InvalidToken("service account token has expired")
    if (not_before := claims.get("nbf")) is not None and now + LEEWAY < not_before:
        raise InvalidToken("service account token is not valid yet")
    if (issued := claims.get("iat")) is not None and now + LEEWAY < issued:
        raise InvalidToken("service account token is issued in the future")


def _deleted(obj: Obj, now: float) -> bool:
    """Deletion began more than the leeway ago."""
    text = obj["metadata"].get("deletionTimestamp")
    if not text:
        return False
    return datetime.fromisoformat(text).timestamp() < now - LEEWAY
