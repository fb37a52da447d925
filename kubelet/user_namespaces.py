"""Which users a pod with ``hostUsers: false`` has on the node (pkg/kubelet/userns, KEP-127).

Each such pod has a range of 65536 ids of its own, never 0 and never another's, as long as
anything of it runs; what was given stands in the pod's directory, for the next kubelet.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable

from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.metrics import Counter
from pilothouse.kubelet.pod_files import pod_directory
from pilothouse.kubelet.runtime.errors import RuntimeFailure

LENGTH = 65536
FILE = "userns"
UNSUPPORTED = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"


def wants_users(pod: Obj) -> bool:
    return pod["spec"].get("hostUsers") is False


class UserNamespaces:
    """Of one node; ``first`` and ``slots``: the ids that its pods may have."""

    def __init__(self, root: str, *, first: int = LENGTH, slots: int = 110) -> None:
        self._root = root
        self._first = first
        self._slots = slots
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}
        """First id by pod uid."""
        self.started = Counter(
            "kubelet_started_user_namespaced_pods_total",
            "[ALPHA] Cumulative number of pods with user namespaces started. This metric will only "
            "be collected on Linux.",
        )
        self.failed = Counter(
            "kubelet_started_user_namespaced_pods_errors_total",
            "[ALPHA] Cumulative number of errors when starting pods with user namespaces. This "
            "metric will only be collected on Linux.",
        )
        for counter in (self.started, self.failed):
            counter.inc(by=0)

    def load(self, known: Iterable[str]) -> None:
        """What an earlier kubelet gave to these pods."""
        if not os.path.isdir(os.path.join(self._root, "pods")):
            return
        for uid in known:
            try:
                first = self._read(uid)
            except ValueError:
                continue  # told when the pod is looked at
            if first is not None:
                self._used[uid] = first

    def of(self, pod: Obj) -> int:
        """The first id of the pod's range, which it keeps.

        :raises RuntimeFailure: there is no range left, or what is noted makes no sense.
        """
        with self._lock:
            return self._of(pod["metadata"]["uid"])

    def _of(self, uid: str) -> int:
        if uid in self._used:
            return self._used[uid]
        try:
            noted = self._read(uid)
        except ValueError as error:
            raise RuntimeFailure(f"user namespace: {error}") from error
        first = noted if noted is not None else self._free()
        self._used[uid] = first
        if noted is None:
            self._write(uid, first)
        return first

    def release(self, uid: str) -> None:
        """Nothing of the pod runs any more."""
        if uid not in self._used:
            return
        with self._lock:
            self._used.pop(uid, None)
            try:
                os.unlink(self._path(uid))
            except FileNotFoundError:
                pass

    def _free(self) -> int:
        taken = set(self._used.values())
        for slot in range(self._slots):
            first = self._first + slot * LENGTH
            if first not in taken:
                return first
        raise RuntimeFailure(
            "create user namespace: could not find an empty slot to allocate a user namespace"
        )

    def _path(self, uid: str) -> str:
        return os.path.join(pod_directory(self._root, uid), FILE)

    def _write(self, uid: str, first: int) -> None:
        mapping = [{"hostId": first, "containerId": 0, "length": LENGTH}]
        path = self._path(uid)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            json.dump({"uidMappings": mapping, "gidMappings": mapping}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.tmp", path)

    def _read(self, uid: str) -> int | None:
        """:raises ValueError: the file isn't one of ours, or its range is another pod's."""
        try:
            with open(self._path(uid), encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            return None
        first = self._checked(text)
        if first in {used for other, used in self._used.items() if other != uid}:
            raise ValueError(f'range picked for pod "{uid}" already taken')
        return first

    def _checked(self, text: str) -> int:
        try:
            noted = json.loads(text)
            (mapping,), groups = noted["uidMappings"], noted["gidMappings"]
            first, inside, length = (mapping[k] for k in ("hostId", "containerId", "length"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"invalid user namespace mappings file: {error}") from error
        if groups != [mapping]:
            raise ValueError(
                "invalid user namespace configuration: GID and UID mapping should be identical"
            )
        if inside != 0:
            raise ValueError("invalid user namespace configuration: UID 0 must be mapped")
        if length != LENGTH:
            raise ValueError(f"wrong user namespace length {length}")
        if first % LENGTH:
            raise ValueError(f"wrong user namespace offset specified {first}")
        if not 0 <= first - self._first < self._slots * LENGTH:
            raise ValueError(f"id {first} is out of range")
        return int(first)
