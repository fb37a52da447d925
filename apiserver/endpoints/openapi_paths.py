"""Paths and operations of a group version, from the rows of the resource table.

One shape serves both dialects: ``openapi_v2.py`` turns parameters and bodies into swagger's form.
Clients look for ``x-kubernetes-action`` and ``x-kubernetes-group-version-kind`` on operations, and
for the query parameters ``fieldValidation`` and ``dryRun`` on PATCH.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.endpoints.openapi_parameters import QUERY_TEXTS
from pilothouse.apiserver.endpoints.openapi_schemas import GVK_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apis.resource import Resource, Subresource

META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_RESPONSE_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
DISCOVERY_TYPES = _RESPONSE_TYPES
_LIST_TYPES = (
    "application/json",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/yaml",
)
PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_CUSTOM_PATCH_TYPES = PATCH_TYPES[:3]
_INTEGERS = frozenset({"limit", "timeoutSeconds", "gracePeriodSeconds"})
_BOOLEANS = frozenset(
    {
        "allowWatchBookmarks",
        "force",
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "orphanDependents",
        "sendInitialEvents",
        "watch",
    }
)
_LIST_QUERY = (
    "allowWatchBookmarks continue fieldSelector labelSelector limit resourceVersion "
    "resourceVersionMatch sendInitialEvents shardSelector timeoutSeconds watch"
).split()
_GET_CUSTOM_QUERY = ["resourceVersion"]
_WRITE_QUERY = "dryRun fieldManager fieldValidation".split()
_PATCH_QUERY = [*_WRITE_QUERY, "force"]
_DELETE_QUERY = (
    "dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential "
    "orphanDependents propagationPolicy"
).split()
_DELETE_LIST_QUERY = (
    "continue dryRun fieldSelector gracePeriodSeconds "
    "ignoreStoreReadErrorWithClusterBreakingPotential labelSelector limit orphanDependents "
    "propagationPolicy resourceVersion resourceVersionMatch sendInitialEvents shardSelector "
    "timeoutSeconds"
).split()
_CONNECT = frozenset({"attach", "exec", "portforward", "proxy"})
_CONNECT_QUERY: dict[str, list[str]] = {
    "attach": "container stderr stdin stdout tty".split(),
    "exec": "command container stderr stdin stdout tty".split(),
    "portforward": ["ports"],
    "proxy": ["path"],
    "log": (
        "container follow insecureSkipTLSVerifyBackend limitBytes pretty previous sinceSeconds "
        "stream tailLines timestamps"
    ).split(),
}
_CONNECT_INTEGERS = frozenset({"limitBytes", "ports", "sinceSeconds", "tailLines"})
_CONNECT_BOOLEANS = frozenset(
    "follow insecureSkipTLSVerifyBackend previous stderr stdin stdout timestamps tty".split()
)
_METHODS = {"create": "post", "delete": "delete", "get": "get", "patch": "patch", "update": "put"}
_ACTIONS = {"post": "Create", "delete": "Delete", "get": "Read", "patch": "Patch", "put": "Replace"}
_CONNECT_METHODS = {
    "create": ("post",),
    "delete": ("delete",),
    "get": ("get", "head", "options"),
    "patch": ("patch",),
    "update": ("put",),
}


class PathWriter:
    """``ref`` spells a reference to a definition; ``names`` maps a row to its definitions."""

    def __init__(self, group: str, version: str, ref: Callable[[str], dict[str, Any]]) -> None:
        self.group = group
        self.version = version
        self.base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        self.tag = f"{camel(group, lower=True) or 'core'}_{version}"
        self.prefix = f"{camel(group) or 'Core'}{version[:1].upper()}{version[1:]}"
        self.ref = ref
        self.used: set[str] = set()
        self.paths: dict[str, dict[str, Any]] = {}

    def write(self, rows: Iterable[Resource]) -> dict[str, dict[str, Any]]:
        rows = list(rows)
        if not all(row.custom for row in rows):  # upstream documents none of these for them
            self.paths[f"{self.base}/"] = {
                "get": {
                    "tags": [self.tag],
                    "description": "get available resources",
                    "operationId": f"get{self.prefix}APIResources",
                    "responses": self._responses(f"{META}.APIResourceList", ("200",)),
                }
            }
        for row in rows:
            self._resource(row)
        return dict(sorted(self.paths.items()))

    def _resource(self, row: Resource) -> None:
        scope = "Namespaced" if row.namespaced else ""
        where = f"{self.base}/namespaces/{{namespace}}" if row.namespaced else self.base
        params = _path_params(row.namespaced, False)
        collection: dict[str, Any] = {}
        if "list" in row.verbs:
            collection["get"] = self._list(row, scope)
        if "create" in row.verbs:
            collection["post"] = self._write_operation(row, "post", f"{scope}{row.kind}")
        if "deletecollection" in row.verbs:
            collection["delete"] = self._delete_collection(row, scope)
        self._add(f"{where}/{row.name}", collection, params)
        if row.namespaced and "list" in row.verbs:
            everywhere = {"get": self._list(row, "", f"{row.kind}ForAllNamespaces")}
            self._add(f"{self.base}/{row.name}", everywhere, [])
        item = {
            _METHODS[verb]: self._write_operation(row, _METHODS[verb], f"{scope}{row.kind}")
            for verb in row.verbs
            if verb in ("get", "update", "patch", "delete")
        }
        path = f"{where}/{row.name}/{{name}}"
        self._add(path, item, _path_params(row.namespaced, True))
        for sub in row.subresources:
            self._subresource(row, sub, path, scope)
        if "watch" in row.verbs and not row.custom:
            self._watches(row, scope)

    def _watches(self, row: Resource, scope: str) -> None:
        """The deprecated paths below ``/watch/``."""
        base = f"{self.base}/watch"
        where = f"{base}/namespaces/{{namespace}}" if row.namespaced else base
        self._watch(row, f"{where}/{row.name}", f"{scope}{row.kind}List", "watchlist")
        self._watch(row, f"{where}/{row.name}/{{name}}", f"{scope}{row.kind}", "watch")
        if row.namespaced:
            noun = f"{row.kind}ListForAllNamespaces"
            self._watch(row, f"{base}/{row.name}", noun, "watchlist")

    def _watch(self, row: Resource, path: str, noun: str, action: str) -> None:
        what = "changes to an object" if action == "watch" else "individual changes to a list"
        advice = (
            ", filtered to a single item with the 'fieldSelector' parameter"
            if action == "watch"
            else ""
        )
        text = (
            f"watch {what} of {'kind ' if action == 'watch' else ''}{row.kind}. deprecated: use "
            f"the 'watch' parameter with a list operation instead{advice}."
        )
        query = [_query_param(name) for name in _LIST_QUERY]
        operation = self._operation(row, action, f"watch{self.prefix}{noun}", text, query)
        operation["responses"] = self._responses(f"{META}.WatchEvent", ("200",), _LIST_TYPES)
        params = _path_params("{namespace}" in path, action == "watch")
        self._add(path, {"get": operation}, params)

    def _add(self, path: str, operations: dict[str, Any], parameters: list[dict[str, Any]]) -> None:
        if operations:
            pretty = _query_param("pretty")
            self.paths[path] = operations | {"parameters": [*parameters, pretty]}

    def _kind(self, row: Resource, sub: Subresource | None = None) -> dict[str, str]:
        group, version, kind = row.group, row.version, row.kind
        if sub is not None:
            kind = sub.kind
            if sub.kind_group is not None:
                group, version = sub.kind_group, sub.kind_version or ""
        return {"group": group, "kind": kind, "version": version}

    def _responses(
        self, name: str, codes: tuple[str, ...], types: tuple[str, ...] = _RESPONSE_TYPES
    ) -> dict[str, Any]:
        texts = {"200": "OK", "201": "Created", "202": "Accepted"}
        content: dict[str, Any] = {}
        if name:
            self.used.add(name)
            content = {"content": {each: {"schema": self.ref(name)} for each in types}}
        responses = {code: {"description": texts[code]} | content for code in codes}
        return responses | {"401": {"description": "Unauthorized"}}

    def _operation(
        self,
        row: Resource,
        action: str,
        operation_id: str,
        description: str,
        query: list[dict[str, Any]],
    ) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "tags": [self.tag],
            "description": description,
            "operationId": operation_id,
        }
        if query:
            operation["parameters"] = query
        return operation | {"x-kubernetes-action": action, GVK_EXTENSION: self._kind(row)}

    def _list(self, row: Resource, scope: str, noun: str = "") -> dict[str, Any]:
        operation = self._operation(
            row,
            "list",
            f"list{self.prefix}{noun or scope + row.kind}",
            f"list or watch objects of kind {row.kind}",
            [_query_param(name) for name in _LIST_QUERY],
        )
        name = f"{row.definition}List"
        if not row.custom:
            self.used.add(f"{META}.WatchEvent")
        return operation | {"responses": self._responses(name, ("200",), _LIST_TYPES)}

    def _delete_collection(self, row: Resource, scope: str) -> dict[str, Any]:
        operation = self._operation(
            row,
            "deletecollection",
            f"delete{self.prefix}Collection{scope}{row.kind}",
            f"delete collection of {row.kind}",
            [_query_param(name) for name in (_LIST_QUERY if row.custom else _DELETE_LIST_QUERY)],
        )
        if not row.custom:
            body = self._body(f"{META}.DeleteOptions", ("*/*",), required=False)
            operation["requestBody"] = body
        return operation | {"responses": self._responses(f"{META}.Status", ("200",))}

    def _body(self, name: str, types: Iterable[str], *, required: bool) -> dict[str, Any]:
        self.used.add(name)
        body: dict[str, Any] = {"content": {each: {"schema": self.ref(name)} for each in types}}
        return body | {"required": True} if required else body

    def _write_operation(
        self, row: Resource, method: str, noun: str, sub: Subresource | None = None
    ) -> dict[str, Any]:
        """get, post, put, patch or delete of the resource or one of its sub-resources."""
        query = {
            "post": _WRITE_QUERY,
            "put": _WRITE_QUERY,
            "patch": _PATCH_QUERY,
            "delete": _DELETE_QUERY,
        }.get(method, _GET_CUSTOM_QUERY if row.custom else [])
        target = f"{sub.name} of the specified {row.kind}" if sub else f"the specified {row.kind}"
        text = {
            "get": f"read {target}",
            "post": f"create {sub.name} of a {row.kind}" if sub else f"create a {row.kind}",
            "put": f"replace {target}",
            "patch": f"partially update {target}",
            "delete": f"delete a {row.kind}",
        }[method]
        operation = self._operation(
            row,
            method,
            f"{_ACTIONS[method].lower()}{self.prefix}{noun}",
            text,
            [_query_param(name) for name in query],
        )
        operation[GVK_EXTENSION] = self._kind(row, sub)
        name = _definition_of(row, sub)
        codes: tuple[str, ...] = {
            "get": ("200",),
            "post": ("200", "201", "202"),
            "put": ("200", "201"),
            "patch": ("200", "201"),
            "delete": ("200", "202"),
        }[method]
        if method == "patch":
            types = _CUSTOM_PATCH_TYPES if row.custom else PATCH_TYPES
            operation["requestBody"] = self._body(f"{META}.Patch", types, required=True)
        elif method in ("post", "put"):
            operation["requestBody"] = self._body(name, ("*/*",), required=True)
        elif method == "delete":
            operation["requestBody"] = self._body(f"{META}.DeleteOptions", ("*/*",), required=False)
            name = f"{META}.Status" if row.kind not in _DELETE_RETURNS_OBJECT else name
        return operation | {"responses": self._responses(name, codes)}

    def _subresource(self, row: Resource, sub: Subresource, path: str, scope: str) -> None:
        suffix = camel(sub.name, keep_case=True)
        params = _path_params(row.namespaced, True)
        if sub.name in _CONNECT or sub.name == "log":
            self._connect(row, sub, path, f"{scope}{row.kind}{suffix}", params)
            return
        operations = {
            _METHODS[verb]: self._write_operation(
                row, _METHODS[verb], f"{scope}{row.kind}{suffix}", sub
            )
            for verb in sub.verbs
            if verb in _METHODS
        }
        self._add(f"{path}/{sub.name}", operations, params)

    def _connect(
        self, row: Resource, sub: Subresource, path: str, noun: str, params: list[dict[str, Any]]
    ) -> None:
        query = [_connect_param(name) for name in _CONNECT_QUERY[sub.name]]
        operations: dict[str, Any] = {}
        for verb in sub.verbs:
            methods = _CONNECT_METHODS[verb]
            for method in methods if sub.name == "proxy" else methods[:1]:
                action = "get" if sub.name == "log" else "connect"
                name = (
                    f"read{self.prefix}{noun}"
                    if sub.name == "log"
                    else f"connect{self.prefix}{method.capitalize()}{noun}"
                )
                text = f"{action} {method.upper()} requests to {sub.name} of {row.kind}"
                operation = self._operation(row, action, name, text, query)
                operation[GVK_EXTENSION] = self._kind(row, sub)
                content = {"*/*": {"schema": {"type": "string"}}}
                operation["responses"] = {
                    "200": {"description": "OK", "content": content},
                    "401": {"description": "Unauthorized"},
                }
                operations[method] = operation
        self.paths[f"{path}/{sub.name}"] = operations | {"parameters": params}
        if sub.name == "proxy":
            rest = [*params, _path_param("path", "path to the resource")]
            self.paths[f"{path}/proxy/{{path}}"] = {
                method: operation | {"operationId": f"{operation['operationId']}WithPath"}
                for method, operation in operations.items()
            } | {"parameters": rest}


_DELETE_RETURNS_OBJECT = frozenset(
    {
        "Pod",
        "PodTemplate",
        "ServiceAccount",
        "Service",
        "ResourceQuota",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "StorageClass",
        "VolumeAttachment",
        "CSIDriver",
        "CSINode",
        "DeviceClass",
        "ResourceClaim",
        "ResourceClaimTemplate",
        "ResourceSlice",
        "VolumeAttributesClass",
    }
)
_SUBRESOURCE_DEFINITIONS = {
    "Binding": "io.k8s.api.core.v1.Binding",
    "Eviction": "io.k8s.api.policy.v1.Eviction",
    "Scale": "io.k8s.api.autoscaling.v1.Scale",
    "TokenRequest": "io.k8s.api.authentication.v1.TokenRequest",
}


def _definition_of(row: Resource, sub: Subresource | None) -> str:
    if sub is None or sub.kind == row.kind:
        return row.definition
    return _SUBRESOURCE_DEFINITIONS.get(sub.kind, row.definition)


def camel(text: str, *, lower: bool = False, keep_case: bool = False) -> str:
    """``rbac.authorization.k8s.io`` to ``RbacAuthorization``, as operation ids have it."""
    words = text.removesuffix(".k8s.io").replace("-", ".").split(".")
    joined = "".join(word[:1].upper() + word[1:] for word in words if word)
    if lower and joined:
        return joined[0].lower() + joined[1:]
    return joined


def _path_param(name: str, text: str) -> dict[str, Any]:
    schema = {"type": "string", "uniqueItems": True}
    return {"name": name, "in": "path", "description": text, "required": True, "schema": schema}


def _path_params(namespaced: bool, named: bool) -> list[dict[str, Any]]:
    params = [_path_param("name", "name of the object")] if named else []
    if namespaced:
        params.append(
            _path_param("namespace", "object name and auth scope, such as for teams and projects")
        )
    return params


def _query_param(name: str) -> dict[str, Any]:
    kind = "integer" if name in _INTEGERS else "boolean" if name in _BOOLEANS else "string"
    param = {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
    return param | {"description": QUERY_TEXTS[name]} if name in QUERY_TEXTS else param


def _connect_param(name: str) -> dict[str, Any]:
    kind = "integer" if name in _CONNECT_INTEGERS else "string"
    kind = "boolean" if name in _CONNECT_BOOLEANS else kind
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
