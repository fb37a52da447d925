"""The requests: made of ``objects/*.yaml`` (a kind each) and ``requests/*.yaml`` (anything else).

A kind has a minimal and a rich good object, bad objects (changes of the minimal one, by path) and
updates (changes of the stored rich one). From these come the requests that are alike for all
kinds. A path is slash-separated, a number is an index, null removes. ``{{name.a.b}}`` in a request
is what the answer of the request ``name`` of the same group had at ``a.b``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
AGENT = "differential/1"


@dataclass(frozen=True)
class Base:
    """A body that is an earlier answer's object with changes."""

    of: str
    changes: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One request. ``look`` false: it only prepares, its answer is not compared. ``until``: it is
    sent again until that is the status. ``show``: names of headers that are compared, too, and
    ``layout`` for how JSON is indented."""

    name: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    look: bool = True
    until: int = 0
    show: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Requests in order, with answers of each other in them."""

    name: str
    cases: list[Case]


def change(obj: Any, changes: dict[str, Any]) -> Any:
    """A copy with ``changes``: slash-separated path -> value, None removes."""
    obj = copy.deepcopy(obj)
    for path, value in changes.items():
        *parents, last = [part.replace("~1", "/") for part in path.split("/")]
        at = obj
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        if isinstance(at, list):
            _change_item(at, last, value)
        elif value is None:
            at.pop(last, None)
        else:
            at[last] = copy.deepcopy(value)
    return obj


def _change_item(items: list[Any], last: str, value: Any) -> None:
    if last == "-":
        items.append(copy.deepcopy(value))
    elif value is None:
        del items[int(last)]
    else:
        items[int(last)] = copy.deepcopy(value)


def resolve(value: Any, answers: dict[str, Any]) -> Any:
    """``value`` with the references to earlier answers replaced."""
    if isinstance(value, Base):
        base = answers.get(value.of) or {}
        if base.get("kind") == "Status":  # there is no such object: neither server made it
            return base
        return change(base, resolve(value.changes, answers))
    if isinstance(value, dict):
        return {key: resolve(item, answers) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, answers) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value

    def replaced(match: re.Match[str]) -> str:
        name, *path = match.group(1).split(".")
        found: Any = answers.get(name)
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return str(found)

    return re.sub(r"\{\{([^}]+)\}\}", replaced, value)


def _load(path: Path) -> Any:
    import yaml

    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def groups(only: str = "") -> list[Group]:
    """All groups whose name begins with one of the comma-separated words of ``only``."""
    wanted = tuple(word for word in only.split(",") if word)
    found: list[Group] = []
    for path in sorted((HERE / "requests").glob("*.yaml")):
        found.append(_requests(path.stem, _load(path)))
    for path in sorted((HERE / "objects").glob("*.yaml")):
        for kind in _load(path):
            found.append(kind_group(kind))
    return [group for group in found if not wanted or group.name.startswith(wanted)]


def namespace(name: str) -> list[Case]:
    """A namespace of the group's own, with a service account that lets pods in."""
    account = {"metadata": {"name": "default"}}
    return [
        Case(
            "namespace",
            "POST",
            "/api/v1/namespaces",
            {"metadata": {"name": name, "labels": {"differential": "yes"}}},
            look=False,
        ),
        Case("account", "POST", f"/api/v1/namespaces/{name}/serviceaccounts", account, look=False),
    ]


def _requests(name: str, rows: list[dict[str, Any]]) -> Group:
    """A file of requests in order: ``METHOD name: path`` with body, changes of, headers."""
    own = f"diff-{name}"
    cases = namespace(own)
    for row in rows:
        headers = dict(row.get("headers", {}))
        if row.get("patch"):
            headers["Content-Type"] = PATCHES[row["patch"]]
        body = row.get("body")
        if "of" in row:
            body = Base(row["of"], row.get("changes", {}))
        verb, path = row["do"].split(" ", 1)
        path = path.replace("{ns}", f"namespaces/{own}")
        look = row.get("look", True)
        until, show = row.get("until", 0), tuple(row.get("show", ()))
        cases.append(Case(row["name"], verb, path, body, headers, look, until, show))
    return Group(name, cases)


# --- what is asked of every kind ------------------------------------------------------------


class Kind:
    """A kind of ``objects/*.yaml`` with its objects and paths."""

    def __init__(self, data: dict[str, Any]) -> None:
        gv, _, self.resource = data["resource"].rpartition("/")
        self.group_version = gv
        prefix = f"/apis/{gv}" if "/" in gv else f"/api/{gv}"
        self.name = f"{gv.replace('/', '.')}.{self.resource}"
        self.namespaced = data.get("namespaced", True)
        group = re.sub(r"[^a-z0-9]+", "-", gv.replace(".k8s.io", ""))
        self.own = f"diff-{group}-{self.resource}"[:63]
        self.path = f"{prefix}/namespaces/{self.own}/{self.resource}"
        if not self.namespaced:
            self.path = f"{prefix}/{self.resource}"
        self.type = {"apiVersion": gv, "kind": data["kind"]}
        self.label = {"differential": self.own}
        self.data = data
        self.names = data.get("names", {})
        self.minimal = self.made("minimal", data["minimal"])
        self.rich = self.made("rich", data.get("rich", data["minimal"]))

    def made(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        obj = {**self.type, **copy.deepcopy(content)}
        text = json.dumps(obj).replace("{ns}", self.own)
        obj = json.loads(text)
        if not self.data.get("labels", True):
            return obj  # type: ignore[no-any-return]
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("name", self.names.get(name, f"{name}-differential"))
        metadata.setdefault("labels", {}).update(self.label)
        return obj  # type: ignore[no-any-return]

    def selector(self) -> str:
        return f"?labelSelector=differential%3D{self.own}"

    def at(self, name: str) -> str:
        stored = self.rich if name == "rich" else self.minimal
        found = stored["metadata"]["name"].replace(":", "%3A")
        return f"{self.path}/{found}"


def kind_group(data: dict[str, Any]) -> Group:
    kind = Kind(data)
    cases = namespace(kind.own) if kind.namespaced else []
    cases += _creation(kind)
    cases += _bad(kind)
    if data.get("brief"):  # the server itself writes to these objects
        cases += _updating(kind)
    elif not data.get("create_only"):
        from hack.differential.deeper import deeper

        cases += _reading(kind)
        cases += _patching(kind)
        cases += _updating(kind)
        cases += deeper(kind)
        cases += _deleting(kind)
    return Group(kind.name, cases)


def _creation(kind: Kind) -> Iterator[Case]:
    yield Case("create-minimal", "POST", kind.path, kind.minimal)
    yield Case("create-rich", "POST", kind.path, kind.rich)
    if kind.data.get("create_only"):
        return
    yield Case("create-again", "POST", kind.path, kind.minimal)
    dry = change(kind.minimal, {"metadata/name": kind.names.get("dry", "dry")})
    yield Case("create-dry-run", "POST", f"{kind.path}?dryRun=All&fieldManager=x", dry)
    yield Case("get-dry-run", "GET", f"{kind.path}/{dry['metadata']['name']}")


def _bad(kind: Kind) -> Iterator[Case]:
    named = {"metadata/name": kind.names.get("bad", "bad")}
    if not kind.data.get("labels", True):
        yield from _bad_review(kind)
        return
    unknown = change(kind.minimal, named | {"unknown": 1, "metadata/unknown": {"a": 1}})
    create = f"{kind.path}?dryRun=All"
    yield Case("strict-unknown", "POST", f"{create}&fieldValidation=Strict", unknown)
    yield Case("warn-unknown", "POST", f"{create}&fieldValidation=Warn", unknown)
    yield Case("wrong-metadata", "POST", create, change(kind.minimal, {"metadata/labels": ["a"]}))
    yield Case("empty", "POST", create, {**kind.type, "metadata": {"name": "empty"}})
    yield Case("no-name", "POST", create, change(kind.minimal, {"metadata/name": None}))
    badly_named = change(kind.minimal, {"metadata/name": "Bad_Name/x"})
    yield Case("invalid-name", "POST", create, badly_named)
    yield Case("other-kind", "POST", create, change(kind.minimal, {"kind": "Other"}))
    yield Case("filled", "POST", create, filled_object(kind))
    for name, changes in kind.data.get("bad", {}).items():
        base = change(kind.minimal, named | {"metadata/name": kind.names.get("bad", f"bad-{name}")})
        changes = json.loads(json.dumps(changes).replace("{ns}", kind.own))
        yield Case(f"bad-{name}", "POST", create, change(base, changes))
    for name, changes in kind.data.get("bad_rich", {}).items():
        base = change(kind.rich, named | {"metadata/name": kind.names.get("bad", f"bad-{name}")})
        yield Case(f"bad-rich-{name}", "POST", create, change(base, changes))


def _bad_review(kind: Kind) -> Iterator[Case]:
    """Reviews take no metadata at all."""
    yield Case("named", "POST", kind.path, change(kind.minimal, {"metadata/name": "x"}))
    unknown = change(kind.minimal, {"unknown": 1, "spec/unknown": 1})
    yield Case("strict-unknown", "POST", f"{kind.path}?fieldValidation=Strict", unknown)
    yield Case("warn-unknown", "POST", f"{kind.path}?fieldValidation=Warn", unknown)
    for name, changes in kind.data.get("bad", {}).items():
        yield Case(f"bad-{name}", "POST", kind.path, change(kind.minimal, changes))


def filled_object(kind: Kind) -> dict[str, Any]:
    """Every field set to something that is of its type and hardly ever right."""
    from hack.differential.filling import filled

    group, _, version = kind.group_version.rpartition("/")
    obj = filled(group, version, kind.type["kind"])
    obj["metadata"] = {"name": kind.names.get("bad", "filled"), "labels": kind.label}
    obj.update(kind.type)
    return obj


def _reading(kind: Kind) -> Iterator[Case]:
    yield Case("get", "GET", kind.at("rich"))
    yield Case("list", "GET", f"{kind.path}{kind.selector()}&limit=1")
    yield Case("table", "GET", f"{kind.path}{kind.selector()}", headers={"Accept": TABLE})
    yield Case("partial", "GET", kind.at("minimal"), headers={"Accept": PARTIAL})
    yield Case("field-selector", "GET", f"{kind.path}?fieldSelector=spec.unknown%3Da")


def _patching(kind: Kind) -> Iterator[Case]:
    def patch(name: str, form: str, body: Any, query: str = "", at: str = "minimal") -> Case:
        text = body if isinstance(body, (dict, list)) else json.loads(body)
        return Case(
            name, "PATCH", kind.at(at) + query, text, {"Content-Type": PATCHES[form]}
        )  # fmt: skip

    yield patch("merge", "merge", {"metadata": {"labels": {"merged": "yes"}}})
    yield patch("merge-bad", "merge", {"metadata": {"labels": {"merged": "no!"}}})
    test = [{"op": "test", "path": "/metadata/name", "value": "other"}]
    yield patch("json-test", "json", test)
    added = [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]
    yield patch("json-add", "json", added, "?fieldManager=json")
    strategic = {"metadata": {"labels": {"merged": None}, "finalizers": ["example.com/a"]}}
    yield patch("strategic", "strategic", strategic, at="rich")
    remove = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}
    yield patch("strategic-remove", "strategic", remove, at="rich")
    applied = {**kind.type, "metadata": {"name": kind.minimal["metadata"]["name"]}}
    one = change(applied, {"metadata/labels": {"applied": "a"}})
    two = change(applied, {"metadata/labels": {"applied": "b"}})
    yield patch("apply", "apply", one, "?fieldManager=one")
    yield patch("apply-conflict", "apply", two, "?fieldManager=two")
    yield patch("apply-force", "apply", two, "?fieldManager=two&force=true")
    for name, changes in kind.data.get("patch", {}).items():
        form = changes.get("form", "strategic")
        query = changes.get("query", "")
        yield patch(f"patch-{name}", form, changes["body"], query, changes.get("at", "rich"))


def _updating(kind: Kind) -> Iterator[Case]:
    at = kind.at("rich")
    yield Case("put-stale", "PUT", at, Base("create-rich", {"metadata/resourceVersion": "1"}))
    yield Case("put-renamed", "PUT", at, Base("create-rich", {"metadata/name": "renamed"}))
    yield Case("put-uid", "PUT", at, Base("create-rich", {"metadata/uid": "x", **_FRESH}))
    for name, changes in kind.data.get("update", {}).items():
        changes = json.loads(json.dumps(changes).replace("{ns}", kind.own))
        base = Base("create-rich", changes | _FRESH)
        yield Case(f"put-{name}", "PUT", f"{at}?dryRun=All", base)
    for sub, content in kind.data.get("subresources", {}).items():
        yield Case(f"{sub}-get", "GET", f"{at}/{sub}")
        for name, changes in content.items():
            yield Case(f"{sub}-{name}", "PUT", f"{at}/{sub}", Base(f"{sub}-get", changes))


_FRESH = {"metadata/resourceVersion": None}


def _deleting(kind: Kind) -> Iterator[Case]:
    precondition = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "x"}}
    yield Case("delete-uid", "DELETE", kind.at("rich"), precondition)
    bad = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Never"}
    yield Case("delete-bad", "DELETE", kind.at("rich"), bad)
    yield Case("delete", "DELETE", kind.at("rich"))
    yield Case("delete-again", "DELETE", f"{kind.path}/no-such-object")
    yield Case("delete-collection", "DELETE", f"{kind.path}{kind.selector()}")
