"""OpenAPI of the paths that are no resources: ``/api``, ``/apis``, a group, ``/version``, OpenID.

``root_names`` lists them as the index of ``/openapi/v3`` does; both dialects take their paths here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.endpoints.openapi_facts import VERSION_INFO
from pilothouse.apiserver.endpoints.openapi_paths import DISCOVERY_TYPES, META, camel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VERSION_DEFINITION = "io.k8s.apimachinery.pkg.version.Info"
_OTHERS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "api": (
        *("core", "getCoreAPIVersions", "get available API versions", f"{META}.APIVersions"),
        DISCOVERY_TYPES,
    ),
    "apis": (
        *("apis", "getAPIVersions", "get available API versions", f"{META}.APIGroupList"),
        DISCOVERY_TYPES,
    ),
    "version": (
        *("version", "getCodeVersion", "get the version information for this server"),
        *(VERSION_DEFINITION, ("application/json",)),
    ),
    ".well-known/openid-configuration": (
        *("WellKnown", "getServiceAccountIssuerOpenIDConfiguration"),
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
        *("", ("application/json",)),
    ),
    "openid/v1/jwks": (
        *("openid", "getServiceAccountIssuerOpenIDKeyset"),
        "get service account issuer OpenID JSON Web Key Set (contains public token verification "
        "keys)",
        *("", ("application/jwk-set+json",)),
    ),
}


def root_names(groups: Iterable[str]) -> list[str]:
    """Without a leading slash. ``groups``: the built-in ones that are served."""
    return sorted([*_OTHERS, *(f"apis/{group}" for group in groups if group)])


def _facts(name: str) -> tuple[str, str, str, str, tuple[str, ...]]:
    """Tag, operation id, description, definition and media types."""
    found = _OTHERS.get(name)
    if found is not None:
        return found
    group = name.removeprefix("apis/")
    return (
        camel(group, lower=True),
        f"get{camel(group)}APIGroup",
        "get information of a group",
        f"{META}.APIGroup",
        DISCOVERY_TYPES,
    )


def root_definition(name: str) -> str:
    """The definition of the answer; empty for plain text."""
    return _facts(name)[3]


def root_path(name: str, ref: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    tag, operation_id, description, definition, types = _facts(name)
    schema = ref(definition) if definition else {"type": "string"}
    answer = {"description": "OK", "content": {each: {"schema": schema} for each in types}}
    operation = {
        "tags": [tag],
        "description": description,
        "operationId": operation_id,
        "responses": {"200": answer, "401": {"description": "Unauthorized"}},
    }
    return {f"/{name}/": {"get": operation}}


def version_definition(version: int) -> dict[str, Any]:
    """What ``/version`` answers, in the dialect of OpenAPI 2 or 3."""
    if version == 2:
        return VERSION_INFO
    properties: dict[str, dict[str, Any]] = VERSION_INFO["properties"]
    required = VERSION_INFO["required"]
    with_defaults = {
        name: schema | {"default": ""} if name in required else schema
        for name, schema in properties.items()
    }
    return VERSION_INFO | {"properties": with_defaults}
