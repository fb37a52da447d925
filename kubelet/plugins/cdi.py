"""Container Device Interface: what a device's name means for a container.

Specifications (JSON or YAML) lie in ``/etc/cdi`` and ``/var/run/cdi``, the latter wins. Edits of a
specification as a whole count once, those of each device after them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.runtime.interfaces import Mount

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_SUFFIXES = (".json", ".yaml")
_HOOKS = frozenset(
    ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
)


class CDIError(Exception):
    """A device is not known, or can't be had."""


@dataclass(slots=True)
class Edits:
    """What devices change about a container."""

    envs: list[tuple[str, str]] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Obj] = field(default_factory=list)
    """As in an OCI configuration, with ``access`` for the cgroup."""
    hooks: dict[str, list[Obj]] = field(default_factory=dict)
    """As in an OCI configuration, by point."""
    groups: list[int] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    def add(self, other: Edits) -> None:
        self.envs += other.envs
        self.mounts += other.mounts
        self.devices += other.devices
        self.groups += other.groups
        self.annotations |= other.annotations
        for point, hooks in other.hooks.items():
            self.hooks.setdefault(point, []).extend(hooks)


def edits_of(names: Iterable[str], directories: Sequence[str] = DIRECTORIES) -> Edits:
    """Of devices by qualified name, ``vendor/class=device``.

    :raises CDIError: with the names that nobody knows.
    """
    wanted = list(dict.fromkeys(names))
    edits = Edits()
    if not wanted:
        return edits
    known: dict[str, tuple[int, Obj, Obj]] = {}
    for at, spec in enumerate(_specs(directories)):
        for device in spec.get("devices") or ():
            known[f"{spec.get('kind')}={device.get('name')}"] = (at, spec, device)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise CDIError(f"unresolvable CDI devices {', '.join(missing)}")
    seen: set[int] = set()
    for name in wanted:
        at, spec, device = known[name]
        if at not in seen:
            seen.add(at)
            edits.add(parse_edits(spec.get("containerEdits") or {}))
        edits.add(parse_edits(device.get("containerEdits") or {}))
    return edits


def _specs(directories: Sequence[str]) -> Iterable[Obj]:
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            if name.endswith(_SUFFIXES):
                spec = _read(os.path.join(directory, name))
                if isinstance(spec, dict):
                    yield spec


def _read(path: str) -> Any:
    """None: it is no specification (yet)."""
    import yaml

    try:
        with open(path, "rb") as file:
            return yaml.safe_load(file)
    except (OSError, yaml.YAMLError):
        return None


def parse_edits(raw: Obj) -> Edits:
    """:raises CDIError: a device node that is not there."""
    edits = Edits()
    for variable in raw.get("env") or ():
        name, _, value = variable.partition("=")
        edits.envs.append((name, value))
    for mount in raw.get("mounts") or ():
        options = mount.get("options") or ()
        edits.mounts.append(
            Mount(mount["hostPath"], mount["containerPath"], readonly="ro" in options)
        )
    for node in raw.get("deviceNodes") or ():
        edits.devices.append(
            device_node(node.get("hostPath") or node["path"], node["path"],
                        node.get("permissions") or "rwm", node)
        )  # fmt: skip
    for hook in raw.get("hooks") or ():
        point = hook.get("hookName")
        if point not in _HOOKS:
            raise CDIError(f"invalid hook name {point!r}")
        parts = {k: hook[k] for k in ("path", "args", "env", "timeout") if hook.get(k) is not None}
        edits.hooks.setdefault(point, []).append(parts)
    edits.groups += [g for g in raw.get("additionalGids") or () if g]
    return edits


def device_node(host_path: str, path: str, access: str, given: Obj | None = None) -> Obj:
    """An OCI device. :raises CDIError: the node's device is not there."""
    given = given or {}
    try:
        info = os.stat(host_path)
    except OSError as error:
        if given.get("major") is None:
            raise CDIError(f"device {host_path}: {error.strerror}") from error
        kind, major, minor, mode = given.get("type") or "c", given["major"], given["minor"], 0o666
    else:
        if stat.S_ISBLK(info.st_mode):
            kind = "b"
        elif stat.S_ISCHR(info.st_mode):
            kind = "c"
        else:
            raise CDIError(f"{host_path} is not a device node")
        major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        mode = stat.S_IMODE(info.st_mode)
    return {
        "path": path,
        "type": given.get("type") or kind,
        "major": major if given.get("major") is None else given["major"],
        "minor": minor if given.get("minor") is None else given["minor"],
        "fileMode": given.get("fileMode") or mode,
        "uid": given.get("uid") or 0,
        "gid": given.get("gid") or 0,
        "access": access,
    }
