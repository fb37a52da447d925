"""PodSecurity: the level that a namespace's labels ask for (pod-security-admission)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.errors import new_forbidden, new_internal_error, new_invalid
from pilothouse.apimachinery.fieldpath import ErrorList, Path, invalid
from pilothouse.apimachinery.object import controller_of, get_nested
from pilothouse.apiserver.admission.plugin import NAMESPACES, PODS, Plugin
from pilothouse.apiserver.admission.pod_security_checks import (
    LATEST,
    LEVELS,
    PRIVILEGED,
    RESTRICTED,
    Violation,
    describe,
    violations,
)
from pilothouse.apiserver.admission.pod_security_metrics import PodSecurityMetrics
from pilothouse.componentbase.version import GIT_VERSION

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Attributes, Listers, Operation

PREFIX = "pod-security.kubernetes.io/"
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
_MAX_PODS = 3000
_OWN_MINOR = int(GIT_VERSION.split(".")[1])


class LevelVersion(NamedTuple):
    level: str = PRIVILEGED
    version: int = LATEST

    def __str__(self) -> str:
        version = "latest" if self.version == LATEST else f"v1.{self.version}"
        return f"{self.level}:{version}"


class Policy(NamedTuple):
    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()

    @property
    def privileged(self) -> bool:
        return all(mode.level == PRIVILEGED for mode in self)


def policy_of(labels: dict[str, str]) -> tuple[Policy, ErrorList]:
    """The policy that a namespace's labels ask for, and what is wrong with them."""
    if not any(key.startswith(PREFIX) for key in labels):
        return Policy(), []
    errors: ErrorList = []
    path = Path("metadata", "labels")
    modes: dict[str, LevelVersion] = {}
    for mode in ("enforce", "audit", "warn"):
        level, version = PRIVILEGED, LATEST
        key = f"{PREFIX}{mode}"
        if key in labels:
            level = labels[key]
            if level not in LEVELS:
                detail = f"must be one of {', '.join(LEVELS)}"
                errors.append(invalid(path.key(key), level, detail))
                # A typing error must not open the door; the soft modes may stay silent.
                level = RESTRICTED if mode == "enforce" else PRIVILEGED
        key = f"{PREFIX}{mode}-version"
        if key in labels and labels[key] != "latest":
            match = _VERSION.fullmatch(labels[key])
            if match is None:
                errors.append(invalid(path.key(key), labels[key], 'must be "latest" or "v1.x"'))
            else:
                version = int(match[1])
        modes[mode] = LevelVersion(level, version)
    enforce_label = labels.get(f"{PREFIX}enforce")
    if f"{PREFIX}warn" not in labels and enforce_label in LEVELS:
        stated = modes["warn"].version
        enforced = modes["enforce"]
        if LEVELS.index(enforced.level) > LEVELS.index(modes["warn"].level):
            keep = f"{PREFIX}warn-version" in labels
            modes["warn"] = LevelVersion(enforced.level, stated if keep else enforced.version)
    return Policy(**modes), errors


class PodSecurity(Plugin):
    def set_up(self) -> None:
        self._made: PodSecurityMetrics | None = None

    @property
    def _metrics(self) -> PodSecurityMetrics:
        if self._made is None:
            registry = self.context.hooks.metrics
            made = PodSecurityMetrics() if registry is None else registry.shared(PodSecurityMetrics)
            self._made = made
        return self._made

    def _count(self, attributes: Attributes, mode: str, asked: LevelVersion, allowed: bool) -> None:
        version = "latest" if asked.level == PRIVILEGED else str(asked).partition(":")[2]
        if asked.level != PRIVILEGED and asked.version != LATEST and asked.version > _OWN_MINOR:
            version = "future"
        self._metrics.evaluated(attributes, mode, asked.level, version, allowed=allowed)

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        return subresource == "" or resource == PODS

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None:
            return
        resource = attributes.resource.group_resource
        if resource == NAMESPACES:
            self._namespace(attributes, obj)
        elif resource == PODS:
            self._pod(attributes, obj)
        else:
            self._controller(attributes, obj)

    def _policy(self, namespace: str) -> tuple[Policy, ErrorList] | None:
        found = self.listers.get(NAMESPACES, "", namespace)
        if found is None:
            return None
        return policy_of(found["metadata"].get("labels") or {})

    def _pod(self, attributes: Attributes, pod: Obj) -> None:
        parsed = self._policy(attributes.namespace)
        if parsed is None:
            self._metrics.failed(attributes, fatal=True)
            raise new_internal_error(f'failed to lookup namespace "{attributes.namespace}"')
        policy, errors = parsed
        if policy.privileged and not errors:
            self._count(attributes, "enforce", policy.enforce, True)
            attributes.audit_annotations[f"{PREFIX}enforce-policy"] = str(policy.enforce)
            return
        old = attributes.old_obj
        if attributes.operation == "UPDATE" and old is not None and not _images_differ(pod, old):
            return
        if errors:
            self._metrics.failed(attributes, fatal=False)
        self._evaluate(attributes, policy, pod["metadata"], pod["spec"], enforce=True)

    def _controller(self, attributes: Attributes, obj: Obj) -> None:
        parsed = self._policy(attributes.namespace)
        if parsed is None:
            return
        policy, errors = parsed
        soft = (policy.warn.level, policy.audit.level)
        if soft == (PRIVILEGED, PRIVILEGED) and not errors:
            return
        template = _template(attributes.resource.resource, obj)
        if template is not None:
            metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
            self._evaluate(attributes, policy, metadata, spec, enforce=False)

    def _evaluate(
        self, attributes: Attributes, policy: Policy, metadata: Obj, spec: Obj, *, enforce: bool
    ) -> None:
        known: dict[LevelVersion, list[Violation]] = {}

        def check(mode: LevelVersion) -> list[Violation]:
            if mode not in known:
                known[mode] = violations(mode.level, mode.version, metadata, spec)
            return known[mode]

        notes = attributes.audit_annotations
        if found := check(policy.audit):
            text = f'would violate PodSecurity "{policy.audit}": {describe(found)}'
            notes[f"{PREFIX}audit-violations"] = text
            self._count(attributes, "audit", policy.audit, False)
        if enforce:
            notes[f"{PREFIX}enforce-policy"] = str(policy.enforce)
            found = check(policy.enforce)
            self._count(attributes, "enforce", policy.enforce, not found)
            if found:
                text = f'violates PodSecurity "{policy.enforce}": {describe(found)}'
                resource = attributes.resource.group_resource
                raise new_forbidden(resource, attributes.name, text)
        if found := check(policy.warn):
            self._count(attributes, "warn", policy.warn, False)
            attributes.warnings.append(
                f'would violate PodSecurity "{policy.warn}": {describe(found)}'
            )

    def _namespace(self, attributes: Attributes, namespace: Obj) -> None:
        policy, errors = policy_of(namespace["metadata"].get("labels") or {})
        kind, name = attributes.kind.group_kind, attributes.name
        if attributes.operation == "CREATE" or attributes.old_obj is None:
            if errors:
                raise new_invalid(kind, name, errors)
            return
        old_policy, old_errors = policy_of(attributes.old_obj["metadata"].get("labels") or {})
        if errors and errors != old_errors:
            raise new_invalid(kind, name, errors)
        new, old = policy.enforce, old_policy.enforce
        if new == old or new.level == PRIVILEGED:
            return
        looser = LEVELS.index(new.level) <= LEVELS.index(old.level)
        if new.version == old.version and looser:
            return
        attributes.warnings.extend(existing_violations(self.listers, name, new))


def existing_violations(listers: Listers, namespace: str, enforce: LevelVersion) -> list[str]:
    """Warnings about pods that a new enforce level would not have let in."""
    pods = _distinct_first(list(listers.list(PODS, namespace)))
    found: dict[str, list[str]] = {}
    for pod in pods[:_MAX_PODS]:
        reasons = violations(enforce.level, enforce.version, pod["metadata"], pod["spec"])
        if reasons:
            title = ", ".join(reason for reason, _ in reasons)
            found.setdefault(title, []).append(pod["metadata"]["name"])
    warnings: list[str] = []
    if len(pods) > _MAX_PODS:
        warnings.append(
            "new PodSecurity enforce level only checked against the first "
            f"{_MAX_PODS} of {len(pods)} existing pods"
        )
    if found:
        warnings.append(
            f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level '
            f'"{enforce}"'
        )
    lines = []
    for title, names in found.items():
        others = len(names) - 1
        more = f" (and {others} other pod{'s' if others > 1 else ''})" if others else ""
        lines.append(f"{min(names)}{more}: {title}")
    return warnings + sorted(lines)


def _distinct_first(pods: list[Obj]) -> list[Obj]:
    """One pod of each controller before the others, which are probably alike."""
    seen: set[str] = set()
    first: list[Obj] = []
    rest: list[Obj] = []
    for pod in pods:
        owner = (controller_of(pod) or {}).get("uid")
        (rest if owner in seen else first).append(pod)
        if owner:
            seen.add(owner)
    return first + rest


def _images_differ(pod: Obj, old: Obj) -> bool:
    spec, old_spec = pod["spec"], old["spec"]
    for field in ("containers", "initContainers"):
        images = [c.get("image") for c in spec.get(field) or ()]
        if images != [c.get("image") for c in old_spec.get(field) or ()]:
            return True
    known = {c.get("name"): c.get("image") for c in old_spec.get("ephemeralContainers") or ()}
    return any(
        c.get("name") not in known or known[c.get("name")] != c.get("image")
        for c in spec.get("ephemeralContainers") or ()
    )


def _template(resource: str, obj: Obj) -> Obj | None:
    if resource == "podtemplates":
        found = obj.get("template")
    elif resource == "cronjobs":
        found = get_nested(obj, "spec", "jobTemplate", "spec", "template")
    else:
        found = get_nested(obj, "spec", "template")
    return found if isinstance(found, dict) else None


PLUGINS = {"PodSecurity": PodSecurity}
