"""Probes, lifecycle hooks and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import add_all, forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_SIGNALS_WINDOWS = ("SIGKILL", "SIGTERM")
_SIGNALS_LINUX = frozenset(
    "SIG" + name
    for name in (
        "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV "
        "STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
    ).split()
    + [f"RTMIN+{n}" for n in range(1, 16)]
    + [f"RTMAX-{n}" for n in range(1, 15)]
)


def validate_probes(errors: ErrorList, container: Obj, grace_period: int | None, path: str) -> None:
    """Liveness, readiness and start-up probe of one container."""
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(field)
        if probe is None:
            continue
        at = f"{path}.{field}"
        _probe(errors, probe, grace_period, at)
        if field == "readinessProbe":
            seconds = probe.get("terminationGracePeriodSeconds")
            if seconds is not None:
                message = "must not be set for readinessProbes"
                errors.append(invalid(f"{at}.terminationGracePeriodSeconds", seconds, message))
        elif (probe.get("successThreshold") or 0) != 1:
            threshold = probe.get("successThreshold") or 0
            errors.append(invalid(f"{at}.successThreshold", threshold, "must be 1"))


def _probe(errors: ErrorList, probe: Obj, grace_period: int | None, path: str) -> None:
    _handler(errors, probe, _PROBE_HANDLERS, grace_period, path)
    for field in _PROBE_NUMBERS:
        if (probe.get(field) or 0) < 0:
            check.nonnegative(errors, probe, field, path)
    seconds = probe.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        message = "must be greater than 0"
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", seconds, message))


def validate_lifecycle(
    errors: ErrorList, lifecycle: Obj, grace_period: int | None, path: str, os: Obj | None
) -> None:
    for hook in ("postStart", "preStop"):
        handler = lifecycle.get(hook)
        if handler is not None:
            _handler(errors, handler, _HOOK_HANDLERS, grace_period, f"{path}.{hook}")
    signal = lifecycle.get("stopSignal")
    if signal is not None:
        _stop_signal(errors, signal, f"{path}.stopSignal", os)


def _stop_signal(errors: ErrorList, signal: str, path: str, os: Obj | None) -> None:
    if os is None:
        message = "may not be set for containers with empty `spec.os.name`"
        errors.append(forbidden(path, message))
    elif os.get("name") == "windows":
        if signal not in _SIGNALS_WINDOWS:
            errors.append(not_supported(path, signal, _SIGNALS_WINDOWS))
    elif os.get("name") == "linux" and signal not in _SIGNALS_LINUX:
        errors.append(not_supported(path, signal, sorted(_SIGNALS_LINUX)))


def _handler(
    errors: ErrorList, obj: Obj, kinds: Sequence[str], grace_period: int | None, path: str
) -> None:
    found = False
    for kind in kinds:
        handler = obj.get(kind)
        if handler is None:
            continue
        if found:
            message = "may not specify more than 1 handler type"
            errors.append(forbidden(f"{path}.{kind}", message))
        else:
            found = True
            _HANDLER_CHECKS[kind](errors, handler, f"{path}.{kind}", grace_period)
    if not found:
        errors.append(required(path, "must specify a handler type"))


def _exec(errors: ErrorList, handler: Obj, path: str, _grace: int | None) -> None:
    if not handler.get("command"):
        errors.append(required(f"{path}.command"))


def _http_get(errors: ErrorList, handler: Obj, path: str, _grace: int | None) -> None:
    if not handler.get("path"):
        errors.append(required(f"{path}.path"))
    check.port_number_or_name(errors, handler.get("port"), f"{path}.port")
    scheme = handler.get("scheme") or ""
    if scheme not in ("HTTP", "HTTPS"):
        errors.append(not_supported(f"{path}.scheme", scheme, ("HTTP", "HTTPS")))
    for header in handler.get("httpHeaders") or ():
        messages = names.is_http_header_name(header.get("name") or "")
        if messages:
            add_all(errors, f"{path}.httpHeaders", header.get("name") or "", messages)
    protocol = handler.get("protocol")
    if protocol is not None:
        _http_protocol(errors, handler, protocol, scheme, path)


def _http_protocol(errors: ErrorList, handler: Obj, protocol: str, scheme: str, path: str) -> None:
    if protocol not in ("HTTP1", "HTTP2"):
        errors.append(not_supported(f"{path}.protocol", protocol, ("HTTP1", "HTTP2")))
    elif protocol == "HTTP2" and scheme != "HTTP":
        message = "is only supported with HTTP (H2C)"
        errors.append(invalid(f"{path}.protocol", protocol, message))
    elif protocol == "HTTP2" and handler.get("host"):
        message = 'must be empty when `protocol` is "HTTP2"'
        errors.append(invalid(f"{path}.host", handler["host"], message))


def _tcp_socket(errors: ErrorList, handler: Obj, path: str, _grace: int | None) -> None:
    check.port_number_or_name(errors, handler.get("port"), f"{path}.port")


def _grpc(errors: ErrorList, handler: Obj, path: str, _grace: int | None) -> None:
    check.port_number(errors, handler.get("port") or 0, f"{path}.port")
    mode = handler.get("mode")
    if mode is not None and mode not in ("Plaintext", "TLS"):
        errors.append(not_supported(f"{path}.mode", mode, ("Plaintext", "TLS")))


def _sleep(errors: ErrorList, handler: Obj, path: str, grace_period: int | None) -> None:
    seconds = handler.get("seconds") or 0
    if grace_period is not None and not 0 <= seconds <= grace_period:
        message = (
            f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
        )
        errors.append(invalid(path, seconds, message))


_HANDLER_CHECKS: dict[str, Callable[[ErrorList, Obj, str, int | None], None]] = {
    "exec": _exec,
    "httpGet": _http_get,
    "tcpSocket": _tcp_socket,
    "grpc": _grpc,
    "sleep": _sleep,
}
