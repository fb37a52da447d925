"""Revisions and templates of a Deployment's ReplicaSets (deployment/util). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.hashing import hash_object
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
)
from pilothouse.controllermanager.controller_ref import controller_reference

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TEMPLATE_HASH = "pod-template-hash"
HISTORY_LIMIT_IN_CHARS = 2000
NAME_LIMIT = 253
_NOT_COPIED = frozenset(
    (LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO)
)
_MAPS = frozenset(("labels", "annotations", "nodeSelector", "limits", "requests", "matchLabels"))


def annotations_of(obj: Obj) -> dict[str, str]:
    return meta(obj).get("annotations") or {}


def creation_order(replica_set: Obj) -> tuple[str, str]:
    return meta(replica_set).get("creationTimestamp") or "", name_of(replica_set)


def revision_of(obj: Obj) -> int | None:
    """0 when it has none, None when it is no number."""
    text = annotations_of(obj).get(REVISION)
    if text is None:
        return 0
    try:
        return int(text)
    except ValueError:
        return None


def max_revision(replica_sets: Iterable[Obj]) -> int:
    return max((revision_of(rs) or 0 for rs in replica_sets), default=0)


def last_revision(replica_sets: Iterable[Obj]) -> int:
    """The second highest revision; 0 when there is none."""
    revisions = sorted((revision_of(rs) or 0 for rs in replica_sets), reverse=True)
    return revisions[1] if len(revisions) > 1 else 0


def same_template(one: Obj, other: Obj) -> bool:
    """Whether two pod templates differ in nothing but the hash label."""
    return one == other or _normal_template(one) == _normal_template(other)


def _normal_template(template: Obj) -> Any:
    metadata = {k: v for k, v in (template.get("metadata") or {}).items()}
    labels = metadata.get("labels") or {}
    metadata["labels"] = {k: v for k, v in labels.items() if k != TEMPLATE_HASH}
    return _normal({**template, "metadata": metadata})


def _normal(value: Any) -> Any:
    """Without nulls, empty lists and empty maps, which mean the same as nothing (an empty
    struct such as ``emptyDir: {}`` does not)."""
    if isinstance(value, dict):
        return {
            k: _normal(v)
            for k, v in value.items()
            if v is not None and v != [] and not (v == {} and (k in _MAPS or k == "metadata"))
        }
    if isinstance(value, list):
        return [_normal(v) for v in value]
    return value


def find_new(deployment: Obj, replica_sets: Sequence[Obj]) -> Obj | None:
    """The oldest ReplicaSet that has the deployment's template."""
    template = deployment["spec"].get("template") or {}
    for replica_set in sorted(replica_sets, key=creation_order):
        if same_template(replica_set["spec"].get("template") or {}, template):
            return replica_set
    return None


def make_replica_set(deployment: Obj) -> Obj:
    """The ReplicaSet for the deployment's template, without replicas and annotations."""
    spec = deployment["spec"]
    template = copy_object(spec.get("template") or {})
    hashed = hash_object(template, get_nested(deployment, "status", "collisionCount"))
    labels = dict(get_nested(template, "metadata", "labels", default={}))
    labels[TEMPLATE_HASH] = hashed
    template.setdefault("metadata", {})["labels"] = labels
    selector = copy_object(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), TEMPLATE_HASH: hashed}
    new_spec: Obj = {"replicas": 0, "selector": selector, "template": template}
    if spec.get("minReadySeconds"):
        new_spec["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": replica_set_name(name_of(deployment), hashed),
            "namespace": namespace_of(deployment),
            "labels": dict(labels),
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": new_spec,
    }


def replica_set_name(deployment_name: str, hashed: str) -> str:
    return f"{deployment_name[: NAME_LIMIT - 1 - len(hashed)]}-{hashed}"


def new_annotations(deployment: Obj, replica_set: Obj, revision: int) -> dict[str, str]:
    """What the new ReplicaSet's annotations should be: the deployment's, its revision, and the
    revisions that it had before."""
    annotations = dict(annotations_of(replica_set))
    copied = {k: v for k, v in annotations_of(deployment).items() if k not in _NOT_COPIED}
    annotations |= copied
    old = annotations.get(REVISION)
    try:
        old_revision = int(old) if old else 0
    except ValueError:
        return annotations
    if old_revision < revision:
        annotations[REVISION] = str(revision)
        if old is not None:
            _append_history(annotations, old)
    return annotations


def _append_history(annotations: dict[str, str], old: str) -> None:
    history = annotations.get(REVISION_HISTORY, "")
    if not history:
        annotations[REVISION_HISTORY] = old
        return
    entries = [*history.split(","), old]
    while len(entries) > 1 and len(",".join(entries)) > HISTORY_LIMIT_IN_CHARS:
        entries.pop(0)
    if len(entries) > 1 or len(old) <= HISTORY_LIMIT_IN_CHARS:
        annotations[REVISION_HISTORY] = ",".join(entries)


def rolled_back(deployment: Obj, replica_set: Obj) -> Obj:
    """The deployment with that ReplicaSet's template and annotations."""
    new: Obj = copy_object(deployment)
    template = copy_object(replica_set["spec"]["template"])
    get_nested(template, "metadata", "labels", default={}).pop(TEMPLATE_HASH, None)
    new["spec"]["template"] = template
    kept = {k: v for k, v in annotations_of(deployment).items() if k in _NOT_COPIED}
    taken = {k: v for k, v in annotations_of(replica_set).items() if k not in _NOT_COPIED}
    new["metadata"]["annotations"] = kept | taken
    return new
