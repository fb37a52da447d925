"""The variable ``authorizer``: checks that admission expressions may make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.names import is_dns1123_label, is_dns1123_subdomain
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import no_overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pilothouse.cel.interfaces import AuthorizerLike

_P = "kubernetes.authorization."
_A, _G, _R = f"{_P}Authorizer", f"{_P}GroupCheck", f"{_P}ResourceCheck"
_PATH, _D = f"{_P}PathCheck", f"{_P}Decision"


class AuthorizerValue:
    """An authorizer for the requesting user, or for a service account."""

    __slots__ = ("account", "authorizer")
    type_name = _A

    def __init__(self, authorizer: AuthorizerLike, account: tuple[str, str] | None = None) -> None:
        self.authorizer = authorizer
        self.account = account


class PathCheck:
    __slots__ = ("owner", "path")
    type_name = _PATH

    def __init__(self, owner: AuthorizerValue, path: str) -> None:
        self.owner = owner
        self.path = path


class GroupCheck:
    __slots__ = ("group", "owner")
    type_name = _G

    def __init__(self, owner: AuthorizerValue, group: str) -> None:
        self.owner = owner
        self.group = group


class ResourceCheck:
    """What to check so far. Selectors are kept, though no authorizer here looks at them."""

    __slots__ = ("owner", "what")
    type_name = _R

    def __init__(self, owner: AuthorizerValue, what: dict[str, str]) -> None:
        self.owner = owner
        self.what = what


class Decision:
    __slots__ = ("allowed", "error", "reason")
    type_name = _D

    def __init__(self, allowed: bool, reason: str, error: str) -> None:
        self.allowed = allowed
        self.reason = reason
        self.error = error


def _authorizer(value: Any) -> AuthorizerValue:
    """Activations may hold the bare authorizer."""
    if isinstance(value, AuthorizerValue):
        return value
    if not hasattr(value, "check"):
        raise no_overload()
    return AuthorizerValue(value)


def _path(authorizer: Any, path: str) -> PathCheck:
    owner = _authorizer(authorizer)
    if not path.strip():
        raise EvaluationError("path must not be empty")
    return PathCheck(owner, path)


def _group(authorizer: Any, group: str) -> GroupCheck:
    return GroupCheck(_authorizer(authorizer), group)


def _service_account(authorizer: Any, namespace: str, name: str) -> AuthorizerValue:
    owner = _authorizer(authorizer)
    if is_dns1123_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if is_dns1123_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    return AuthorizerValue(owner.authorizer, (namespace, name))


def _resource(group: GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise EvaluationError("resource must not be empty")
    return ResourceCheck(group.owner, {"group": group.group, "resource": resource})


def _with(key: str) -> Callable[[ResourceCheck, str], ResourceCheck]:
    return lambda check, value: ResourceCheck(check.owner, {**check.what, key: value})


def _same(check: ResourceCheck, _: str) -> ResourceCheck:
    return check


def _decide(owner: AuthorizerValue, verb: str, what: dict[str, str]) -> Decision:
    try:
        allowed, reason = owner.authorizer.check(verb=verb, service_account=owner.account, **what)
    except EvaluationError as error:
        return Decision(False, "", str(error))
    return Decision(allowed, reason, "")


def _check_path(check: PathCheck, verb: str) -> Decision:
    return _decide(check.owner, verb, {"path": check.path})


def _check_resource(check: ResourceCheck, verb: str) -> Decision:
    return _decide(check.owner, verb, check.what)


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "authorizer_path", f"{_A}|path(string) -> {_PATH}", _path
    yield "authorizer_group", f"{_A}|group(string) -> {_G}", _group
    yield (
        "authorizer_serviceaccount",
        f"{_A}|serviceAccount(string, string) -> {_A}",
        _service_account,
    )
    yield "groupcheck_resource", f"{_G}|resource(string) -> {_R}", _resource
    for key in ("subresource", "namespace", "name"):
        yield f"resourcecheck_{key}", f"{_R}|{key}(string) -> {_R}", _with(key)
    yield "authorizer_fieldselector", f"{_R}|fieldSelector(string) -> {_R}", _same
    yield "authorizer_labelselector", f"{_R}|labelSelector(string) -> {_R}", _same
    yield "pathcheck_check", f"{_PATH}|check(string) -> {_D}", _check_path
    yield "resourcecheck_check", f"{_R}|check(string) -> {_D}", _check_resource
    yield "decision_errored", f"{_D}|errored() -> bool", lambda d: bool(d.error)
    yield "decision_error", f"{_D}|error() -> string", lambda d: d.error
    yield "decision_allowed", f"{_D}|allowed() -> bool", lambda d: d.allowed
    yield "decision_reason", f"{_D}|reason() -> string", lambda d: d.reason
