"""More that is asked of every kind: updates that break all rules at once, bodies that say something
twice, preconditions, generated names, owners and the rarer ways of writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hack.differential.cases import PATCHES, Base, Case, Kind, change, filled_object

_FRESH = {"metadata/resourceVersion": None}
_OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "u-1"}


def deeper(kind: Kind) -> Iterator[Case]:
    """Between reading and deleting: the rich and the minimal object are there."""
    yield from _bodies(kind)
    yield from _metadata(kind)
    yield from _updates(kind)
    yield from _patches(kind)
    yield from _reads(kind)


def _twice(obj: dict[str, Any], name: str) -> str:
    """JSON in which a label and the whole metadata's name come twice."""
    text = json.dumps(change(obj, {"metadata/name": name, "metadata/labels": {"a": "1"}}))
    text = text.replace('"labels": {"a": "1"}', '"labels": {"a": "1", "a": "2"}')
    return text.replace('"metadata": {', f'"metadata": {{"name": "{name}", ', 1)


def _bodies(kind: Kind) -> Iterator[Case]:
    create = f"{kind.path}?dryRun=All"
    name = kind.names.get("bad", "twice")
    twice = _twice(kind.minimal, name)
    for form in ("Strict", "Warn", "Ignore"):
        yield Case(f"twice-{form}", "POST", f"{create}&fieldValidation={form}", twice)
    yaml = {"Content-Type": "application/yaml"}
    text = f"{json.dumps(change(kind.minimal, {'metadata/name': name}))[:-1]}, kind: Again}}"
    yield Case("twice-yaml", "POST", f"{create}&fieldValidation=Strict", text, yaml)
    unknown = json.dumps(change(kind.minimal, {"metadata/name": name, "unknown": 1}))
    yield Case("unknown-yaml", "POST", f"{create}&fieldValidation=Strict", unknown, yaml)
    yield Case("validation-bad", "POST", f"{create}&fieldValidation=Foo", kind.minimal)
    yield Case("manager-bad", "POST", f"{create}&fieldManager=a%01b", kind.minimal)
    yield Case("dry-run-bad", "POST", f"{kind.path}?dryRun=Some", kind.minimal)


def _metadata(kind: Kind) -> Iterator[Case]:
    create = f"{kind.path}?dryRun=All"
    bad: dict[str, dict[str, Any]] = {
        "namespace": {"metadata/namespace": "other"},
        "generate": {"metadata/name": None, "metadata/generateName": "generated-"},
        "version": {"metadata/resourceVersion": "5"},
        "uid": {"metadata/uid": "x", "metadata/creationTimestamp": "2001-01-01T00:00:00Z"},
        "owner": {"metadata/ownerReferences": [_OWNER]},
        "owners-bad": {
            "metadata/ownerReferences": [
                {**_OWNER, "controller": True},
                {**_OWNER, "controller": True, "uid": "", "name": "", "kind": ""},
                {**_OWNER, "apiVersion": "a/b/c"},
            ]
        },
        "managers-bad": {"metadata/managedFields": [{"operation": "Foo", "fieldsType": "x"}]},
        "deleted": {"metadata/deletionTimestamp": "2001-01-01T00:00:00Z"},
        "annotations-bad": {"metadata/annotations": {"a b": "c", "x/y/z": "d"}},
        "labels-bad": {"metadata/labels": {"a b": "c", "ok": "no!", "": "x"}},
        "generation": {"metadata/generation": 7, "metadata/selfLink": "/x"},
    }
    for name, changes in bad.items():
        named = {"metadata/name": kind.names.get("bad", f"meta-{name}")}
        yield Case(f"meta-{name}", "POST", create, change(kind.minimal, named | changes))


def _updates(kind: Kind) -> Iterator[Case]:
    at = f"{kind.at('rich')}?dryRun=All"
    filled = filled_object(kind)
    parts = {key: filled[key] for key in filled if key not in ("metadata", "kind", "apiVersion")}
    yield Case("put-filled", "PUT", at, Base("create-rich", {**parts, **_FRESH}))
    bare = {key: None for key in parts}
    yield Case("put-bare", "PUT", at, Base("create-rich", {**bare, **_FRESH}))
    yield Case("put-minimal", "PUT", at, Base("create-rich", {**_other_parts(kind), **_FRESH}))
    absent = f"{kind.path}/{kind.names.get('bad', 'absent')}?dryRun=All"
    name = {"metadata/name": kind.names.get("bad", "absent")}
    yield Case("put-absent", "PUT", absent, change(kind.minimal, name))
    yield Case("put-absent-version", "PUT", absent, change(kind.minimal, name | {
        "metadata/resourceVersion": "7"}))  # fmt: skip
    yield Case("put-no-name", "PUT", at, Base("create-rich", {"metadata/name": None, **_FRESH}))
    yield Case("put-kind", "PUT", at, Base("create-rich", {"kind": "Other", **_FRESH}))
    yield Case("put-version", "PUT", at, Base("create-rich", {"apiVersion": "v7", **_FRESH}))
    yield Case("put-text", "PUT", at, Base("create-rich", {"metadata/resourceVersion": "foo"}))
    created = {"metadata/creationTimestamp": "2001-01-01T00:00:00Z", **_FRESH}
    yield Case("put-created", "PUT", at, Base("create-rich", created))
    for sub in ("status",) if kind.data.get("subresources", {}).get("status") else ():
        path = f"{kind.at('rich')}/{sub}?dryRun=All"
        status = {"status": filled.get("status"), **_FRESH}
        yield Case("status-filled", "PUT", path, Base("create-rich", status))
        yield Case("status-bare", "PUT", path, Base("create-rich", {"status": None, **_FRESH}))
        merge = {"status": filled.get("status"), "metadata": {"labels": {"by": "status"}}}
        form = {"Content-Type": PATCHES["merge"]}
        yield Case("status-merge", "PATCH", path, merge, form)
        wrong = {"status": [1]}
        yield Case("status-wrong", "PATCH", path, wrong, form)


def _other_parts(kind: Kind) -> dict[str, Any]:
    """What the minimal object has, in place of what the rich one has."""
    keys = (kind.rich.keys() | kind.minimal.keys()) - {"metadata", "kind", "apiVersion"}
    return {key: kind.minimal.get(key) for key in sorted(keys)}


def _patches(kind: Kind) -> Iterator[Case]:
    at = f"{kind.at('rich')}?dryRun=All"

    def patch(name: str, form: str, body: Any, query: str = "") -> Case:
        return Case(name, "PATCH", f"{at}{query}", body, {"Content-Type": PATCHES[form]})

    filled = filled_object(kind)
    parts = {key: filled[key] for key in filled if key not in ("metadata", "kind", "apiVersion")}
    yield patch("patch-strategic-filled", "strategic", parts)
    applied = {**kind.type, "metadata": {"name": kind.rich["metadata"]["name"]}, **parts}
    yield patch("patch-apply-filled", "apply", applied, "&fieldManager=x&force=true")
    rich = change(kind.rich, {"metadata/labels": {"differential": "other"}})
    yield patch("patch-apply-rich", "apply", rich, "&fieldManager=x")
    yield patch("patch-json-gone", "json", [{"op": "remove", "path": "/metadata/absent"}])
    replace = [{"op": "replace", "path": "/metadata/labels/absent", "value": "x"}]
    yield patch("patch-json-absent", "json", replace)
    yield patch("patch-json-copy", "json", [
        {"op": "copy", "from": "/metadata/name", "path": "/metadata/labels/copied"},
        {"op": "test", "path": "/metadata/labels/copied", "value": kind.rich["metadata"]["name"]},
    ])  # fmt: skip
    yield patch("patch-merge-name", "merge", {"metadata": {"name": "renamed"}})
    yield patch("patch-merge-version", "merge", {"metadata": {"resourceVersion": "1"}})
    yield patch("patch-merge-uid", "merge", {"metadata": {"uid": "x"}})
    unknown = {"unknown": 1, "metadata": {"unknown": 1}}
    yield patch("patch-merge-strict", "merge", unknown, "&fieldValidation=Strict")
    yield patch("patch-merge-warn", "merge", unknown, "&fieldValidation=Warn")
    yield patch("patch-strategic-strict", "strategic", unknown, "&fieldValidation=Strict")


def _reads(kind: Kind) -> Iterator[Case]:
    name = kind.rich["metadata"]["name"].replace(":", "%3A")
    yield Case("fields-name", "GET", f"{kind.path}?fieldSelector=metadata.name%3D{name}")
    yield Case("fields-two", "GET", f"{kind.path}?fieldSelector=metadata.name%3D{name},a!%3Db")
    yield Case("get-absent", "GET", f"{kind.path}/absent-object")
    version = {"kind": "DeleteOptions", "apiVersion": "v1"}
    stale = {**version, "preconditions": {"resourceVersion": "1"}}
    yield Case("delete-version", "DELETE", kind.at("rich"), stale)
    negative = {**version, "gracePeriodSeconds": -5, "dryRun": ["All"]}
    yield Case("delete-negative", "DELETE", kind.at("rich"), negative)
    both = {**version, "orphanDependents": True, "propagationPolicy": "Orphan"}
    yield Case("delete-both", "DELETE", kind.at("rich"), both)
    orphan = {**version, "propagationPolicy": "Orphan", "dryRun": ["All"]}
    yield Case("delete-orphan-dry", "DELETE", kind.at("rich"), orphan)
    yield Case("delete-query-dry", "DELETE", f"{kind.at('minimal')}?dryRun=All")
    bad = f"{kind.path}?labelSelector=a,,b&dryRun=All"
    yield Case("collection-bad", "DELETE", bad)
    field = f"{kind.path}?fieldSelector=metadata.name%3D{name}&dryRun=All"
    yield Case("collection-fields", "DELETE", field)
    yield Case("watch-bad", "GET", f"{kind.path}?watch=1&resourceVersion=foo")
