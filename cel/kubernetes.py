"""The environments that Kubernetes declares, each made once in a process.

Activations hold objects in wire form. ``variables`` of a policy is a mapping (a dict or a
subclass of it, whose ``__getitem__`` and ``__contains__`` may be lazy). ``authorizer`` is an
``interfaces.AuthorizerLike``, ``authorizer.requestResource`` a :func:`request_resource_check`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pilothouse.cel import types
from pilothouse.cel.environment import Environment, functions
from pilothouse.cel.library import KUBERNETES, mutation
from pilothouse.cel.library.authorization import AuthorizerValue, ResourceCheck
from pilothouse.cel.types import DYN, STRING, TIMESTAMP, Field, Type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.cel.declarations import Functions
    from pilothouse.cel.interfaces import AuthorizerLike

_STRINGS = types.list_of(STRING)
AUTHORIZER = types.object_of("kubernetes.authorization.Authorizer", {})
RESOURCE_CHECK = types.object_of("kubernetes.authorization.ResourceCheck", {})
QUANTITY = types.object_of("kubernetes.Quantity", {})
SEMVER = types.object_of("kubernetes.Semver", {})


def _object(name: str, /, **fields: Type) -> Type:
    return types.object_of(name, {key: Field(key, type_) for key, type_ in fields.items()})


def _user_info() -> Type:
    return _object(
        "kubernetes.UserInfo",
        username=STRING,
        uid=STRING,
        groups=_STRINGS,
        extra=types.map_of(STRING, _STRINGS),
    )


@lru_cache(maxsize=1)
def admission_request() -> Type:
    """The type of ``request`` in admission."""
    kind = _object("kubernetes.GroupVersionKind", group=STRING, version=STRING, kind=STRING)
    resource = _object(
        "kubernetes.GroupVersionResource", group=STRING, version=STRING, resource=STRING
    )
    return _object(
        "kubernetes.AdmissionRequest",
        kind=kind,
        resource=resource,
        subResource=STRING,
        requestKind=kind,
        requestResource=resource,
        requestSubResource=STRING,
        name=STRING,
        namespace=STRING,
        operation=STRING,
        userInfo=_user_info(),
        dryRun=types.BOOL,
        options=DYN,
    )


@lru_cache(maxsize=1)
def namespace_object() -> Type:
    """The type of ``namespaceObject`` in admission."""
    labels = types.map_of(STRING, STRING)
    condition = _object(
        "kubernetes.NamespaceCondition",
        status=STRING,
        type=STRING,
        lastTransitionTime=TIMESTAMP,
        message=STRING,
        reason=STRING,
    )
    metadata = _object(
        "kubernetes.NamespaceMetadata",
        name=STRING,
        generateName=STRING,
        namespace=STRING,
        labels=labels,
        annotations=labels,
        UID=STRING,
        creationTimestamp=TIMESTAMP,
        deletionGracePeriodSeconds=types.INT,
        deletionTimestamp=TIMESTAMP,
        generation=types.INT,
        resourceVersion=STRING,
        finalizers=_STRINGS,
    )
    return _object(
        "kubernetes.Namespace",
        metadata=metadata,
        spec=_object("kubernetes.NamespaceSpec", finalizers=_STRINGS),
        status=_object(
            "kubernetes.NamespaceStatus", conditions=types.list_of(condition), phase=STRING
        ),
    )


def _admission_variables() -> dict[str, Type]:
    return {
        "object": DYN,
        "oldObject": DYN,
        "namespaceObject": namespace_object(),
        "request": admission_request(),
        "authorizer": AUTHORIZER,
        "authorizer.requestResource": RESOURCE_CHECK,
    }


@lru_cache(maxsize=1)
def match_conditions() -> Environment:
    """Of webhooks; those of policies are compiled in :func:`admission_policy`."""
    return Environment(_admission_variables())


def variables_type(fields: Mapping[str, Type]) -> Type:
    """The type of ``variables``, of what the variables' expressions give."""
    return types.object_of(
        "kubernetes.variables", {name: Field(name, type_) for name, type_ in fields.items()}
    )


def admission_policy(
    *,
    has_params: bool = False,
    variables: Mapping[str, Type] | None = None,
    object_type: Type = DYN,
    params_type: Type = DYN,
    has_authorizer: bool = True,
) -> Environment:
    """Of a ValidatingAdmissionPolicy. A type for ``object`` is for checks only: at run time
    objects are as they come."""
    return Environment(
        _policy_variables(has_params, variables, object_type, params_type, has_authorizer)
    )


def mutating_policy(
    *,
    has_params: bool = False,
    variables: Mapping[str, Type] | None = None,
) -> Environment:
    """Of a MutatingAdmissionPolicy: has ``Object{...}`` and ``JSONPatch{...}``, too."""
    return Environment(
        _policy_variables(has_params, variables, DYN, DYN, True),
        structs=mutation.PatchTypes(),
        extra_functions=_mutation_functions(),
    )


@lru_cache(maxsize=1)
def _mutation_functions() -> Functions:
    return functions((*KUBERNETES, mutation.rows))


def _policy_variables(
    has_params: bool,
    variables: Mapping[str, Type] | None,
    object_type: Type,
    params_type: Type,
    has_authorizer: bool,
) -> dict[str, Type]:
    found = _admission_variables()
    if not has_authorizer:
        del found["authorizer"], found["authorizer.requestResource"]
    found["object"] = found["oldObject"] = object_type
    if has_params:
        found["params"] = params_type
    found["variables"] = variables_type(variables or {})
    return found


def request_resource_check(
    authorizer: AuthorizerLike,
    *,
    group: str,
    resource: str,
    subresource: str = "",
    namespace: str = "",
    name: str = "",
) -> ResourceCheck:
    """The value of ``authorizer.requestResource``."""
    what = {"group": group, "resource": resource}
    optional = {"subresource": subresource, "namespace": namespace, "name": name}
    what |= {key: value for key, value in optional.items() if value}
    return ResourceCheck(AuthorizerValue(authorizer), what)


def authorizer_value(authorizer: AuthorizerLike) -> AuthorizerValue:
    """The value of ``authorizer``; the bare authorizer does as well."""
    return AuthorizerValue(authorizer)


def custom_resource_rule(self_type: Type, *, optional_old_self: bool = False) -> Environment:
    """Of ``x-kubernetes-validations``, and of their message expressions."""
    old = types.optional_of(self_type) if optional_old_self else self_type
    return Environment({"self": self_type, "oldSelf": old})


@lru_cache(maxsize=1)
def device_selector() -> Environment:
    """Of DeviceClasses and of device requests (DRA)."""
    attributes = types.map_of(STRING, types.map_of(STRING, types.ANY))
    capacity = types.map_of(STRING, types.map_of(STRING, QUANTITY))
    device = _object(
        "kubernetes.DRADevice",
        driver=STRING,
        attributes=attributes,
        capacity=capacity,
        allowMultipleAllocations=types.BOOL,
    )
    return Environment({"device": device})


@lru_cache(maxsize=1)
def authentication_claims() -> Environment:
    """Of structured authentication: mappings and rules for ``claims``."""
    return Environment({"claims": types.map_of(STRING, types.ANY)})


@lru_cache(maxsize=1)
def authentication_user() -> Environment:
    """Of structured authentication: rules for the mapped ``user``."""
    return Environment({"user": _user_info()})


@lru_cache(maxsize=1)
def authorization_match_conditions() -> Environment:
    """Of structured authorization: ``request`` is a SubjectAccessReview's spec."""
    requirement = _object(
        "kubernetes.SelectorRequirement", key=STRING, operator=STRING, values=_STRINGS
    )
    requirements = types.list_of(requirement)
    resource = _object(
        "kubernetes.ResourceAttributes",
        namespace=STRING,
        verb=STRING,
        group=STRING,
        version=STRING,
        resource=STRING,
        subresource=STRING,
        name=STRING,
        fieldSelector=_object(
            "kubernetes.FieldSelectorAttributes", rawSelector=STRING, requirements=requirements
        ),
        labelSelector=_object(
            "kubernetes.LabelSelectorAttributes", rawSelector=STRING, requirements=requirements
        ),
    )
    other = _object("kubernetes.NonResourceAttributes", path=STRING, verb=STRING)
    request = _object(
        "kubernetes.SubjectAccessReviewSpec",
        resourceAttributes=resource,
        nonResourceAttributes=other,
        user=STRING,
        groups=_STRINGS,
        extra=types.map_of(STRING, _STRINGS),
        uid=STRING,
    )
    return Environment({"request": request})
