"""The objects that a binding hands to its policy as ``params`` (generic.CollectParams)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pilothouse.apimachinery.labels import selector_from_label_selector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind

_CLUSTER_SCOPED_REQUEST = (
    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
)
_NAMESPACE_GIVEN = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
_NOTHING_FOUND = "no params found for policy binding with `Deny` parameterNotFoundAction"


class ConfigurationError(Exception):
    """A policy or binding cannot be used as it is; ``failurePolicy`` says what that means."""


class ParamStore(Protocol):
    """The objects of one kind."""

    namespaced: bool

    async def get(self, namespace: str, name: str) -> Obj | None:
        """The object, fresh: a write that a client has seen counts."""
        ...

    async def list(self, namespace: str) -> Iterable[Obj]:
        """All of a namespace, or of a cluster-scoped kind. Read-only."""
        ...


class ParamStores(Protocol):
    def params_of(self, kind: GroupVersionKind) -> ParamStore | None:
        """None: nothing of that kind is served."""
        ...


def unknown_kind(kind: GroupVersionKind) -> ConfigurationError:
    return ConfigurationError(f"failed to find resource referenced by paramKind: '{kind}'")


async def collect(
    kind: GroupVersionKind | None, reference: Obj | None, namespace: str, stores: ParamStores
) -> list[Obj | None]:
    """What the policy is to be evaluated with, one after the other; ``[None]`` without params,
    nothing when none are found and that is allowed. ``namespace`` is the request's.

    :raises ConfigurationError: the reference can't be followed, or must not lead nowhere.
    """
    if kind is None or reference is None:
        return [None]
    store = stores.params_of(kind)
    if store is None:
        raise unknown_kind(kind)
    own = reference.get("namespace") or ""
    home = ""
    if store.namespaced:
        home = own or namespace
        if not home:
            # Binding and policy match something without a namespace to look into.
            raise ConfigurationError(_CLUSTER_SCOPED_REQUEST)
    elif own:
        raise ConfigurationError(_NAMESPACE_GIVEN)
    params = await _find(reference, store, home)
    if not params and reference.get("parameterNotFoundAction") == "Deny":
        raise ConfigurationError(_NOTHING_FOUND)
    return [*params]


async def _find(reference: Obj, store: ParamStore, namespace: str) -> list[Obj]:
    name, label_selector = reference.get("name") or "", reference.get("selector")
    if name:
        if label_selector is not None:
            raise ConfigurationError("paramRef.name and paramRef.selector are mutually exclusive")
        found = await store.get(namespace, name)
        return [] if found is None else [found]
    if label_selector is None:
        raise ConfigurationError("one of name or selector must be provided")
    try:
        selector = selector_from_label_selector(label_selector)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    listed = await store.list(namespace)
    return [obj for obj in listed if selector.matches((obj.get("metadata") or {}).get("labels"))]
