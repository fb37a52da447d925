"""The Pod Security Standards, level by level (pod-security-admission/policy); pure.

A check gives (reason, detail) or None. :func:`violations` runs those of a level and version in
upstream's order: baseline checks by id, then restricted ones by id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.apiserver.pod_references import containers

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

Violation = tuple[str, str]
CheckFunction = Callable[["Obj", "Obj", int], "Violation | None"]
"""Of (metadata, spec, minor version)."""
LATEST = 10_000
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)


class Check(NamedTuple):
    id: str
    level: str
    since: int
    function: CheckFunction
    overrides: tuple[str, ...] = ()


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(json.dumps(item, ensure_ascii=False) for item in items)


def _plural(singular: str, count: int) -> str:
    return singular if count == 1 else singular + "s"


def _named(kind: str, names: Sequence[str]) -> str:
    return f"{_plural(kind, len(names))} {_quoted(names)}"


def _setters(pod: bool, names: Sequence[str]) -> str:
    parts = ["pod"] if pod else []
    if names:
        parts.append(_named("container", names))
    return " and ".join(parts)


def _security(holder: Obj) -> Obj:
    return holder.get("securityContext") or {}


def _is_windows(spec: Obj) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _has_user_namespace(spec: Obj) -> bool:
    return spec.get("hostUsers") is False


def _name(container: Obj) -> str:
    return str(container.get("name") or "")


def _app_armor(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    values: set[str] = set()

    def bad(holder: Obj) -> bool:
        profile = _security(holder).get("appArmorProfile")
        if profile is None or profile.get("type") in ("RuntimeDefault", "Localhost"):
            return False
        values.add(profile.get("type") or "")
        return True

    pod = bad(spec)
    names = [_name(c) for c in containers(spec) if bad(c)]
    annotations = sorted(
        f"{key}={json.dumps(value)}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith("container.apparmor.security.beta.kubernetes.io/")
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    setters = [text for text in (_setters(pod, names),) if text]
    if annotations:
        setters.append(_plural("annotation", len(annotations)))
    if not setters:
        return None
    listed = sorted(values) + annotations
    return (
        _plural("forbidden AppArmor profile", len(listed)),
        f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(listed)}",
    )


_DEFAULT_CAPABILITIES = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID "
    "SETPCAP SETUID SYS_CHROOT".split()
)


def _capabilities_baseline(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    names: list[str] = []
    added: set[str] = set()
    for container in containers(spec):
        capabilities = _security(container).get("capabilities") or {}
        extra = set(capabilities.get("add") or ()) - _DEFAULT_CAPABILITIES
        if extra:
            names.append(_name(container))
            added |= extra
    if not names:
        return None
    return (
        "non-default capabilities",
        f"{_named('container', names)} must not include {_quoted(sorted(added))} in "
        "securityContext.capabilities.add",
    )


def _host_namespaces(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    used = [f"{f}=true" for f in ("hostNetwork", "hostPID", "hostIPC") if spec.get(f)]
    return ("host namespaces", ", ".join(used)) if used else None


def _host_paths(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    names = [v.get("name") or "" for v in spec.get("volumes") or () if "hostPath" in v]
    return ("hostPath volumes", _named("volume", names)) if names else None


def _host_ports(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    names: list[str] = []
    found: set[str] = set()
    for container in containers(spec):
        ports = [p["hostPort"] for p in container.get("ports") or () if p.get("hostPort")]
        if ports:
            names.append(_name(container))
            found.update(str(port) for port in ports)
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    ports_text = f"{_plural('hostPort', len(found))} {', '.join(sorted(found))}"
    return "hostPort", f"{_named('container', names)} {verb} {ports_text}"


def _host_probes(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    names: set[str] = set()
    hosts: set[str] = set()
    for container in containers(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(f) for f in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        for handler in handlers:
            for action in ("httpGet", "tcpSocket"):
                if host := ((handler or {}).get(action) or {}).get("host"):
                    names.add(_name(container))
                    hosts.add(host)
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    title = _plural("probe or lifecycle host", len(hosts))
    return (
        "probe or lifecycle host",
        f"{_named('container', sorted(names))} {verb} {title} {_quoted(sorted(hosts))}",
    )


def _privileged(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    names = [_name(c) for c in containers(spec) if _security(c).get("privileged")]
    if not names:
        return None
    return (
        "privileged",
        f"{_named('container', names)} must not set securityContext.privileged=true",
    )


def _proc_mount(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version >= 35 and _has_user_namespace(spec):
        return None
    return _proc_mount_always(metadata, spec, version)


def _proc_mount_always(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    bad = {
        _name(c): _security(c)["procMount"]
        for c in containers(spec)
        if _security(c).get("procMount", "Default") != "Default"
    }
    if not bad:
        return None
    values = _quoted(sorted(set(bad.values())))
    names = _named("container", list(bad))
    return "procMount", f"{names} must not set securityContext.procMount to {values}"


def _selinux(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    allowed = {"", "container_t", "container_init_t", "container_kvm_t"}
    if version >= 31:
        allowed.add("container_engine_t")
    types: set[str] = set()
    set_fields: set[str] = set()

    def bad(holder: Obj) -> bool:
        options = _security(holder).get("seLinuxOptions")
        if options is None:
            return False
        fields = {field for field in ("user", "role") if options.get(field)}
        kind = options.get("type") or ""
        if kind not in allowed:
            types.add(kind)
        set_fields.update(fields)
        return bool(fields) or kind not in allowed

    pod = bad(spec)
    names = [_name(c) for c in containers(spec) if bad(c)]
    if not pod and not names:
        return None
    parts = [_named("type", sorted(types))] if types else []
    parts += [f"{f} may not be set" for f in ("user", "role") if f in set_fields]
    return (
        "seLinuxOptions",
        f"{_setters(pod, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(parts)}",
    )


def _seccomp_baseline(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version < 19:
        return _seccomp_annotations(metadata, spec)
    return _seccomp_explicit(spec)


def _seccomp_annotations(metadata: Obj, spec: Obj) -> Violation | None:
    annotations = metadata.get("annotations") or {}
    keys = ["seccomp.security.alpha.kubernetes.io/pod"]
    prefix = "container.seccomp.security.alpha.kubernetes.io/"
    keys += [prefix + _name(container) for container in containers(spec)]
    bad = sorted(
        {
            f"{key}={json.dumps(annotations[key])}"
            for key in keys
            if key in annotations
            and annotations[key] not in ("runtime/default", "docker/default")
            and not annotations[key].startswith("localhost/")
        }
    )
    if not bad:
        return None
    return "seccompProfile", f"forbidden {_plural('annotation', len(bad))} {', '.join(bad)}"


def _seccomp_type(holder: Obj) -> str | None:
    profile = _security(holder).get("seccompProfile")
    return None if profile is None else profile.get("type") or ""


def _seccomp_explicit(spec: Obj) -> Violation | None:
    valid = (None, "RuntimeDefault", "Localhost")
    pod = _seccomp_type(spec)
    bad = {_name(c): _seccomp_type(c) for c in containers(spec) if _seccomp_type(c) not in valid}
    if pod in valid and not bad:
        return None
    values = {value or "" for value in bad.values()} | ({pod or ""} if pod not in valid else set())
    return (
        "seccompProfile",
        f"{_setters(pod not in valid, list(bad))} must not set securityContext.seccompProfile.type "
        f"to {_quoted(sorted(values))}",
    )


def _seccomp_restricted(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version >= 25 and _is_windows(spec):
        return None
    explicit = _seccomp_explicit(spec)
    if explicit or _seccomp_type(spec) is not None:
        return explicit
    names = [_name(c) for c in containers(spec) if _seccomp_type(c) is None]
    if not names:
        return None
    return (
        "seccompProfile",
        f"pod or {_named('container', names)} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost"',
    )


_SYSCTLS: tuple[tuple[int, frozenset[str]], ...] = (
    (
        0,
        frozenset(
            {
                "kernel.shm_rmid_forced",
                "net.ipv4.ip_local_port_range",
                "net.ipv4.tcp_syncookies",
                "net.ipv4.ping_group_range",
                "net.ipv4.ip_unprivileged_port_start",
            }
        ),
    ),
    (27, frozenset({"net.ipv4.ip_local_reserved_ports"})),
    (
        29,
        frozenset(
            {
                "net.ipv4.tcp_keepalive_time",
                "net.ipv4.tcp_fin_timeout",
                "net.ipv4.tcp_keepalive_intvl",
                "net.ipv4.tcp_keepalive_probes",
            }
        ),
    ),
    (32, frozenset({"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"})),
    (37, frozenset({"net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat"})),
)


def _sysctls(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    allowed = {name for since, names in _SYSCTLS if version >= since for name in names}
    asked = [sysctl.get("name") or "" for sysctl in _security(spec).get("sysctls") or ()]
    bad = [name for name in asked if name not in allowed]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def _windows_host_process(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    def bad(holder: Obj) -> bool:
        return bool((_security(holder).get("windowsOptions") or {}).get("hostProcess"))

    names = [_name(c) for c in containers(spec) if bad(c)]
    setters = _setters(bad(spec), names)
    if not setters:
        return None
    return (
        "hostProcess",
        f"{setters} must not set securityContext.windowsOptions.hostProcess=true",
    )


def _privilege_escalation(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version >= 25 and _is_windows(spec):
        return None
    names = [
        _name(c)
        for c in containers(spec)
        if _security(c).get("allowPrivilegeEscalation") is not False
    ]
    if not names:
        return None
    return (
        "allowPrivilegeEscalation != false",
        f"{_named('container', names)} must set securityContext.allowPrivilegeEscalation=false",
    )


def _capabilities_restricted(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version >= 25 and _is_windows(spec):
        return None
    keeping: list[str] = []
    adding: list[str] = []
    added: set[str] = set()
    for container in containers(spec):
        capabilities = _security(container).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            keeping.append(_name(container))
        extra = set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}
        if extra:
            adding.append(_name(container))
            added |= extra
    details = []
    if keeping:
        details.append(
            f'{_named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]'
        )
    if adding:
        details.append(
            f"{_named('container', adding)} must not include {_quoted(sorted(added))} in "
            "securityContext.capabilities.add"
        )
    return ("unrestricted capabilities", "; ".join(details)) if details else None


_FREE_VOLUMES = frozenset(
    "configMap csi downwardAPI emptyDir ephemeral image persistentVolumeClaim projected "
    "secret".split()
)


def _restricted_volumes(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    bad: dict[str, str] = {}
    for volume in spec.get("volumes") or ():
        kinds: list[Any] = [key for key in volume if key != "name"]
        if not _FREE_VOLUMES.intersection(kinds):
            bad[volume.get("name") or ""] = kinds[0] if kinds else "unknown"
    if not bad:
        return None
    kinds = sorted(set(bad.values()))
    verb = "uses" if len(bad) == 1 else "use"
    title = _plural("restricted volume type", len(kinds))
    return (
        "restricted volume types",
        f"{_named('volume', list(bad))} {verb} {title} {_quoted(kinds)}",
    )


def _run_as_non_root(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version >= 35 and _has_user_namespace(spec):
        return None
    pod = _security(spec).get("runAsNonRoot")
    wishes = {_name(c): _security(c).get("runAsNonRoot") for c in containers(spec)}
    reason = "runAsNonRoot != true"
    setters = _setters(pod is False, [name for name, wish in wishes.items() if wish is False])
    if setters:
        return reason, f"{setters} must not set securityContext.runAsNonRoot=false"
    silent = [name for name, wish in wishes.items() if wish is None]
    if pod or not silent:
        return None
    names = _named("container", silent)
    return reason, f"pod or {names} must set securityContext.runAsNonRoot=true"


def _run_as_user(metadata: Obj, spec: Obj, version: int) -> Violation | None:
    if version >= 35 and _has_user_namespace(spec):
        return None
    names = [_name(c) for c in containers(spec) if _security(c).get("runAsUser") == 0]
    setters = _setters(_security(spec).get("runAsUser") == 0, names)
    return ("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


CHECKS: tuple[Check, ...] = (
    Check("appArmorProfile", BASELINE, 0, _app_armor),
    Check("capabilities_baseline", BASELINE, 0, _capabilities_baseline),
    Check("hostNamespaces", BASELINE, 0, _host_namespaces),
    Check("hostPathVolumes", BASELINE, 0, _host_paths),
    Check("hostPorts", BASELINE, 0, _host_ports),
    Check("hostProbesAndHostLifecycle", BASELINE, 34, _host_probes),
    Check("privileged", BASELINE, 0, _privileged),
    Check("procMount", BASELINE, 0, _proc_mount),
    Check("seLinuxOptions", BASELINE, 0, _selinux),
    Check("seccompProfile_baseline", BASELINE, 0, _seccomp_baseline),
    Check("sysctls", BASELINE, 0, _sysctls),
    Check("windowsHostProcess", BASELINE, 0, _windows_host_process),
    Check("allowPrivilegeEscalation", RESTRICTED, 8, _privilege_escalation),
    Check(
        "capabilities_restricted",
        RESTRICTED,
        22,
        _capabilities_restricted,
        ("capabilities_baseline",),
    ),
    Check("procMount_restricted", RESTRICTED, 35, _proc_mount_always, ("procMount",)),
    Check("restrictedVolumes", RESTRICTED, 0, _restricted_volumes, ("hostPathVolumes",)),
    Check("runAsNonRoot", RESTRICTED, 0, _run_as_non_root),
    Check("runAsUser", RESTRICTED, 23, _run_as_user),
    Check(
        "seccompProfile_restricted",
        RESTRICTED,
        19,
        _seccomp_restricted,
        ("seccompProfile_baseline",),
    ),
)


def violations(level: str, version: int, metadata: Obj, spec: Obj) -> list[Violation]:
    """What a pod does that ``level`` forbids; ``version`` is a minor or :data:`LATEST`."""
    if level == PRIVILEGED:
        return []
    levels = (BASELINE,) if level == BASELINE else (BASELINE, RESTRICTED)
    active = [check for check in CHECKS if check.level in levels and version >= check.since]
    overridden = {name for check in active for name in check.overrides}
    found = (
        check.function(metadata, spec, version) for check in active if check.id not in overridden
    )
    return [violation for violation in found if violation is not None]


def describe(found: Sequence[Violation]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)
