"""Static pods: manifests in a folder of the node, run without anybody creating them.

Each file with a Pod is a pod of this node, whose uid is the hash of what it says. The API sees a
mirror of it (``<name>-<node>``), which nobody runs: when somebody deletes the mirror it is made
anew and the pod goes on; when the file changes or goes, the pod ends and its mirror after it.
``wanted`` and ``difference`` are pure (pkg/kubelet/config/file_linux.go, pkg/kubelet/pod).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apis.core.defaults_pod import set_pod_defaults
from pilothouse.apis.core.pod_helpers import MIRROR_ANNOTATION
from pilothouse.kubeclient.interfaces import Client, DeleteOptions
from pilothouse.kubeclient.resources import PODS

log = logging.getLogger(__name__)
SOURCE_ANNOTATION = "kubernetes.io/config.source"
HASH_ANNOTATION = "kubernetes.io/config.hash"
SOURCE = "file"


class PodRunner(Protocol):
    """What of the kubelet runs them."""

    def run_static(self, pod: Obj) -> None: ...

    def end_static(self, pod: Obj) -> None: ...

    def is_busy(self, uid: str) -> bool:
        """Something of the pod is still there."""
        ...

    def api_pods(self) -> list[Obj]:
        """Those of the API that are bound to this node."""
        ...


class StaticPods:
    def __init__(
        self, client: Client, directory: str, node: Callable[[], Obj], runner: PodRunner
    ) -> None:
        """``node``: the node's object."""
        self._client = client
        self._directory = directory
        self._node = node
        self._runner = runner
        self._running: dict[str, Obj] = {}
        """Pods that run, or end, by uid."""
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Runs what the files say, and shows it in the API."""
        async with self._lock:
            manifests = (
                await asyncio.to_thread(read_manifests, self._directory) if self._directory else []
            )
            node = self._node()
            desired = {_uid(pod): pod for pod in (wanted(manifest, node) for manifest in manifests)}
            self._run(desired)
            running = [pod for uid, pod in self._running.items() if self._runner.is_busy(uid)]
            create, delete = difference(desired.values(), running, self._runner.api_pods())
            for pod in delete:
                await self._delete(pod)
            for pod in create:
                await self._create(pod)

    def _run(self, desired: dict[str, Obj]) -> None:
        for uid, pod in list(self._running.items()):
            if uid not in desired:
                self._runner.end_static(pod)
                if not self._runner.is_busy(uid):
                    del self._running[uid]
        ending = {_key(pod) for uid, pod in self._running.items() if uid not in desired}
        for uid, pod in desired.items():
            if uid not in self._running and _key(pod) not in ending:
                self._running[uid] = pod
                self._runner.run_static(_with_uid(pod, uid))

    async def _create(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.create(PODS, pod, metadata["namespace"], field_manager="kubelet")
        except StatusError as error:
            log.warning("mirror pod %s was not made: %s", metadata["name"], error)

    async def _delete(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.delete(
                PODS, metadata["name"], metadata["namespace"],
                DeleteOptions(grace_period_seconds=0, precondition_uid=metadata["uid"]),
            )  # fmt: skip
        except StatusError as error:
            if not is_not_found(error):
                log.warning("mirror pod %s was not deleted: %s", metadata["name"], error)


def is_mirror(pod: Obj) -> bool:
    """Whether an API pod only shows what a kubelet runs."""
    return MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})


def static_uid(mirror: Obj) -> str:
    """The uid of the pod that a mirror shows."""
    return _annotation(mirror, MIRROR_ANNOTATION)


def running_uid(pod: Obj) -> str:
    """The uid by which the kubelet knows what an API pod shows."""
    return static_uid(pod) if is_mirror(pod) else str(pod["metadata"]["uid"])


def _uid(pod: Obj) -> str:
    return _annotation(pod, HASH_ANNOTATION)


def _with_uid(pod: Obj, uid: str) -> Obj:
    """As it runs: with defaults, and without what only its mirror has."""
    made: Obj = copy_object(pod)
    made["metadata"]["uid"] = uid
    del made["metadata"]["annotations"][MIRROR_ANNOTATION]
    del made["metadata"]["ownerReferences"]
    made["status"] = {}
    set_pod_defaults(made)
    return made


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
    name = node["metadata"]["name"]
    text = name + json.dumps(manifest, sort_keys=True, default=str)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
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


def difference(
    desired: Iterable[Obj], running: Iterable[Obj], actual: Iterable[Obj]
) -> tuple[list[Obj], list[Obj]]:
    """(mirrors to be made, mirrors to be deleted). ``running``: pods of which something is there
    yet; ``actual``: the API's pods. A mirror stays until its pod has ended; one that somebody
    deletes goes at once, to be made anew."""
    mirrors = {_key(pod): pod for pod in actual if is_mirror(pod)}
    by_key = {_key(pod): pod for pod in desired}
    kept = {_key(pod): pod for pod in running} | by_key
    delete = []
    for key, mirror in mirrors.items():
        shown = kept.get(key)
        going = "deletionTimestamp" in mirror["metadata"]
        if shown is None or going or _uid(shown) != static_uid(mirror):
            delete.append(mirror)
    staying = mirrors.keys() - {_key(pod) for pod in delete}
    return [pod for key, pod in by_key.items() if key not in staying], delete


def _key(pod: Obj) -> tuple[str, str]:
    return pod["metadata"].get("namespace") or "", pod["metadata"]["name"]


def _annotation(pod: Obj, name: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(name) or "")
