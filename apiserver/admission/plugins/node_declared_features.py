"""NodeDeclaredFeatureValidator: a pod on a node is not changed in ways that its kubelet can't
follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import get_nested
from pilothouse.apis.core.declared_features import missing, needed_for_update
from pilothouse.apiserver.admission.plugin import NODES, Plugin, refuse

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes


class NodeDeclaredFeatureValidator(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old_obj
        name = get_nested(pod, "spec", "nodeName")
        if pod is None or old is None or not name or pod["spec"] == old.get("spec"):
            return
        needed = needed_for_update(old["spec"], pod["spec"])
        if not needed:
            return
        node = self.listers.get(NODES, "", name)
        if node is None:
            raise refuse(attributes, f'node "{name}" not found')
        lacking = missing(needed, node)
        if lacking:
            raise refuse(
                attributes,
                f"pod update requires features {', '.join(lacking)} which are not available on "
                f'node "{name}"',
            )


PLUGINS = {"NodeDeclaredFeatureValidator": NodeDeclaredFeatureValidator}
