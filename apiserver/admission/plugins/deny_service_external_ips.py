"""DenyServiceExternalIPs: no new external IPs on Services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import get_nested
from pilothouse.apiserver.admission.plugin import Plugin, refuse

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes


class DenyServiceExternalIPs(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        wanted = set(get_nested(attributes.obj, "spec", "externalIPs", default=()))
        present = set(get_nested(attributes.old_obj, "spec", "externalIPs", default=()))
        if wanted - present:
            raise refuse(attributes, "Use of external IPs is denied by admission control.")


PLUGINS = {"DenyServiceExternalIPs": DenyServiceExternalIPs}
