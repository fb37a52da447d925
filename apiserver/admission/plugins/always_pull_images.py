"""AlwaysPullImages: whoever starts a pod must be able to pull its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import Plugin
from pilothouse.apiserver.pod_references import containers

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes


class AlwaysPullImages(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        if attributes.obj is None:
            return
        for container in containers(attributes.obj["spec"]):
            container["imagePullPolicy"] = "Always"


PLUGINS = {"AlwaysPullImages": AlwaysPullImages}
