"""From single probe outcomes to a container's result: thresholds (pure; prober/worker.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilothouse.apimachinery.object import Obj

Kind = Literal["liveness", "readiness", "startup"]
KINDS: tuple[Kind, ...] = ("liveness", "readiness", "startup")


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """A probe with upstream's defaults. Durations are seconds."""

    handler: Obj
    initial_delay: float
    timeout: float
    period: float
    success_threshold: int
    failure_threshold: int


def probe_spec(container: Obj, kind: Kind) -> ProbeSpec | None:
    probe = container.get(f"{kind}Probe")
    if not probe:
        return None
    return ProbeSpec(
        handler=probe,
        initial_delay=float(probe.get("initialDelaySeconds") or 0),
        timeout=float(probe.get("timeoutSeconds") or 1),
        period=float(probe.get("periodSeconds") or 10),
        success_threshold=int(probe.get("successThreshold") or 1),
        failure_threshold=int(probe.get("failureThreshold") or 3),
    )


class Thresholds:
    """Counts equal outcomes in a row; the result changes when the threshold is reached."""

    def __init__(self, spec: ProbeSpec, initial: bool) -> None:
        self._spec = spec
        self.result = initial
        self._last: bool | None = None
        self._run = 0
        self.failures = 0
        """Failures in a row."""

    def add(self, success: bool) -> bool:
        """Takes an outcome; true when the result has changed."""
        if success is self._last:
            self._run += 1
        else:
            self._last, self._run = success, 1
        self.failures = 0 if success else self._run
        needed = self._spec.success_threshold if success else self._spec.failure_threshold
        if self._run < needed or self.result is success:
            return False
        self.result = success
        return True
