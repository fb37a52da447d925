"""RBAC: are there a binding and a rule for it? (plugin/pkg/auth/authorizer/rbac)

The index follows Roles and bindings through ``Listers.subscribe``. For each (user, groups) that
asks, the rules of its bindings are gathered once; each question (verb, group, resource,
sub-resource, namespace) is then answered once. Any change of an RBAC object drops both.
Until the bootstrap objects are written the index also holds them as seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authorization.interfaces import Decision
from pilothouse.apiserver.authorization.rules import CompiledRule, RuleReview, compile_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
    from pilothouse.apiserver.request.context import UserInfo

GROUP = "rbac.authorization.k8s.io"
_RESOURCES = {
    "ClusterRole": GroupResource(GROUP, "clusterroles"),
    "ClusterRoleBinding": GroupResource(GROUP, "clusterrolebindings"),
    "Role": GroupResource(GROUP, "roles"),
    "RoleBinding": GroupResource(GROUP, "rolebindings"),
}
_MAX_SUBJECTS = 2048
_MAX_ANSWERS = 4096

Handler = Callable[[str, "Obj", "Obj | None"], None]
ObjectKey = tuple[str, str, str]
"""Kind, namespace, name."""
Answer = tuple[str | None, dict[str, str], str]
"""Reason when any name is allowed; reasons by allowed name; reason when nothing is."""


class Grant(NamedTuple):
    """A rule that a subject has, and the binding that gives it."""

    rule: CompiledRule
    source: str


class _Subject:
    """One user with its groups: gathered grants by namespace and answers by question."""

    __slots__ = ("answers", "grants")

    def __init__(self) -> None:
        self.grants: dict[str, tuple[list[Grant], list[str]]] = {}
        self.answers: dict[tuple[str, ...], Answer] = {}


class RBACIndex:
    """All roles and bindings, by what decisions look up."""

    def __init__(self) -> None:
        self._roles: dict[ObjectKey, Obj] = {}
        self._compiled: dict[ObjectKey, tuple[CompiledRule, ...]] = {}
        self._bindings: dict[str, dict[str, Obj]] = {}
        """By namespace ("" for ClusterRoleBindings) and name."""
        self._seeds: set[ObjectKey] = set()
        self.generation = 0

    def set(self, obj: Obj) -> None:
        self._seeds.discard(_key(obj))
        self._put(obj)

    def seed(self, objects: Iterable[Obj]) -> None:
        """Holds ``objects`` until each is seen in the store or :meth:`seal` is called."""
        for obj in objects:
            self._seeds.add(_key(obj))
            self._put(obj)

    def seal(self) -> None:
        """Forgets seeds that the store turned out not to hold."""
        for key in self._seeds:
            self._remove(key)
        self._seeds.clear()

    def delete(self, obj: Obj) -> None:
        self._seeds.discard(_key(obj))
        self._remove(_key(obj))

    def _put(self, obj: Obj) -> None:
        kind, namespace, name = key = _key(obj)
        if kind in ("Role", "ClusterRole"):
            self._roles[key] = obj
            self._compiled.pop(key, None)
        else:
            self._bindings.setdefault(namespace, {})[name] = obj
        self.generation += 1

    def _remove(self, key: ObjectKey) -> None:
        kind, namespace, name = key
        if kind in ("Role", "ClusterRole"):
            self._roles.pop(key, None)
            self._compiled.pop(key, None)
        else:
            self._bindings.get(namespace, {}).pop(name, None)
        self.generation += 1

    def rules_of(self, role_ref: Obj, namespace: str) -> tuple[CompiledRule, ...]:
        """:raises LookupError: with upstream's text, the role is not there."""
        kind, name = role_ref.get("kind") or "", role_ref.get("name") or ""
        if kind not in ("Role", "ClusterRole"):
            raise LookupError(f'unsupported role reference kind: "{kind}"')
        key = (kind, namespace if kind == "Role" else "", name)
        rules = self._compiled.get(key)
        if rules is None:
            role = self._roles.get(key)
            if role is None:
                raise LookupError(f'{kind.lower()}.{GROUP} "{name}" not found')
            rules = tuple(compile_rule(rule) for rule in role.get("rules") or ())
            self._compiled[key] = rules
        return rules

    def bindings_for(self, user: UserInfo, namespace: str) -> Iterator[tuple[Obj, Obj]]:
        """(binding, first subject that is the user) of one namespace ("": cluster-wide)."""
        bindings = self._bindings.get(namespace) or {}
        for name in sorted(bindings):
            binding = bindings[name]
            for subject in binding.get("subjects") or ():
                if _applies(user, subject, namespace):
                    yield binding, subject
                    break

    def grants(self, user: UserInfo, namespace: str) -> tuple[list[Grant], list[str]]:
        """Rules that bindings of exactly this namespace give, and what went wrong."""
        grants: list[Grant] = []
        errors: list[str] = []
        for binding, subject in self.bindings_for(user, namespace):
            try:
                rules = self.rules_of(binding.get("roleRef") or {}, namespace)
            except LookupError as error:
                errors.append(str(error))
                continue
            source = f"RBAC: allowed by {_describe(binding, subject, namespace)}"
            grants.extend(Grant(rule, source) for rule in rules)
        return grants, errors


def _key(obj: Obj) -> ObjectKey:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace") or "", metadata["name"]


def _applies(user: UserInfo, subject: Obj, namespace: str) -> bool:
    kind = subject.get("kind")
    if kind == "Group":
        return subject.get("name") in user.groups
    if kind == "User":
        return subject.get("name") == user.name
    if kind == "ServiceAccount":
        home = subject.get("namespace") or namespace
        return bool(home) and user.name == f"system:serviceaccount:{home}:{subject.get('name')}"
    return False


def _describe(binding: Obj, subject: Obj, namespace: str) -> str:
    name = binding["metadata"]["name"]
    title = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
    who = subject["name"]
    if subject["kind"] == "ServiceAccount":
        who = f"{who}/{subject.get('namespace') or namespace}"
    role = binding["roleRef"]
    return f'{title} of {role["kind"]} "{role["name"]}" to {subject["kind"]} "{who}"'


def aggregate(errors: Iterable[str]) -> str:
    """Several messages as utilerrors.Aggregate prints them: each once, in brackets."""
    unique = list(dict.fromkeys(errors))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"


class RBACAuthorizer:
    """Allows what a bound rule allows; has no opinion on the rest."""

    def __init__(self, index: RBACIndex) -> None:
        self.index = index
        self._subjects: dict[tuple[str, tuple[str, ...]], _Subject] = {}
        self._generation = index.generation

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        if self._generation != self.index.generation:
            self._subjects.clear()
            self._generation = self.index.generation
        user = attributes.user
        subject = self._subjects.get((user.name, user.groups)) or self._new_subject(user)
        if attributes.resource_request:
            question: tuple[str, ...] = (
                attributes.verb,
                attributes.group,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
            )
        else:
            question = (attributes.verb, attributes.path)
        answer = subject.answers.get(question)
        if answer is None:
            answer = self._answer(subject, attributes, question)
        reason, by_name, refusal = answer
        if reason is None and by_name:
            reason = by_name.get(attributes.name)
        if reason is None:
            return Decision.NO_OPINION, refusal
        return Decision.ALLOW, reason

    def _new_subject(self, user: UserInfo) -> _Subject:
        if len(self._subjects) >= _MAX_SUBJECTS:
            self._subjects.clear()
        subject = self._subjects[user.name, user.groups] = _Subject()
        return subject

    def _grants(
        self, subject: _Subject, user: UserInfo, namespace: str
    ) -> tuple[list[Grant], list[str]]:
        grants = subject.grants.get(namespace)
        if grants is None:
            grants = subject.grants[namespace] = self.index.grants(user, namespace)
        return grants

    def _answer(
        self, subject: _Subject, attributes: AuthorizationAttributes, question: tuple[str, ...]
    ) -> Answer:
        errors: list[str] = []
        by_name: dict[str, str] = {}
        reason: str | None = None
        namespaces = ("", attributes.namespace) if attributes.namespace else ("",)
        for namespace in namespaces:
            grants, failed = self._grants(subject, attributes.user, namespace)
            errors += failed
            reason = _search(grants, attributes, by_name)
            if reason is not None:
                break
        refusal = f"RBAC: {aggregate(errors)}" if errors else ""
        if len(subject.answers) >= _MAX_ANSWERS:
            subject.answers.clear()
        answer = subject.answers[question] = (reason, by_name, refusal)
        return answer

    def rules_of_user(self, user: UserInfo, namespace: str) -> tuple[list[Obj], list[str]]:
        """Wire rules of ``user``, cluster-wide ones and the namespace's, and resolution errors."""
        grants, errors = self.index.grants(user, "")
        if namespace:
            more, more_errors = self.index.grants(user, namespace)
            grants, errors = grants + more, errors + more_errors
        return [grant.rule.wire for grant in grants], errors

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        """For SelfSubjectRulesReview."""
        rules, errors = self.rules_of_user(user, namespace)
        resource_fields = ("verbs", "apiGroups", "resources", "resourceNames")
        resource_rules = [
            {key: list(rule[key]) for key in resource_fields if rule.get(key)}
            for rule in rules
            if rule.get("resources")
        ]
        other_rules = [
            {"verbs": list(rule["verbs"]), "nonResourceURLs": list(rule["nonResourceURLs"])}
            for rule in rules
            if rule.get("nonResourceURLs")
        ]
        return RuleReview(resource_rules, other_rules, False, aggregate(errors) if errors else "")


def _search(
    grants: list[Grant], attributes: AuthorizationAttributes, by_name: dict[str, str]
) -> str | None:
    """The reason when some rule allows whatever the name; fills ``by_name`` on the way."""
    verb = attributes.verb
    if not attributes.resource_request:
        path = attributes.path
        for rule, source in grants:
            if (rule.urls or rule.url_prefixes) and rule.allows_path(verb, path):
                return source
        return None
    group, subresource = attributes.group, attributes.subresource
    combined = f"{attributes.resource}/{subresource}" if subresource else attributes.resource
    wildcard = f"*/{subresource}" if subresource else ""
    for rule, source in grants:
        if rule.allows_resource(verb, group, combined, wildcard):
            if rule.names is None:
                return source
            for name in rule.names:
                by_name.setdefault(name, source)
    return None


def follow(index: RBACIndex, listers: Listers) -> None:
    """Keeps ``index`` equal to what the listers hold, from now on."""

    def changed(event_type: str, obj: Obj, old: Obj | None) -> None:
        if event_type == "DELETED":
            index.delete(obj)
        else:
            index.set(obj)

    for kind, resource in _RESOURCES.items():
        listers.subscribe(resource, _with_kind(kind, changed))


def _with_kind(kind: str, handler: Handler) -> Handler:
    """Objects of a list may lack their kind; the index needs it."""

    def handle(event_type: str, obj: Obj, old: Obj | None) -> None:
        handler(event_type, obj if obj.get("kind") else {**obj, "kind": kind}, old)

    return handle
