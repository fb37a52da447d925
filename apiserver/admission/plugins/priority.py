"""Priority: turns a pod's class name into a number (plugin/pkg/admission/priority)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import PRIORITY_CLASSES, Plugin, refuse

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes

PREEMPT = "PreemptLowerPriority"
_NO_CLASS: Obj = {"metadata": {"name": ""}, "value": 0, "preemptionPolicy": PREEMPT}


class Priority(Plugin):
    def set_up(self) -> None:
        self._default: Obj = _NO_CLASS
        self._default_generation = -1

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.resource.resource != "pods" or pod is None:
            return
        if attributes.operation == "UPDATE":
            _keep(pod, attributes.old_obj or {})
        else:
            self._set(attributes, pod["spec"])

    def _set(self, attributes: Attributes, spec: Obj) -> None:
        name = spec.get("priorityClassName")
        chosen = self._named(attributes, name) if name else self.default_class()
        if not name and chosen["metadata"]["name"]:
            spec["priorityClassName"] = chosen["metadata"]["name"]
        value = int(chosen.get("value") or 0)
        given = spec.get("priority")
        if given is not None and given != value:
            raise refuse(
                attributes,
                f"the integer value of priority ({given}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        policy = chosen.get("preemptionPolicy")
        if not policy:
            return
        given = spec.get("preemptionPolicy")
        if given is not None and given != policy:
            raise refuse(
                attributes,
                f"the string value of PreemptionPolicy ({given}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given "
                "PriorityClass name",
            )
        spec["preemptionPolicy"] = policy

    def _named(self, attributes: Attributes, name: str) -> Obj:
        found = self.context.priority_classes.get("", name)
        if found is None:
            raise refuse(attributes, f"no PriorityClass with name {name} was found")
        return found

    def default_class(self) -> Obj:
        """The global default with the lowest value; a class without a name when there is none."""
        index = self.context.priority_classes
        if self._default_generation != index.generation:
            defaults = [c for c in index.in_namespace() if c.get("globalDefault")]
            self._default = min(defaults, key=lambda c: int(c.get("value") or 0), default=_NO_CLASS)
            self._default_generation = index.generation
        return self._default

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if attributes.resource.group_resource != PRIORITY_CLASSES or obj is None:
            return
        if not obj.get("globalDefault"):
            return
        name = self.default_class()["metadata"]["name"]
        if name and (attributes.operation == "CREATE" or name != obj["metadata"].get("name")):
            raise refuse(
                attributes,
                f"PriorityClass {name} is already marked as default. Only one default can exist",
            )


def _keep(pod: Obj, old: Obj) -> None:
    """Updates by clients that don't know the fields must not drop them."""
    spec, old_spec = pod["spec"], old.get("spec") or {}
    for field in ("priority", "preemptionPolicy"):
        if spec.get(field) is None and old_spec.get(field) is not None:
            spec[field] = old_spec[field]


PLUGINS = {"Priority": Priority}
