"""A container's configuration with what its devices change about it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pilothouse.kubelet.runtime.interfaces import ContainerConfig

if TYPE_CHECKING:
    from pilothouse.kubelet.plugins.cdi import Edits


def edited(config: ContainerConfig, edits: Edits) -> ContainerConfig:
    security = config.security
    if edits.groups:
        groups = (*security.supplemental_groups, *edits.groups)
        security = replace(security, supplemental_groups=groups)
    return replace(
        config,
        envs=(*config.envs, *edits.envs),
        mounts=(*config.mounts, *edits.mounts),
        devices=(*config.devices, *edits.devices),
        hooks=edits.hooks,
        security=security,
        annotations={**config.annotations, **edits.annotations},
    )
