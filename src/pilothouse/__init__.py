"""Pilothouse: a Kubernetes v1.37 control plane, kubelet and service proxy in Python.

``from pilothouse import Cluster`` gives a whole cluster inside this process. Importing this
package alone loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.cluster.cluster import Cluster

__all__ = ["Cluster", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Cluster":
        from pilothouse.cluster.cluster import Cluster

        return Cluster
    raise AttributeError(f"module 'pilothouse' has no attribute {name!r}")
