"""What two runs of a scenario have in common.

Names that a run makes up are replaced by what they stand for: a ReplicaSet's hash by a digest of
its template, a generated name by its prefix, a uid by the object that has it. Addresses of the
script's kubelet, times and revisions are gone; of managedFields the managers are left.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

Obj = dict[str, Any]
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
_TEXTS = [
    (r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "TIME"),
    (r"20[2-9]\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC( m=[+-][\d.]+)?", "TIME"),
    (r"\b10\.96\.\d+\.\d+\b", "CLUSTERIP"),
    (r"\b10\.77\.\d+\.\d+\b", "PODIP"),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
    (rf"\bkube-api-access-{_RANDOM}{{5}}\b", "kube-api-access-RANDOM"),
    (r"https?://127\.0\.0\.1:\d+|\b127\.0\.0\.1:\d+", "SERVER"),
    (r"-29\d{6}\b", "-MINUTE"),
    (r"resource version: \d+", "resource version: RV"),
    # Two autoscalers of the same pods, in the order of a Go map.
    (r"\(e\.g\. \[[^\]]*\]\)", "(e.g. BOTH)"),
    (r"-----BEGIN CERTIFICATE-----(.|\n)*-----END CERTIFICATE-----\n?", "CERTIFICATE"),
]
_BYTES = re.compile(r"[A-Za-z0-9+/]{100,}={0,2}")
"""Keys, certificates and tokens in base64."""
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HASH_LABELS = ("pod-template-hash", "controller-revision-hash", "controller.kubernetes.io/hash")
_REPEATED = (
    *("ExternalProvisioning", "WaitForPodScheduled", "WaitForFirstConsumer", "NoPods"),
    *("ProvisioningFailed", "FailedBinding", "FailedComputeMetricsReplicas"),
)
_GONE = ("resourceVersion", "creationTimestamp", "selfLink", "deletionTimestamp")
_SHARED_NODE = re.compile(r"\bnode-\d\b")


class Names:
    """What the made-up names of one scenario stand for; learns from every object that is seen."""

    def __init__(self, *, shared_nodes: bool) -> None:
        self._shared_nodes = shared_nodes
        self._uids: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._prefixes: set[str] = set()

    def learn(self, obj: Obj) -> None:
        metadata, kind = obj["metadata"], obj.get("kind", "")
        self._uids[metadata["uid"]] = f"{kind}:{metadata['name']}"
        if "generateName" in metadata:
            self._prefixes.add(metadata["generateName"])
        if "template" in (obj.get("spec") or {}):  # its pods may never come
            self._prefixes.add(f"{metadata['name']}-")
        labels = metadata.get("labels") or {}
        if kind == "ReplicaSet" and "pod-template-hash" in labels:
            template = obj["spec"]["template"]
            self._hashes[labels["pod-template-hash"]] = _digest(_without_hash(template))
        if kind == "ControllerRevision":
            found = metadata["name"].rpartition("-")[2]
            self._hashes[found] = _digest(obj.get("data"))

    def text(self, value: str) -> str:
        value = _UID.sub(lambda found: self._uids.get(found[0], "UID"), value)
        for prefix in sorted(self._prefixes, key=len, reverse=True):
            pattern = rf"(?<![\w-]){re.escape(prefix)}{_RANDOM}{{5}}\b"
            value = re.sub(pattern, f"{prefix}*", value)
        for found, digest in self._hashes.items():
            value = re.sub(rf"(?<![a-z0-9]){found}(?![a-z0-9])", digest, value)
        value = _BYTES.sub("BYTES", value)
        for pattern, replacement in _TEXTS:
            value = re.sub(pattern, replacement, value)
        return _SHARED_NODE.sub("NODE", value) if self._shared_nodes else value

    def normal(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self.text(key): self.normal(item)
                for key, item in value.items()
                if item is not None and key != "resourceVersion"
            }
        if isinstance(value, list):
            return [self.normal(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def object(self, obj: Obj) -> Obj:
        """An object as it is compared."""
        metadata = {key: value for key, value in obj["metadata"].items() if key not in _GONE}
        if obj["metadata"].get("deletionTimestamp"):
            metadata["deleting"] = True
        metadata["managedFields"] = sorted(
            " ".join(entry[key] for key in ("manager", "operation", "subresource") if key in entry)
            for entry in metadata.get("managedFields") or ()
        )
        made = self.normal({**obj, "metadata": metadata})
        made["metadata"].pop("uid", None)
        conditions = (made.get("status") or {}).get("conditions")
        if isinstance(conditions, list):
            conditions.sort(key=lambda condition: str(condition.get("type")))
        return _defaults_gone(made)

    def events(self, events: list[Obj]) -> list[Obj]:
        """Events, with those together that are alike, and how often they happened."""
        counts: dict[str, int] = {}
        for event in events:
            if _is_chance(event):
                continue
            made = json.dumps(self.normal(_event(event)), sort_keys=True)
            series = event.get("series") or {}
            counts[made] = counts.get(made, 0) + (series.get("count") or event.get("count") or 1)
        return [_counted(json.loads(made), counts[made]) for made in sorted(counts)]


def alike_together(objects: list[Obj]) -> list[Obj]:
    """Each once, in an order of their own, and how many there are."""
    counts: dict[str, int] = {}
    for obj in objects:
        text = json.dumps(obj, sort_keys=True)
        counts[text] = counts.get(text, 0) + 1
    found = [(json.loads(text), counts[text]) for text in sorted(counts)]
    return [obj | {"alike": count} if count > 1 else obj for obj, count in found]


def _is_chance(event: Obj) -> bool:
    """Of who was first: a conflict, or a controller that does not see yet what it did itself; or of
    when the node controller looks at all nodes (every 5 seconds)."""
    return "the object has been modified" in event.get("message", "") or event["reason"] in (
        "MissingJob",
        "WaitForPodScheduled",
        "RegisteredNode",
        "RemovingNode",
    )


def _counted(event: Obj, count: int) -> Obj:
    """A warning is repeated with what failed, at growing distances: its count is the clock's."""
    told = event["type"] == "Normal" and event["reason"] not in _REPEATED
    return event | {"times": count} if told else event


def _event(event: Obj) -> Obj:
    about = dict(event["involvedObject"])
    for key in ("uid", "resourceVersion"):
        about.pop(key, None)
    if "related" in event:
        about["related"] = {
            key: value for key, value in event["related"].items() if key in ("kind", "name")
        }
    source = event.get("source") or {}
    made = {
        "about": about,
        "type": event["type"],
        "reason": event["reason"],
        "message": event.get("message", ""),
        "reporter": event.get("reportingComponent") or source.get("component", ""),
        "source": source.get("component", ""),
    }
    if event.get("action"):
        made["action"] = event["action"]
    return made


def _without_hash(template: Obj) -> Obj:
    metadata = dict(template.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    labels.pop("pod-template-hash", None)
    metadata["labels"] = labels
    metadata.pop("creationTimestamp", None)
    return {**template, "metadata": metadata}


def _digest(value: Any) -> str:
    text = json.dumps(_bare(value), sort_keys=True)
    return f"#{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _bare(value: Any) -> Any:
    """Without nulls and empty maps, which differ in what is kept of a template."""
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items() if v is not None and v != {}}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _slice(obj: Obj) -> Obj:
    """How often it was written is the clock's; ports come in the order of Go's hashes; null and an
    empty list are the same."""
    obj["metadata"].pop("generation", None)
    for key in ("ports", "endpoints"):
        if not obj.get(key):
            obj.pop(key, None)
    if "ports" in obj:
        obj["ports"].sort(key=lambda port: str(port.get("name")))
    return obj


def _defaults_gone(obj: Obj) -> Obj:
    """Without what the API server alone decides and every pod has; it only fills records."""
    if obj.get("kind") == "CertificateSigningRequest":
        obj["spec"].pop("extra", None)  # the script comes with a certificate, or in process
    if obj.get("kind") == "EndpointSlice":
        return _slice(obj)
    if obj.get("kind") != "Pod":
        return obj
    spec = obj["spec"]
    tolerations = spec.get("tolerations") or []
    spec["tolerations"] = [t for t in tolerations if t.get("tolerationSeconds") != 300]
    volumes = spec.get("volumes") or []
    spec["volumes"] = [v for v in volumes if v["name"] != "kube-api-access-RANDOM"]
    for container in spec["containers"]:
        mounts = container.get("volumeMounts") or []
        container["volumeMounts"] = [m for m in mounts if m["name"] != "kube-api-access-RANDOM"]
    return obj
