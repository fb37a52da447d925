"""What fake containers do, and which fake images exist: pure rules, each one settable.

A container's behaviour comes from, in this order: annotations of its pod
(``fake.pilothouse.dev/<key>`` or ``fake.pilothouse.dev/<container>.<key>``, keys as in
:data:`ANNOTATION_KEYS`), then its command as far as :func:`infer_run` understands it (``true``,
``false``, ``sleep N``, ``exit N``, ``echo …`` and ``sh -c`` scripts made of these), else an init
container (no sidecar) succeeds at once and others run until they are stopped. A stopped container
exits with 0 when it runs its image's own command (real ones handle TERM) and with 137 when the
pod gives a command (a shell as PID 1 ignores TERM).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilothouse.kubelet.images import reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.kubelet.runtime.interfaces import ContainerConfig, PodSandboxConfig

ANNOTATION_PREFIX = "fake.pilothouse.dev/"
ANNOTATION_KEYS = (
    "start-latency", "stop-latency", "stop-exit-code", "run-for", "exit-code", "start-error",
    "exec-exit-code", "exec-output", "exec-latency",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ContainerBehaviour:
    """``run_for`` None: until stopped. Latencies and ``run_for`` are seconds of the clock."""

    start_latency: float = 0.0
    stop_latency: float = 0.0
    stop_exit_code: int = 0
    run_for: float | None = None
    exit_code: int = 0
    start_error: str = ""
    exec_exit_code: int = 0
    exec_output: str = ""
    exec_latency: float = 0.0


def default_script(sandbox: PodSandboxConfig, container: ContainerConfig) -> ContainerBehaviour:
    """Annotations over the command over "runs until stopped"."""
    argv = [*(container.command or ()), *(container.args or ())]
    behaviour = ContainerBehaviour(stop_exit_code=137 if container.command else 0)
    inferred = infer_run(argv)
    if inferred is None and is_init(container):
        inferred = (0.0, 0)
    if inferred is not None:
        behaviour = replace(behaviour, run_for=inferred[0], exit_code=inferred[1])
    return with_annotations(behaviour, sandbox.annotations, container.name)


def is_init(container: ContainerConfig) -> bool:
    """A container that its pod waits for; a sidecar is none."""
    kind = container.labels.get("io.pilothouse.container.kind")
    sidecar = container.annotations.get("io.pilothouse.container.restartPolicy") == "Always"
    return kind == "init" and not sidecar


def with_annotations(
    behaviour: ContainerBehaviour, annotations: Mapping[str, str], container: str
) -> ContainerBehaviour:
    """``behaviour`` as changed by the pod's annotations; values that don't parse are ignored."""
    changes: dict[str, object] = {}
    for key in ANNOTATION_KEYS:
        value = annotations.get(f"{ANNOTATION_PREFIX}{container}.{key}")
        value = annotations.get(f"{ANNOTATION_PREFIX}{key}") if value is None else value
        if value is None:
            continue
        try:
            changes[key.replace("-", "_")] = _typed(key, value)
        except ValueError:
            continue
    return replace(behaviour, **changes) if changes else behaviour  # type: ignore[arg-type]


def _typed(key: str, value: str) -> object:
    if key in ("start-error", "exec-output"):
        return value
    return int(value) if key.endswith("exit-code") else float(value)


def infer_run(argv: Sequence[str]) -> tuple[float, int] | None:
    """(seconds, exit code) of a command whose end is plain to see, else None."""
    if not argv:
        return None
    name = argv[0].rsplit("/", 1)[-1]
    if name in ("sh", "bash", "ash") and len(argv) >= 3 and argv[1] in ("-c", "-ec"):
        return _infer_script(argv[2], stop_at_failure=argv[1] == "-ec")
    return _infer_simple(argv)


def _infer_simple(argv: Sequence[str]) -> tuple[float, int] | None:
    name = argv[0].rsplit("/", 1)[-1]
    if name in ("true", ":", "echo", "printf"):
        return 0.0, 0
    if name == "false":
        return 0.0, 1
    if name == "exit":
        code = argv[1] if len(argv) > 1 else "0"
        return (0.0, int(code) & 0xFF) if code.isdigit() else None
    if name == "sleep" and len(argv) == 2 and re.fullmatch(r"\d+(\.\d+)?s?", argv[1]):
        return float(argv[1].rstrip("s")), 0
    return None


def _infer_script(script: str, *, stop_at_failure: bool) -> tuple[float, int] | None:
    total, code = 0.0, 0
    for piece in re.split(r"(&&|;|\n)", script):
        if piece == "&&" and code != 0:
            return total, code
        if piece in ("&&", ";", "\n") or not piece.strip():
            continue
        if re.search(r"[|&<>$`(){}*\\]", piece):
            return None
        try:
            words = shlex.split(piece)
        except ValueError:
            return None
        step = _infer_simple(words) if words else (0.0, code)
        if step is None:
            return None
        total, code = total + step[0], step[1]
        if words[:1] == ["exit"] or (stop_at_failure and code):
            break
    return total, code


_ABSENT_WORDS = re.compile(
    r"non-?exist|not-?exist|does-?not-?exist|not-?found|\bmissing\b|\binvalid\b|\bwrong\b|\bbogus\b"
)


def image_is_known(text: str) -> bool:
    """The default rule: every well-formed name exists unless it says itself that it doesn't.

    Absent are: names that don't parse; tag ``404``; a registry, path or tag with a word such as
    ``invalid``, ``nonexistent``, ``not-found``, ``missing``, ``wrong`` or ``bogus``. These are the
    made-up names that upstream's tests expect to fail (``webserver:404``, ``foo:non-existent``,
    ``invalid.registry.k8s.io/invalid/alpine:3.1``).
    """
    try:
        ref = reference.parse(text)
    except reference.InvalidReference:
        return False
    return ref.tag != "404" and not _ABSENT_WORDS.search(f"{ref.repository}:{ref.tag}")
