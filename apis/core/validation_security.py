"""Security contexts of pods and containers, on Linux and Windows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.pod_helpers import visit_containers
from pilothouse.apis.core.validation_paths import local_descending_path, user_id
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL_PATTERN = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_SYSCTL = re.compile(_SYSCTL_PATTERN[:-1])
_IPC_SYSCTLS = frozenset(("kernel.sem", "kernel.shm_rmid_forced"))
_IPC_PREFIXES = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def validate_security_context(
    errors: ErrorList, context: Obj, path: str, *, host_users: bool, allow_sys_admin: bool = False
) -> None:
    """ValidateSecurityContext of a container (privileged containers are allowed)."""
    user_id(errors, context, "runAsUser", path)
    user_id(errors, context, "runAsGroup", path)
    proc_mount = context.get("procMount")
    if proc_mount is not None:
        if proc_mount not in ("Default", "Unmasked"):
            errors.append(not_supported(f"{path}.procMount", proc_mount, ("Default", "Unmasked")))
        if host_users and proc_mount == "Unmasked":
            message = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", proc_mount, message))
    _seccomp(errors, context, path)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid(path, context, message))
        added = (context.get("capabilities") or {}).get("add") or ()
        if not allow_sys_admin and "CAP_SYS_ADMIN" in added:
            message = (
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
                "CAP_SYS_ADMIN"
            )
            errors.append(invalid(path, context, message))
    _windows_options(errors, context, path)
    app_armor_profile(errors, context.get("appArmorProfile"), f"{path}.appArmorProfile")


def validate_pod_security_context(
    errors: ErrorList, context: Obj, spec: Obj, path: str, *, allow_host_sysctls: bool = False
) -> None:
    if not context:
        return
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        user_id(errors, context, field, path)
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        messages = names.is_valid_user_id(group)
        if messages:
            add_all(errors, f"{path}.supplementalGroups[{i}]", group, messages)
    sysctls = context.get("sysctls")
    if sysctls:
        _sysctls(errors, sysctls, spec, f"{path}.sysctls", allow_host_sysctls)
    _one_of(errors, context, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), path)
    _seccomp(errors, context, path)
    _windows_options(errors, context, path)
    app_armor_profile(errors, context.get("appArmorProfile"), f"{path}.appArmorProfile")
    _one_of(errors, context, "supplementalGroupsPolicy", ("Merge", "Strict"), path)
    _one_of(errors, context, "seLinuxChangePolicy", ("MountOption", "Recursive"), path)


def _one_of(errors: ErrorList, context: Obj, field: str, valid: tuple[str, ...], path: str) -> None:
    value = context.get(field)
    if value is not None and value not in valid:
        errors.append(not_supported(f"{path}.{field}", value, valid))


def _seccomp(errors: ErrorList, context: Obj, path: str) -> None:
    profile = context.get("seccompProfile")
    if profile is None:
        return
    path = f"{path}.seccompProfile"
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        message = "type is required when seccompProfile is set"
        errors.append(required(f"{path}.type", message))
    elif kind not in _PROFILE_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _PROFILE_TYPES))
    if kind == "Localhost":
        if local is None:
            message = "must be set when seccomp type is Localhost"
            errors.append(required(f"{path}.localhostProfile", message))
        else:
            local_descending_path(errors, local, f"{path}.localhostProfile")
    elif local is not None:
        message = "can only be set when seccomp type is Localhost"
        errors.append(invalid(f"{path}.localhostProfile", profile, message))


def app_armor_profile(errors: ErrorList, profile: Obj | None, path: str) -> None:
    """ValidateAppArmorProfileField."""
    if profile is None:
        return
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    at = f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None:
            errors.append(required(at, "must be set when AppArmor type is Localhost"))
            return
        if local.strip() != local:
            errors.append(invalid(at, local, "must not be padded with whitespace"))
        elif not local:
            errors.append(required(at, "must be set when AppArmor type is Localhost"))
        if len(local.encode()) > 4095:
            errors.append(too_long(at, 4095))
    elif kind in ("RuntimeDefault", "Unconfined"):
        if local is not None:
            errors.append(invalid(at, local, "can only be set when AppArmor type is Localhost"))
    elif not kind:
        message = "type is required when appArmorProfile is set"
        errors.append(required(f"{path}.type", message))
    else:
        errors.append(not_supported(f"{path}.type", kind, _PROFILE_TYPES))


def sysctl_needs_own_namespace(name: str, spec: Obj) -> str:
    """The message when the sysctl's namespace is the host's (ValidateHostSysctl)."""
    name = name.replace("/", ".")
    if spec.get("hostNetwork") and name.startswith("net."):
        return "may not be specified when 'hostNetwork' is true"
    in_ipc = name in _IPC_SYSCTLS or name.startswith(_IPC_PREFIXES)
    if spec.get("hostIPC") and in_ipc:
        return "may not be specified when 'hostIPC' is true"
    return ""


def _sysctls(errors: ErrorList, sysctls: list[Obj], spec: Obj, path: str, allow_host: bool) -> None:
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        name = sysctl.get("name") or ""
        at = f"{path}[{i}].name"
        if not name:
            errors.append(required(at))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            message = f"must have at most 253 characters and match regex {_SYSCTL_PATTERN}"
            errors.append(invalid(at, name, message))
        elif name in seen:
            errors.append(duplicate(at, name))
        message = "" if allow_host else sysctl_needs_own_namespace(name, spec)
        if message:
            errors.append(invalid(at, name, message))
        seen.add(name)


# -- Windows ----------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DNS_PART = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_WINDOWS_DOMAIN = re.compile(rf"{_DNS_PART}(?:\.{_DNS_PART})*")
_BAD_USER_CHARACTERS = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_DOTS_AND_SPACES = re.compile(r"[. ]+")


def _windows_options(errors: ErrorList, context: Obj, path: str) -> None:
    options = context.get("windowsOptions")
    if options is None:
        return
    path = f"{path}.windowsOptions"
    name = options.get("gmsaCredentialSpecName")
    if name is not None:
        add_all(errors, f"{path}.gmsaCredentialSpecName", name, names.is_dns1123_subdomain(name))
    credential = options.get("gmsaCredentialSpec")
    if credential is not None:
        if not credential:
            message = "gmsaCredentialSpec cannot be an empty string"
            errors.append(invalid(f"{path}.gmsaCredentialSpec", credential, message))
        elif len(credential.encode()) > 65536:
            message = "gmsaCredentialSpec size must be under 64 KiB"
            errors.append(invalid(f"{path}.gmsaCredentialSpec", credential, message))
    user = options.get("runAsUserName")
    if user is not None:
        add_all(errors, f"{path}.runAsUserName", user, _windows_user(user))


def _windows_user(name: str) -> list[str]:
    if not name:
        return ["runAsUserName cannot be an empty string"]
    if _CONTROL.search(name):
        return ["runAsUserName cannot contain control characters"]
    parts = name.split("\\")
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    user, domain = parts[-1], parts[0] if len(parts) == 2 else None
    messages = []
    if domain is not None:
        if len(domain) >= 256:
            messages.append("runAsUserName's Domain length must be under 256 characters")
        if not _NETBIOS.fullmatch(domain) and not _WINDOWS_DOMAIN.fullmatch(domain):
            messages.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    if not user:
        messages.append("runAsUserName's User cannot be empty")
    elif len(user) > 104:
        messages.append("runAsUserName's User length must not be longer than 104 characters")
    if _DOTS_AND_SPACES.fullmatch(user):
        messages.append("runAsUserName's User cannot contain only periods or spaces")
    if _BAD_USER_CHARACTERS.search(user):
        messages.append(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
        )
    return messages


def windows_host_process(errors: ErrorList, spec: Obj, path: str) -> None:
    """validateWindowsHostProcessPod: all containers or none."""
    pod_value = _host_process(spec)
    if pod_value is None and not any(
        (c.get("securityContext") or {}).get("windowsOptions") for c, _ in visit_containers(spec)
    ):
        return
    total = with_host_process = 0
    for container, at in visit_containers(spec, path):
        total += 1
        value = _host_process(container)
        if pod_value is not None and value is not None and pod_value != value:
            message = (
                "pod hostProcess value must be identical if both are specified, was "
                f"{'true' if pod_value else 'false'}"
            )
            errors.append(
                invalid(f"{at}.securityContext.windowsOptions.hostProcess", value, message)
            )
        with_host_process += bool(pod_value if value is None else value)
    if not with_host_process:
        return
    if with_host_process != total:
        message = (
            "If pod contains any hostProcess containers then all containers must be "
            "HostProcess containers"
        )
        errors.append(invalid(path, "", message))
    if not spec.get("hostNetwork"):
        message = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(invalid(f"{path}.hostNetwork", False, message))


def _host_process(holder: Obj) -> bool | None:
    options = (holder.get("securityContext") or {}).get("windowsOptions") or {}
    value = options.get("hostProcess")
    return None if value is None else bool(value)


_POD_NOT_ON_WINDOWS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_CONTAINER_NOT_ON_WINDOWS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def validate_os(errors: ErrorList, spec: Obj, path: str) -> None:
    """``spec.os`` and the fields that do not go with it."""
    name = spec["os"].get("name") or ""
    if not name:
        errors.append(required(f"{path}.os.name"))
    elif name not in ("linux", "windows"):
        errors.append(not_supported(f"{path}.os", name, ("linux", "windows")))
    elif name == "linux":
        _only_linux(errors, spec, path)
    else:
        _only_windows(errors, spec, path)


def _only_linux(errors: ErrorList, spec: Obj, path: str) -> None:
    message = "windows options cannot be set for a linux pod"
    holders = [(spec, path), *visit_containers(spec, path)]
    for holder, at in holders:
        if (holder.get("securityContext") or {}).get("windowsOptions") is not None:
            errors.append(forbidden(f"{at}.securityContext.windowsOptions", message))


def _only_windows(errors: ErrorList, spec: Obj, path: str) -> None:
    message = "cannot be set for a windows pod"
    context = spec.get("securityContext") or {}
    for field in _POD_NOT_ON_WINDOWS:
        if context.get(field):
            errors.append(forbidden(f"{path}.securityContext.{field}", message))
        elif context.get(field) == 0:
            errors.append(forbidden(f"{path}.securityContext.{field}", message))
    if spec.get("hostUsers") is not None:
        errors.append(forbidden(f"{path}.hostUsers", message))
    for field in ("hostPID", "hostIPC"):
        if spec.get(field):
            errors.append(forbidden(f"{path}.{field}", message))
    if spec.get("shareProcessNamespace") is not None:
        errors.append(forbidden(f"{path}.shareProcessNamespace", message))
    for container, at in visit_containers(spec, path):
        own = container.get("securityContext") or {}
        for field in _CONTAINER_NOT_ON_WINDOWS:
            if own.get(field) is not None:
                errors.append(forbidden(f"{at}.securityContext.{field}", message))
