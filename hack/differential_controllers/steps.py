"""The steps of a scenario, and what is looked at.

A scenario is a list of steps, each a map of one verb (and its settings); the verbs are the methods
of :class:`Run`. An object is written out, or is ``{like: <template>, name: …, <path>: …}``: a
template of the file or of ``templates.yaml`` with changes by slash-separated path. ``NS`` in any
text is the scenario's namespace, which has the scenario's name.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from hack.differential.cases import change
from hack.differential_controllers.kubelet import Kubelet
from hack.differential_controllers.normal import Names, Obj, alike_together
from hack.differential_controllers.requests import signing_request
from hack.differential_controllers.worlds import World
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.timefmt import format_micro_time, format_time
from pilothouse.kubeclient import resources
from pilothouse.kubeclient.interfaces import DeleteOptions, ListOptions

LABEL = "scenario"
"""Of cluster-scoped objects: they belong to a scenario as those in its namespace do."""
_PATCHES: dict[str, Any] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}
_BY_KIND = {
    kind: resource
    for resource, kind in resources.KIND_OF.items()
    if resource != resources.EVENTS_V1
}
_UNSEEN = ("Event", "Lease", "LocalSubjectAccessReview", "SubjectAccessReview")
SEEN = tuple(
    resource
    for kind, resource in _BY_KIND.items()
    if kind not in _UNSEEN and resource in resources.NAMESPACED
)
CLUSTER = tuple(
    resource
    for kind, resource in _BY_KIND.items()
    if kind not in _UNSEEN and resource not in resources.NAMESPACED
)
_EVERYWHERE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
"""Every namespace has them; the scenarios that are about them ask for ``all``."""

_WITH_EVENTS_IN_DEFAULT = frozenset(
    ("Node", "PersistentVolume", "CertificateSigningRequest", "ServiceCIDR")
)


class Run:
    """One scenario in one world."""

    def __init__(
        self, world: World, name: str, templates: Obj, number: int, *, shared_nodes: bool
    ) -> None:
        self.world, self.name = world, name
        self.names = Names(shared_nodes=shared_nodes)
        self.kubelet = Kubelet(world, name, number)
        self.seen: dict[str, list[Any]] = {}
        self._client = world.client
        self._templates = templates
        self._answers: list[Any] = []
        self._step = 0

    async def all(self, steps: list[Obj]) -> dict[str, list[Any]]:
        """Everything seen, by label; the last look is ``end``."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        await self._client.create(resources.NAMESPACES, namespace)
        await self.settle(0.5)
        for self._step, step in enumerate(steps):
            step = json.loads(json.dumps(step).replace("NS", self.name))
            verb = next(iter(step))
            try:
                await getattr(self, verb)(step.pop(verb), **step)
            except StatusError as error:
                told = self.names.text(error.message)
                self._answers.append({"error": told, "step": f"{self._step} {verb}"})
        if "end" not in self.seen:
            await self.see("end")
        return self.seen

    # -- verbs ---------------------------------------------------------------------------

    async def make(self, objects: Any) -> None:
        new_nodes = False
        for item in objects if isinstance(objects, list) else [objects]:
            obj = self._times(self._whole(item))
            if new_nodes and obj["kind"] != "Node":
                await self.settle(1.0)  # until nothing keeps pods off them any more
                new_nodes = False
            new_nodes = new_nodes or obj["kind"] == "Node"
            await self._make(obj)
        if new_nodes:
            await self.settle(1.0)

    async def _make(self, obj: Obj) -> None:
        resource = resources.resource_of(obj)
        metadata = obj.setdefault("metadata", {})
        status = obj.get("status")
        namespace = ""
        if resource in resources.NAMESPACED:
            namespace = metadata.get("namespace") or self.name
        else:
            labels = metadata.setdefault("labels", {})
            labels[LABEL] = self.name
            if resource == resources.NODES:
                labels["kubernetes.io/hostname"] = metadata["name"]
        made = await self._client.create(resource, obj, namespace)
        if status:
            await self._client.patch(
                resource, made["metadata"]["name"], {"status": status},
                _PATCHES["merge"], namespace, subresource="status",
            )  # fmt: skip

    async def own(self, how: Obj) -> None:
        """Makes objects that belong to ``of``; with ``block`` they hold up its deletion."""
        owners = [how["of"]] if isinstance(how["of"], str) else how["of"]
        references = [await self._reference(owner, how.get("block")) for owner in owners]
        for obj in how["make"]:
            await self.make({**obj, "metadata/ownerReferences": references})

    async def adopt(self, how: Obj) -> None:
        reference = await self._reference(how["of"], how.get("block"))
        await self.patch(how["what"], {"metadata": {"ownerReferences": [reference]}})

    async def _reference(self, owner: str, block: bool | None) -> Obj:
        resource, name, namespace = self._named(owner)
        obj = await self._client.get(resource, name, namespace)
        made = {
            "apiVersion": f"{resource.group}/{resource.version}".lstrip("/"),
            "kind": resources.KIND_OF[resource],
            "name": name,
            "uid": obj["metadata"]["uid"],
        }
        return made | ({"blockOwnerDeletion": True} if block else {})

    async def patch(self, what: str, to: Any, sub: str = "", how: str = "merge") -> None:
        resource, name, namespace = self._named(what)
        await self._client.patch(
            resource, name, self._times(to), _PATCHES[how], namespace, subresource=sub
        )

    async def delete(self, what: Any, grace: int | None = None, policy: str = "") -> None:
        for item in what if isinstance(what, list) else [what]:
            resource, name, namespace = self._named(item)
            await self._client.delete(resource, name, namespace, DeleteOptions(grace, policy))

    async def post(self, what: str, sub: str, body: Obj) -> None:
        """Of a subresource: ``eviction``, ``binding``."""
        resource, name, namespace = self._named(what)
        await self._client.create(resource, body, namespace, name=name, subresource=sub)

    async def certificate(self, wanted: Obj) -> None:
        """A CertificateSigningRequest for a key that the script makes."""
        await self._client.create(
            resources.CERTIFICATE_SIGNING_REQUESTS, signing_request(wanted, self.name)
        )

    async def decide(self, how: Obj) -> None:
        """Approves or denies it."""
        resource = resources.CERTIFICATE_SIGNING_REQUESTS
        request = copy.deepcopy(await self._client.get(resource, how["name"]))
        condition = {"type": how["type"], "status": "True", "reason": "Script", "message": "so"}
        request.setdefault("status", {})["conditions"] = [condition]
        await self._client.update(resource, request, subresource="approval")

    async def look(self, what: str) -> None:
        """At an object elsewhere."""
        resource, name, namespace = self._named(what)
        obj = await self._client.get(resource, name, namespace)
        self.names.learn(obj)
        kind = resources.KIND_OF[resource]
        self._answers.append(self.names.object({**obj, "kind": kind, "step": self._step}))

    async def settle(self, seconds: float | None) -> None:
        await self.world.quiet(self.name, 1.0 if seconds is None else seconds)

    async def wait(self, seconds: float) -> None:
        await self.world.pass_time(seconds)

    async def minute(self, second: float) -> None:
        """Waits for that second of a minute."""
        now = self.world.now()
        await self.world.pass_time((second - now.second - now.microsecond / 1e6) % 60)

    async def run(self, how: str | None, **settings: Any) -> None:
        await self.kubelet.run(one=how == "one", **settings)
        await self._learn()

    async def pods(self, match: str, count: int = 1000, quiet: float = 1.0, **status: Any) -> None:
        """Statuses of the first pods that match and have not ended."""
        await self._learn()
        found = [
            pod
            for pod in await self.kubelet.pods(match)
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]
        for pod in found[:count]:
            await self.kubelet.write(pod, status)
        await self.world.quiet(self.name, quiet)

    async def deletePods(self, match: str, count: int = 1000, grace: int = 0) -> None:
        for pod in (await self.kubelet.pods(match))[:count]:
            await self._client.delete(
                resources.PODS, pod["metadata"]["name"], self.name, DeleteOptions(grace)
            )

    async def see(self, label: str | None, everything: bool = False) -> None:
        await self.settle(None)
        objects = await self._learn()
        seen = [
            self.names.object(obj)
            for obj in objects
            if everything or (obj["kind"], obj["metadata"]["name"]) not in _EVERYWHERE
        ]
        seen = alike_together(seen)
        events = list((await self._client.list(resources.EVENTS, self.name)).items)
        if _WITH_EVENTS_IN_DEFAULT.intersection(obj["kind"] for obj in objects):
            own = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
            for event in (await self._client.list(resources.EVENTS, "default")).items:
                about = event["involvedObject"]
                if (about["kind"], about["name"]) in own:
                    events.append(event)
        answers, self._answers = self._answers, []
        self.seen[label or "end"] = [*seen, *self.names.events(events), *answers]

    # -- what they use -------------------------------------------------------------------

    def _named(self, what: str) -> tuple[GroupVersionResource, str, str]:
        kind, _, name = what.partition(" ")
        resource = _BY_KIND[kind]
        namespaced = resource in resources.NAMESPACED
        if namespaced and "/" in name:
            namespace, _, name = name.partition("/")
            return resource, name, namespace
        return resource, name, self.name if namespaced else ""

    def _whole(self, obj: Obj) -> Obj:
        if "like" not in obj:
            paths = {key: value for key, value in obj.items() if "/" in key}
            return dict(change({k: v for k, v in obj.items() if k not in paths}, paths))
        changes = dict(obj)
        template = self._whole(self._templates[changes.pop("like")])
        if "name" in changes:
            changes["metadata/name"] = changes.pop("name")
        text = json.dumps(change(template, changes)).replace("NS", self.name)
        made: Obj = json.loads(text)
        return made

    def _times(self, value: Any) -> Any:
        """``NOW`` is the world's time."""
        if isinstance(value, dict):
            return {key: self._times(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._times(item) for item in value]
        if value == "NOW":
            return format_time(self.world.now())
        return format_micro_time(self.world.now()) if value == "NOW.MICRO" else value

    async def _learn(self) -> list[Obj]:
        """All objects of the scenario."""
        found: list[Obj] = []
        for resource in SEEN:
            found += await self._listed(resource, self.name, ListOptions())
        for resource in CLUSTER:
            found += await self._listed(resource, "", ListOptions(f"{LABEL}={self.name}"))
        for obj in found:
            self.names.learn(obj)
        return found

    async def _listed(
        self, resource: GroupVersionResource, namespace: str, options: ListOptions
    ) -> list[Obj]:
        try:
            items = (await self._client.list(resource, namespace, options)).items
        except StatusError as error:
            if error.code != 404:  # a kind that is not served by default
                raise
            return []
        kind = resources.KIND_OF[resource]
        return [{**item, "kind": kind} for item in items]


CLUSTER_EVENTS_OF = frozenset(
    ("Node", "PersistentVolume", "CertificateSigningRequest", "ServiceCIDR")
)
