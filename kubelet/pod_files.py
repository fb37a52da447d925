"""Where a pod's files are on the node (pure names).

``<root>/pods/<uid>/``: ``etc-hosts``, ``volumes/<plugin>/<name>/``, ``containers/<name>/`` with a
termination log per attempt. Memory volumes are on the machine's tmpfs instead.
"""

from __future__ import annotations

import os


def pod_directory(root: str, uid: str) -> str:
    return os.path.join(root, "pods", uid)


def volume_directory(root: str, uid: str, plugin: str, name: str) -> str:
    return os.path.join(pod_directory(root, uid), "volumes", f"kubernetes.io~{plugin}", name)


def termination_log(root: str, uid: str, container: str, attempt: int) -> str:
    return os.path.join(pod_directory(root, uid), "containers", container, f"termination-{attempt}")
