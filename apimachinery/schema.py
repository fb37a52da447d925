"""Names of groups, versions, kinds and resources (apimachinery runtime/schema)."""

from __future__ import annotations

from typing import NamedTuple


class GroupResource(NamedTuple):
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


class GroupKind(NamedTuple):
    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class GroupVersion(NamedTuple):
    group: str
    version: str

    def __str__(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class GroupVersionKind(NamedTuple):
    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)

    def __str__(self) -> str:
        return f"{self.group}/{self.version}, Kind={self.kind}"


class GroupVersionResource(NamedTuple):
    group: str
    version: str
    resource: str

    @property
    def group_resource(self) -> GroupResource:
        return GroupResource(self.group, self.resource)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


def parse_api_version(api_version: str) -> GroupVersion:
    """``apps/v1`` or ``v1``. :raises ValueError: more than one slash (upstream's message)."""
    parts = api_version.split("/")
    if len(parts) == 1:
        return GroupVersion("", parts[0])
    if len(parts) == 2:
        return GroupVersion(parts[0], parts[1])
    raise ValueError(f"unexpected GroupVersion string: {api_version}")


def gvk_of(obj: dict[str, object]) -> GroupVersionKind:
    """The object's group, version and kind; empty strings where it has none."""
    group, version = parse_api_version(str(obj.get("apiVersion") or ""))
    return GroupVersionKind(group, version, str(obj.get("kind") or ""))
