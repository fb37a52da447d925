"""Keeps the mandatory and suggested objects, and the flow schemas' Dangling condition.

(pkg/registry/flowcontrol/ensurer and apf_controller.go.) Runs once after start and again when
one of the objects changes or goes; suggested ones come back a minute later, mandatory ones at
once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.flowcontrol.bootstrap_objects import (
    AUTO_UPDATE,
    FLOW_SCHEMAS,
    PRIORITY_LEVELS,
    is_mandatory,
    new_object,
)
from pilothouse.apiserver.flowcontrol.controller import GROUP

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.server import APIServer

log = logging.getLogger(__name__)

LEVELS = GroupVersionResource(GROUP, "v1", "prioritylevelconfigurations")
SCHEMAS = GroupVersionResource(GROUP, "v1", "flowschemas")
_SUGGESTED_DELAY = 60.0
_KINDS = (
    (LEVELS, "PriorityLevelConfiguration", PRIORITY_LEVELS),
    (SCHEMAS, "FlowSchema", FLOW_SCHEMAS),
)


def needs_update(existing: Obj, wanted_spec: Obj, kind: str) -> bool:
    """Whether ``existing`` is ours to correct and differs from what it should be."""
    metadata = existing["metadata"]
    name = metadata["name"]
    note = (metadata.get("annotations") or {}).get(AUTO_UPDATE)
    ours = note == "true" or (note is None and metadata.get("generation", 1) == 1)
    if is_mandatory(kind, name):
        return note != "true" or not covers(existing.get("spec"), wanted_spec)
    return ours and not covers(existing.get("spec"), wanted_spec)


def covers(have: Any, want: Any) -> bool:
    """Whether ``have`` says all that ``want`` does; defaults may be more."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(covers(have.get(k), v) for k, v in want.items())
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(covers(*pair) for pair in zip(have, want, strict=True))
        )
    return bool(have == want)


def dangling_condition(schema: Obj, exists: bool, now: str) -> Obj | None:
    """The condition that ``schema`` should have now; None when it has it."""
    level = schema["spec"]["priorityLevelConfiguration"]["name"]
    if exists:
        status, reason = "False", "Found"
        message = (
            f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
            "and it exists"
        )
    else:
        status, reason = "True", "NotFound"
        message = (
            f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
            "but there is no such object"
        )
    for condition in (schema.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Dangling" and condition.get("status") == status:
            if (condition.get("reason"), condition.get("message")) == (reason, message):
                return None
    return {
        "type": "Dangling",
        "status": status,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


class BootstrapKeeper:
    """Writes what is missing or wrong."""

    def __init__(self, server: APIServer) -> None:
        self._server = server
        self._client = server.local_client(user_agent="api-priority-and-fairness-config-producer")
        self._running = False
        self._again = False
        self._timer: Any = None
        self.first_done = False

    def start(self) -> None:
        for resource, _, _ in _KINDS:
            self._server.listers.subscribe(resource.group_resource, self._changed)
        self._wake()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _changed(self, event_type: str, obj: Obj, old: Obj | None) -> None:
        name, kind = obj["metadata"]["name"], obj.get("kind", "")
        if event_type == "DELETED" and not is_mandatory(kind, name):
            if self._timer is None and name in (FLOW_SCHEMAS | PRIORITY_LEVELS):
                self._timer = self._server.clock.call_later(_SUGGESTED_DELAY, self._wake)
        elif event_type == "ADDED" and old is None and self._running:
            return
        elif event_type == "DELETED" or old is None or old.get("spec") != obj.get("spec"):
            self._wake()

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._again = True
        if not self._running and not self._server.stopping:
            self._running = True
            self._server.activity.begin("flow-control")
            self._server.tasks.start(self._run(), "flow-control-objects")

    async def _run(self) -> None:
        try:
            while self._again:
                self._again = False
                for resource, kind, wanted in _KINDS:
                    await self._ensure(resource, kind, wanted)
                await self._conditions()
            self.first_done = True
        finally:
            self._running = False
            self._server.activity.end("flow-control")

    async def _ensure(
        self, resource: GroupVersionResource, kind: str, wanted: dict[str, Obj]
    ) -> None:
        for name, spec in wanted.items():
            existing = self._server.listers.get(resource.group_resource, "", name)
            try:
                if existing is None:
                    if not self._waits_for_its_minute(kind, name):
                        await self._client.create(
                            resource, copy_object(new_object(kind, name, spec))
                        )
                elif needs_update(existing, spec, kind):
                    changed = copy_object(existing)
                    changed["spec"] = copy_object(spec)
                    changed["metadata"].setdefault("annotations", {})[AUTO_UPDATE] = "true"
                    await self._client.update(resource, changed)
            except StatusError as error:
                # Another server of the cluster was first, or somebody changed it meanwhile.
                if error.code != 409:
                    log.warning("%s %s: %s", kind, name, error)

    def _waits_for_its_minute(self, kind: str, name: str) -> bool:
        return self._timer is not None and not is_mandatory(kind, name)

    async def _conditions(self) -> None:
        listers = self._server.listers
        now = format_time(self._server.clock.now())
        for schema in list(listers.list(SCHEMAS.group_resource)):
            level = schema["spec"]["priorityLevelConfiguration"]["name"]
            exists = listers.get(LEVELS.group_resource, "", level) is not None
            condition = dangling_condition(schema, exists, now)
            if condition is None:
                continue
            changed = copy_object(schema)
            others = [
                c
                for c in (schema.get("status") or {}).get("conditions") or ()
                if c.get("type") != "Dangling"
            ]
            changed["status"] = {"conditions": [*others, condition]}
            try:
                await self._client.update(SCHEMAS, changed, subresource="status")
            except StatusError as error:
                if error.code not in (404, 409):
                    log.warning("FlowSchema %s: %s", schema["metadata"]["name"], error)
