"""Static pods: manifests in a folder of the node, run without anybody creating them.

Each file with a Pod becomes a mirror pod in the API (``<name>-<node>``), which this node runs like
any other; when the file changes or goes, so does the pod, and when the pod is deleted, it is made
again. ``wanted`` and ``difference`` are pure (pkg/kubelet/config/file_linux.go, common.go).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apis.core.pod_helpers import MIRROR_ANNOTATION
from pilothouse.kubeclient.interfaces import Client, DeleteOptions
from pilothouse.kubeclient.resources import PODS

log = logging.getLogger(__name__)
SOURCE_ANNOTATION = "kubernetes.io/config.source"
HASH_ANNOTATION = "kubernetes.io/config.hash"
SOURCE = "file"


class StaticPods:
    def __init__(
        self,
        client: Client,
        directory: str,
        node: Callable[[], Obj],
        pods: Callable[[], list[Obj]],
    ) -> None:
        """``node``: the node's object; ``pods``: those of the API that are bound to it."""
        self._client = client
        self._directory = directory
        self._node = node
        self._pods = pods

    async def look(self) -> None:
        """Makes the API's pods what the files say."""
        if not self._directory:
            return
        manifests = await asyncio.to_thread(read_manifests, self._directory)
        node = self._node()
        desired = [wanted(manifest, node) for manifest in manifests]
        create, delete = difference(desired, self._pods())
        for pod in delete:
            await self._delete(pod)
        for pod in create:
            await self._create(pod)

    async def _create(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.create(PODS, pod, metadata["namespace"], field_manager="kubelet")
        except StatusError as error:
            log.warning("static pod %s was not made: %s", metadata["name"], error)

    async def _delete(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.delete(
                PODS, metadata["name"], metadata["namespace"],
                DeleteOptions(precondition_uid=metadata["uid"]),
            )  # fmt: skip
        except StatusError as error:
            if not is_not_found(error):
                log.warning("static pod %s was not deleted: %s", metadata["name"], error)


def read_manifests(directory: str) -> list[Obj]:
    """The Pods in a folder's files; what is no Pod is left out with a warning."""
    import yaml

    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        if name.startswith(".") or not os.path.isfile(path):
            continue
        try:
            with open(path, encoding="utf-8") as file:
                manifest: Any = yaml.safe_load(file)
        except (OSError, ValueError, yaml.YAMLError) as error:
            log.warning("could not process manifest file %s: %s", path, error)
            continue
        if not _is_pod(manifest):
            log.warning("could not process manifest file %s: it is no Pod", path)
            continue
        found.append(manifest)
    return found


def _is_pod(manifest: Any) -> bool:
    return (
        isinstance(manifest, dict)
        and (manifest.get("apiVersion"), manifest.get("kind")) == ("v1", "Pod")
        and isinstance(manifest.get("metadata"), dict)
        and isinstance(manifest["metadata"].get("name"), str)
        and isinstance(manifest.get("spec"), dict)
    )


def wanted(manifest: Obj, node: Obj) -> Obj:
    """The mirror pod of a manifest on a node."""
    pod: Obj = copy_object(manifest)
    pod.pop("status", None)
    text = json.dumps(manifest, sort_keys=True, default=str)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    name = node["metadata"]["name"]
    metadata = pod["metadata"]
    metadata["name"] = f"{metadata['name']}-{name}"
    metadata["namespace"] = metadata.get("namespace") or "default"
    for generated in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        metadata.pop(generated, None)
    metadata["annotations"] = (metadata.get("annotations") or {}) | {
        SOURCE_ANNOTATION: SOURCE, HASH_ANNOTATION: digest, MIRROR_ANNOTATION: digest,
    }  # fmt: skip
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"],
         "controller": True}
    ]  # fmt: skip
    spec = pod["spec"]
    spec["nodeName"] = name
    # The node runs it whatever its taints.
    spec["tolerations"] = [
        *(spec.get("tolerations") or ()), {"operator": "Exists", "effect": "NoExecute"}
    ]  # fmt: skip
    return pod


def difference(desired: Iterable[Obj], actual: Iterable[Obj]) -> tuple[list[Obj], list[Obj]]:
    """(to be made, to be deleted). What is being deleted is waited for before it is made anew."""
    ours = {_key(pod): pod for pod in actual if _annotation(pod, SOURCE_ANNOTATION) == SOURCE}
    by_key = {_key(pod): pod for pod in desired}
    delete = [
        pod
        for key, pod in ours.items()
        if "deletionTimestamp" not in pod["metadata"]
        and (key not in by_key or _annotation(by_key[key], HASH_ANNOTATION)
             != _annotation(pod, HASH_ANNOTATION))
    ]  # fmt: skip
    return [pod for key, pod in by_key.items() if key not in ours], delete


def _key(pod: Obj) -> tuple[str, str]:
    return pod["metadata"].get("namespace") or "", pod["metadata"]["name"]


def _annotation(pod: Obj, name: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(name) or "")
