"""Flow schemas and priority levels at work (apf_controller.go): classification and limits.

Follows the objects in the server's own caches. A request is classified once per kind of
request and user; the answer is kept until some object changes. Limits are adjusted every ten
seconds while there is demand; an idle server runs no timer.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.clock import upkeep
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.flowcontrol.allocation import ADJUSTMENT_PERIOD, adjusted, limits_of
from pilothouse.apiserver.flowcontrol.bootstrap_objects import (
    FLOW_SCHEMAS,
    PRIORITY_LEVELS,
    new_object,
)
from pilothouse.apiserver.flowcontrol.matching import by_precedence, distinguisher, matches
from pilothouse.apiserver.flowcontrol.queue_set import Flow, QueueSet, Queuing
from pilothouse.apiserver.flowcontrol.shuffle_sharding import flow_hash
from pilothouse.apiserver.flowcontrol.turns import Turns
from pilothouse.apiserver.flowcontrol.work_estimator import max_seats
from pilothouse.componentbase.metrics import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.flowcontrol.allocation import Limits
    from pilothouse.apiserver.request.context import UserInfo
    from pilothouse.apiserver.request.info import RequestInfo
    from pilothouse.componentbase.histograms import Series

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS = GroupResource(GROUP, "flowschemas")
LEVELS = GroupResource(GROUP, "prioritylevelconfigurations")
UID_HEADERS = ("X-Kubernetes-PF-FlowSchema-UID", "X-Kubernetes-PF-PriorityLevel-UID")
_CACHED_USERS, _CACHED_KINDS, _KEPT_FLOWS = 2_000, 1_000, 10_000
WAIT_BUCKETS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
SEAT_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0)
_EXEMPT_WEIGHT = 20.0
"""Of the loop's time: the exempt wait for nobody, but their long lists make way, too."""
_SHARES_OF_ONE = 20
"""Nominal shares that make a weight of one: those of global-default."""


class Level:
    """One priority level. ``queues`` is None for an exempt one."""

    __slots__ = ("limits", "max_seats", "name", "queues", "spec", "uid", "weight")

    def __init__(self, name: str, uid: str, spec: Obj) -> None:
        self.name = name
        self.uid = uid
        self.spec = spec
        self.queues: QueueSet | None = None
        self.limits: Limits | None = None
        self.max_seats = 1
        self.weight = 1.0

    @property
    def exempt(self) -> bool:
        return self.spec.get("type") == "Exempt"


class Class:
    """What requests of one user and kind have in common."""

    __slots__ = ("dispatched", "flow", "headers", "level", "pending", "queues", "schema", "seconds")

    def __init__(
        self, schema: Obj, level: Level, flow: Flow, dispatched: list[int], seconds: Series
    ) -> None:
        self.seconds = seconds
        """How long its requests took, without what they waited."""
        self.pending = seconds.pending
        self.schema: str = schema["metadata"]["name"]
        self.dispatched = dispatched
        self.level = level
        self.queues = level.queues
        self.flow = flow
        uid = schema["metadata"].get("uid") or ""
        self.headers = list(zip(UID_HEADERS, (uid, level.uid), strict=True))


class FlowController:
    """Classifies requests and keeps the levels' limits."""

    def __init__(
        self,
        listers: Listers,
        clock: Clock,
        server_seats: int,
        seconds: Callable[[], float] = perf_counter,
    ) -> None:
        self._listers = listers
        self._clock = clock
        self._seats = server_seats
        self._seconds = seconds
        self.turns = Turns()
        self.levels: dict[str, Level] = {}
        self.schemas: list[Obj] = []
        self.wait_seconds = Histogram(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            "[BETA] Length of time a request spent waiting in its queue",
            WAIT_BUCKETS,
            ("priority_level", "flow_schema", "execute"),
        )
        """Of those that had to wait at all."""
        self.execution_seconds = Histogram(
            "apiserver_flowcontrol_request_execution_seconds",
            "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of "
            "request execution in the API Priority and Fairness subsystem",
            WAIT_BUCKETS,
            ("priority_level", "flow_schema", "type"),
        )
        self.seats = Histogram(
            "apiserver_flowcontrol_work_estimated_seats",
            "[ALPHA] Number of estimated seats (maximum of initial and final seats) associated "
            "with requests in API Priority and Fairness",
            SEAT_BUCKETS,
            ("priority_level", "flow_schema"),
        )
        """Of requests that took more than one."""
        self.rejected: dict[tuple[str, ...], int] = {}
        """By (priority level, flow schema, reason)."""
        self.dispatched: dict[tuple[str, ...], list[int]] = {}
        self._flows: dict[tuple[str, str], Flow] = {}
        self._users: dict[int, tuple[UserInfo, dict[tuple[str, ...], Class]]] = {}
        self._by_user: dict[UserInfo, dict[tuple[str, ...], Class]] = {}
        self._timer: Any = None
        self._stale = True

    async def start(self) -> None:
        """Reads the objects and follows them from now on."""
        await self._listers.ensure(SCHEMAS, LEVELS)  # type: ignore[attr-defined]
        for resource in (SCHEMAS, LEVELS):
            self._listers.subscribe(resource, self._changed)
        self.reload()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _changed(self, event_type: str, obj: Obj, old: Obj | None) -> None:
        if old is None or event_type == "DELETED" or obj.get("spec") != old.get("spec"):
            self._stale = True
            self._forget()

    # configuration

    def reload(self) -> None:
        """The objects as they are; mandatory and suggested ones that are missing, imagined."""
        self._stale = False
        self._forget()
        self._flows.clear()
        levels = self._objects(LEVELS, "PriorityLevelConfiguration", PRIORITY_LEVELS)
        now = self._seconds()
        known, self.levels = self.levels, {}
        for name, obj in levels.items():
            level = known.get(name) or Level(name, "", obj["spec"])
            level.uid, level.spec = obj["metadata"].get("uid") or "", obj["spec"]
            self.levels[name] = level
        limits = limits_of({n: level.spec for n, level in self.levels.items()}, self._seats)
        for name, level in self.levels.items():
            _configure(level, limits[name], now)
        schemas = self._objects(SCHEMAS, "FlowSchema", FLOW_SCHEMAS).values()
        self.schemas = [
            s
            for s in by_precedence(schemas)
            if s["spec"]["priorityLevelConfiguration"]["name"] in self.levels
        ]

    def _objects(
        self, resource: GroupResource, kind: str, defaults: Mapping[str, Obj]
    ) -> dict[str, Obj]:
        found = {obj["metadata"]["name"]: obj for obj in self._listers.list(resource)}
        if not found:  # not written yet
            return {name: new_object(kind, name, spec) for name, spec in defaults.items()}
        for name in ("exempt", "catch-all"):
            if name not in found:
                found[name] = new_object(kind, name, defaults[name])
        return found

    # classification

    def classify(self, user: UserInfo, info: RequestInfo) -> Class:
        if self._stale:
            self.reload()
        # By identity: authenticators hand out the same object for the same credentials.
        mine = self._users.get(id(user))
        if mine is None or mine[0] is not user:
            mine = self._known(user)
        classes = mine[1]
        if info.is_resource_request:
            key = (info.verb, info.api_group, info.resource, info.subresource, info.namespace)
        else:
            key = (info.verb, info.path, "", "", "")
        found = classes.get(key)
        if found is None:
            if len(classes) >= _CACHED_KINDS:
                classes.clear()
            found = classes[key] = self._classify(user, info)
        return found

    def flows(self) -> Iterable[tuple[str, Flow]]:
        """(flow schema, flow) of those that were used lately."""
        return ((names[0], flow) for names, flow in self._flows.items())

    def _known(self, user: UserInfo) -> tuple[UserInfo, dict[tuple[str, ...], Class]]:
        """An equal user may have been here before (impersonation makes them anew)."""
        if len(self._users) >= _CACHED_USERS:
            self._forget()
        found = self._users[id(user)] = (user, self._by_user.setdefault(user, {}))
        return found

    def _forget(self) -> None:
        self._users.clear()
        self._by_user.clear()

    def _classify(self, user: UserInfo, info: RequestInfo) -> Class:
        chosen = next((s for s in self.schemas if matches(s, user, info)), None)
        if chosen is None:
            chosen = next(s for s in self.schemas if s["metadata"]["name"] == "catch-all")
        level = self.levels[chosen["spec"]["priorityLevelConfiguration"]["name"]]
        names = (chosen["metadata"]["name"], distinguisher(chosen, user, info))
        flow = self._flows.get(names)
        if flow is None:
            if len(self._flows) >= _KEPT_FLOWS:
                busy = {n: f for n, f in self._flows.items() if f.executing or f.waiters}
                self._flows = busy
            flow = self._flows[names] = Flow(flow_hash(*names), level.weight)
        counter = self.dispatched.setdefault((level.name, names[0]), [0])
        labels = (level.name, names[0], "watch" if info.verb == "watch" else "regular")
        return Class(chosen, level, flow, counter, self.execution_seconds.of(*labels))

    def took_seats(self, chosen: Class, seats: int) -> None:
        """More than one, for what looks at many objects."""
        self.seats.observe(seats, chosen.level.name, chosen.schema)

    # borrowing

    def expect_adjustment(self) -> None:
        """There is demand: limits are to be adjusted after this period."""
        if self._timer is None:
            self._timer = upkeep(self._clock).call_later(ADJUSTMENT_PERIOD, self._adjust)

    def _adjust(self) -> None:
        self._timer = None
        now = self._seconds()
        limited = {n: level.queues for n, level in self.levels.items() if level.queues}
        high = {name: queues.demand.end_period(now) for name, queues in limited.items()}
        smoothed = {name: queues.demand.smoothed for name, queues in limited.items()}
        exempt = frozenset(self.levels) - frozenset(limited)
        high |= dict.fromkeys(exempt, 0)
        limits = {n: level.limits for n, level in self.levels.items() if level.limits}
        current = adjusted(limits, exempt, high, smoothed)
        for name, queues in limited.items():
            queues.configure(queues.queuing, current[name], now)
        if any(high.values()):
            self.expect_adjustment()


def _configure(level: Level, limits: Limits, now: float) -> None:
    level.limits = limits
    if level.exempt:
        level.queues = None
        level.weight = _EXEMPT_WEIGHT
        return
    limited = level.spec.get("limited") or {}
    response = limited.get("limitResponse") or {}
    queuing = None
    if response.get("type") == "Queue":
        given = response.get("queuing") or {}
        queuing = Queuing(
            given.get("queues", 64), given.get("handSize", 8), given.get("queueLengthLimit", 50)
        )
        level.max_seats = max_seats(limits.nominal, queuing.hand_size)
    else:
        level.max_seats = max(1, limits.nominal)
    level.weight = max(limited.get("nominalConcurrencyShares", 30), 1) / _SHARES_OF_ONE
    if level.queues is None:
        initial = limits.nominal - (limits.nominal - limits.least) // 2
        level.queues = QueueSet(queuing, initial, now)
    else:
        current = min(max(level.queues.limit, limits.least), limits.most)
        level.queues.configure(queuing, current, now)
