"""Where plugins and a node's kubelet meet.

Drivers know their kubelet's folder as ``/var/lib/kubelet``. Several nodes of one machine have one
each, so what pods mount below that name is the folder of their own node.
"""

from __future__ import annotations

KUBELET = "/var/lib/kubelet"
SHARED = ("plugins", "plugins_registry", "device-plugins")
"""Folders that plugins use."""


def node_path(path: str, root: str) -> str:
    """The place of what a plugin calls ``path``; ``root``: the kubelet's folder."""
    for name in SHARED:
        folder = f"{KUBELET}/{name}"
        if path == folder or path.startswith(f"{folder}/"):
            return f"{root.rstrip('/')}{path[len(KUBELET) :]}"
    return path
