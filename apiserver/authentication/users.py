"""Names of users and groups that mean something to the system (authentication/user)."""

from __future__ import annotations

from pilothouse.apiserver.request.context import UserInfo

ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = UserInfo("system:anonymous", (ALL_UNAUTHENTICATED,))
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
SERVICE_ACCOUNTS_GROUP = "system:serviceaccounts"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE_UID = "authentication.kubernetes.io/node-uid"


def service_account_user(
    namespace: str, name: str, uid: str = "", extra: dict[str, tuple[str, ...]] | None = None
) -> UserInfo:
    return UserInfo(
        f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
        (SERVICE_ACCOUNTS_GROUP, f"{SERVICE_ACCOUNTS_GROUP}:{namespace}"),
        uid,
        tuple(sorted((extra or {}).items())),
    )


def split_service_account(user_name: str) -> tuple[str, str] | None:
    """(namespace, name) of a service account's user name; None for other users."""
    if not user_name.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    parts = user_name[len(SERVICE_ACCOUNT_PREFIX) :].split(":")
    return (parts[0], parts[1]) if len(parts) == 2 and all(parts) else None


def with_authenticated_group(user: UserInfo) -> UserInfo:
    """Adds system:authenticated, except to those whose groups already say it or the opposite."""
    if ALL_AUTHENTICATED in user.groups or ALL_UNAUTHENTICATED in user.groups:
        return user
    return UserInfo(user.name, (*user.groups, ALL_AUTHENTICATED), user.uid, user.extra)


def user_to_wire(user: UserInfo) -> dict[str, object]:
    """authentication.k8s.io UserInfo, empty fields left out."""
    wire: dict[str, object] = {}
    if user.name:
        wire["username"] = user.name
    if user.uid:
        wire["uid"] = user.uid
    if user.groups:
        wire["groups"] = list(user.groups)
    if user.extra:
        wire["extra"] = {key: list(values) for key, values in user.extra}
    return wire
