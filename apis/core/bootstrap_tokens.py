"""Bootstrap tokens: Secrets of type bootstrap.kubernetes.io/token, what they say; pure.

Read by the API server (who logs in) and by the controllers (who sign cluster-info and delete
what has expired). A token is ``<id>.<secret>``; its Secret is ``bootstrap-token-<id>``.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import TYPE_CHECKING

from pilothouse.apimachinery.timefmt import parse_time

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

SECRET_TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"
NAME_PREFIX = "bootstrap-token-"
TOKEN_ID, TOKEN_SECRET = "token-id", "token-secret"
EXPIRATION = "expiration"
EXTRA_GROUPS = "auth-extra-groups"
USAGE_SIGNING = "usage-bootstrap-signing"
USAGE_AUTHENTICATION = "usage-bootstrap-authentication"
DEFAULT_GROUP = "system:bootstrappers"
USER_PREFIX = "system:bootstrap:"

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_NAME = re.compile(re.escape(NAME_PREFIX) + "([a-z0-9]{6})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_GROUP_PATTERN = r"\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z"


def parse_token(token: str) -> tuple[str, str] | None:
    """(id, secret); None for a text of another form."""
    match = _TOKEN.fullmatch(token)
    return (match[1], match[2]) if match else None


def is_token_secret(secret: Obj) -> bool:
    return secret.get("type") == SECRET_TYPE and secret["metadata"].get("namespace") == NAMESPACE


def value_of(secret: Obj, key: str) -> str:
    """A value of the Secret, decoded; empty when it is missing or no text."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key) or "").decode()
    except ValueError:
        return ""


def remaining_seconds(secret: Obj, now: datetime) -> float | None:
    """Until the token expires, 0 when it has (also by a time that can't be read); None: never."""
    expiration = value_of(secret, EXPIRATION)
    if not expiration:
        return None
    try:
        return max(0.0, (parse_time(expiration) - now).total_seconds())
    except ValueError:
        return 0.0


def has_expired(secret: Obj, now: datetime) -> bool:
    return remaining_seconds(secret, now) == 0.0


def groups_of(secret: Obj) -> tuple[str, ...]:
    """The groups of who shows the token, sorted. :raises ValueError: a group of another kind."""
    groups = {DEFAULT_GROUP}
    if extra := value_of(secret, EXTRA_GROUPS):
        for group in extra.split(","):
            if not _GROUP.fullmatch(group):
                raise ValueError(
                    f'bootstrap group "{group}" is invalid (must match {_GROUP_PATTERN})'
                )
            groups.add(group)
    return tuple(sorted(groups))


def signing_token(secret: Obj, now: datetime) -> tuple[str, str] | None:
    """(id, secret) of a token that may sign cluster-info; None when it must not."""
    name = _NAME.fullmatch(secret["metadata"].get("name") or "")
    token_id, token_secret = value_of(secret, TOKEN_ID), value_of(secret, TOKEN_SECRET)
    if name is None or not token_id or name[1] != token_id or not token_secret:
        return None
    if has_expired(secret, now) or value_of(secret, USAGE_SIGNING) != "true":
        return None
    return token_id, token_secret
