"""What a server serves: its resources and where a kind is found (discovery and RESTMapper).

Reads the legacy documents (/api, /apis, one per group version), which every server has.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import (
    GroupKind,
    GroupVersionResource,
    parse_api_version,
)

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Client


@dataclass(frozen=True, slots=True)
class APIResource:
    gvr: GroupVersionResource
    kind: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.gvr.group, self.kind)


class Discovered:
    """One answer: resources in the server's order of preference, and the groups that failed."""

    def __init__(self, resources: list[APIResource], failed: dict[str, str]) -> None:
        self.resources = resources
        self.failed = failed
        """Error text by group version."""
        self._by_kind: dict[tuple[str, str, str], APIResource] = {}
        for resource in resources:
            gvr = resource.gvr
            self._by_kind.setdefault((gvr.group, gvr.version, resource.kind), resource)

    def for_kind(self, api_version: str, kind: str) -> APIResource | None:
        try:
            group, version = parse_api_version(api_version)
        except ValueError:
            return None
        return self._by_kind.get((group, version, kind))

    def preferred(self) -> list[APIResource]:
        """Each resource once, in its group's preferred version if it is there."""
        seen: dict[tuple[str, str], APIResource] = {}
        for resource in self.resources:
            seen.setdefault((resource.gvr.group, resource.gvr.resource), resource)
        return list(seen.values())


async def discover(client: Client) -> Discovered:
    """Asks for everything; a group version that can't be read is left out and named."""
    groups = await client.request("GET", "/apis")
    wanted = ["v1"]
    for group in groups.get("groups") or ():
        versions = [v["groupVersion"] for v in group.get("versions") or ()]
        preferred = (group.get("preferredVersion") or {}).get("groupVersion")
        versions.sort(key=lambda v: v != preferred)
        wanted += versions
    answers = await asyncio.gather(*(_read(client, gv) for gv in wanted))
    resources: list[APIResource] = []
    failed: dict[str, str] = {}
    for group_version, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, str):
            failed[group_version] = answer
            continue
        group, version = parse_api_version(group_version)
        resources += [
            APIResource(
                GroupVersionResource(group, version, entry["name"]),
                entry["kind"],
                bool(entry.get("namespaced")),
                frozenset(entry.get("verbs") or ()),
            )
            for entry in answer.get("resources") or ()
            if "/" not in entry["name"]
        ]
    return Discovered(resources, failed)


async def _read(client: Client, group_version: str) -> Any:
    path = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
    try:
        return await client.request("GET", path)
    except StatusError as error:
        return str(error)
