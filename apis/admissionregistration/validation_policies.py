"""Admission policies in CEL and their bindings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.admissionregistration.validation_rules import (
    FAILURE_POLICIES,
    validate_match_conditions,
    validate_match_resources,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apis.admissionregistration.expressions import Expression, PolicyCompiler

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_REINVOCATION = ("IfNeeded", "Never")
_MUTATING_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
_MAX_AUDIT_ANNOTATIONS = 20
_MAX_VALUE_EXPRESSION = 5 * 1024
_CONDITIONS = ("paramKind", "matchConditions")
_RESERVED = frozenset(
    "true false null in as break const continue else for function if import let loop package "
    "namespace return var void while".split()
)
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


def validate_validating_policy(policy: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = policy.get("spec") or {}
    compiler = _Compiler(spec, composition=bool(spec.get("variables")))
    _common(errors, spec, old, compiler)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations")
    if not validations and not annotations:
        message = "validations or auditAnnotations must contain at least one item"
        errors.append(required("spec.validations", message))
        errors.append(required("spec.auditAnnotations", message))
        return errors
    for i, validation in enumerate(validations):
        _validation(errors, validation, f"spec.validations[{i}]", compiler)
    if annotations:
        name = (policy.get("metadata") or {}).get("name") or ""
        _audit_annotations(errors, annotations, name, compiler)
    return errors


def validate_mutating_policy(policy: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = policy.get("spec") or {}
    compiler = _Compiler(spec, composition=True)
    _common(errors, spec, old, compiler, _only_mutating)
    mutations = spec.get("mutations") or ()
    if not mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for i, mutation in enumerate(mutations):
        _mutation(errors, mutation, f"spec.mutations[{i}]", compiler)
    reinvocation = spec.get("reinvocationPolicy")
    if not reinvocation:
        errors.append(required("spec.reinvocationPolicy"))
    elif reinvocation not in _REINVOCATION:
        errors.append(not_supported("spec.reinvocationPolicy", reinvocation, _REINVOCATION))
    return errors


class _Compiler:
    """Compiles the expressions of one policy; the compiler behind is made when it is needed."""

    def __init__(self, spec: Obj, *, composition: bool) -> None:
        self._spec = spec
        self._composition = composition
        self._made: PolicyCompiler | None = None

    @property
    def compiler(self) -> PolicyCompiler:
        if self._made is None:
            self._made = self._make(self._composition)
        return self._made

    def condition(self, text: str) -> Expression:
        """A match condition, which has no variables."""
        return self._make(False).condition(text)

    def _make(self, composition: bool) -> PolicyCompiler:
        from pilothouse.apis.admissionregistration.expressions import PolicyCompiler

        has_params = self._spec.get("paramKind") is not None
        return PolicyCompiler(has_params=has_params, composition=composition)


def _report(errors: ErrorList, expression: Expression, path: str, value: str = "") -> None:
    if expression.problem:
        errors.append(invalid(path, value or expression.text, expression.problem))


def _common(
    errors: ErrorList,
    spec: Obj,
    old: Obj | None,
    compiler: _Compiler,
    check_constraints: Callable[[ErrorList, Obj, str], None] | None = None,
) -> None:
    failure = spec.get("failurePolicy")
    if failure is None:
        errors.append(required("spec.failurePolicy"))
    elif failure not in FAILURE_POLICIES:
        errors.append(not_supported("spec.failurePolicy", failure, FAILURE_POLICIES))
    if spec.get("paramKind") is not None:
        _param_kind(errors, spec["paramKind"], "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
    else:
        validate_match_resources(errors, constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            errors.append(required("spec.matchConstraints.resourceRules"))
        if check_constraints is not None:
            check_constraints(errors, constraints, "spec.matchConstraints")
    if old is None or not _same_conditions(spec, old.get("spec") or {}):
        conditions = spec.get("matchConditions") or ()
        validate_match_conditions(errors, conditions, "spec.matchConditions", compiler.condition)
    for i, variable in enumerate(spec.get("variables") or ()):
        _variable(errors, variable, f"spec.variables[{i}]", compiler)


def _same_conditions(spec: Obj, old: Obj) -> bool:
    """Nothing has changed that could make match conditions wrong."""
    return all((spec.get(f) or None) == (old.get(f) or None) for f in _CONDITIONS)


def _param_kind(errors: ErrorList, kind: Obj, path: str) -> None:
    version = kind.get("apiVersion") or ""
    if not version:
        errors.append(required(f"{path}.apiVersion"))
    elif version.count("/") > 1:
        message = f"unexpected GroupVersion string: {version}"
        errors.append(invalid(f"{path}.apiVersion", version, message))
    else:
        group, _, only_version = version.rpartition("/")
        messages = names.is_dns1123_subdomain(group) if group else []
        if messages:
            errors.append(invalid(f"{path}.apiVersion", group, ",".join(messages)))
        if not only_version:
            errors.append(invalid(f"{path}.apiVersion", version, "version must be specified"))
        elif messages := names.is_dns1035_label(only_version):
            errors.append(invalid(f"{path}.apiVersion", only_version, ",".join(messages)))
    name = kind.get("kind") or ""
    if not name:
        errors.append(required(f"{path}.kind"))
    elif messages := names.is_dns1035_label(name.lower()):
        message = "may have mixed case, but should otherwise match: " + ",".join(messages)
        errors.append(invalid(f"{path}.kind", name, message))


def _variable(errors: ErrorList, variable: Obj, path: str, compiler: _Compiler) -> None:
    name = variable.get("name") or ""
    if not name.strip():
        errors.append(required(f"{path}.name", "name is not specified"))
    elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
        errors.append(invalid(f"{path}.name", name, "must be a valid CEL identifier"))
    text = variable.get("expression") or ""
    if not text.strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
    else:
        expression = compiler.compiler.add_variable(name, text)
        _report(errors, expression, f"{path}.expression")


def _validation(errors: ErrorList, validation: Obj, path: str, compiler: _Compiler) -> None:
    text = validation.get("expression") or ""
    if not text.strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
    else:
        _report(errors, compiler.compiler.condition(text), f"{path}.expression")
    text = validation.get("messageExpression") or ""
    if text and not text.strip():
        at = f"{path}.messageExpression"
        errors.append(invalid(at, text, "must be non-empty if specified"))
    elif text:
        _report(errors, compiler.compiler.message(text), f"{path}.messageExpression")
    message = validation.get("message") or ""
    if message and not message.strip():
        errors.append(invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip() or "\r" in message.strip():
        errors.append(invalid(f"{path}.message", message, "must not contain line breaks"))
    reason = validation.get("reason")
    if reason is not None and reason not in _REASONS:
        errors.append(not_supported(f"{path}.reason", reason, _REASONS))


def _audit_annotations(
    errors: ErrorList, annotations: list[Obj], policy: str, compiler: _Compiler
) -> None:
    path = "spec.auditAnnotations"
    if len(annotations) > _MAX_AUDIT_ANNOTATIONS:
        message = f"must not have more than {_MAX_AUDIT_ANNOTATIONS} auditAnnotations"
        errors.append(invalid(path, annotations, message))
    seen: set[str] = set()
    for i, annotation in enumerate(annotations):
        at, key = f"{path}[{i}]", annotation.get("key") or ""
        if policy:
            check.qualified_name(errors, f"{policy}/{key}", f"{at}.key")
        else:
            errors.append(invalid(f"{at}.key", key, "requires metadata.name be non-empty"))
        value = (annotation.get("valueExpression") or "").strip()
        if not value:
            message = "valueExpression is not specified"
            errors.append(required(f"{at}.valueExpression", message))
        elif len(value.encode()) > _MAX_VALUE_EXPRESSION:
            message = f"must not exceed {_MAX_VALUE_EXPRESSION} bytes in length"
            errors.append(required(f"{at}.valueExpression", message))
        else:
            expression = compiler.compiler.audit_annotation(value)
            _report(errors, expression, f"{at}.valueExpression", annotation["valueExpression"])
        if key in seen:
            errors.append(duplicate(f"{at}.key", key))
        seen.add(key)


def _only_mutating(errors: ErrorList, resources: Obj, path: str) -> None:
    for rule in resources.get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            if operation not in _MUTATING_OPERATIONS:
                at = f"{path}.resourceRules.operations"
                errors.append(not_supported(at, operation, _MUTATING_OPERATIONS))


def _mutation(errors: ErrorList, mutation: Obj, path: str, compiler: _Compiler) -> None:
    kind = mutation.get("patchType") or ""
    fields = {"JSONPatch": "jsonPatch", "ApplyConfiguration": "applyConfiguration"}
    if not kind:
        errors.append(required(f"{path}.patchType"))
        return
    if kind not in fields:
        errors.append(not_supported(f"{path}.patchType", kind, _PATCH_TYPES))
        return
    for of_kind, field in fields.items():
        found: Obj | None = mutation.get(field)
        if of_kind != kind and found is not None:
            message = f"must not be specified when patchType is {kind}"
            errors.append(invalid(f"{path}.{field}", f"{{{field}}}", message))
        elif of_kind == kind and found is None:
            message = f"must be specified when patchType is {kind}"
            errors.append(required(f"{path}.{field}", message))
        elif found is not None:
            _patch(errors, found, of_kind, f"{path}.{field}.expression", compiler)


def _patch(errors: ErrorList, patch: Obj, kind: str, path: str, compiler: _Compiler) -> None:
    text = (patch.get("expression") or "").strip()
    if not text:
        errors.append(required(path))
    elif kind == "JSONPatch":
        _report(errors, compiler.compiler.json_patch(text), path)
    else:
        _report(errors, compiler.compiler.apply_configuration(text), path)


def validate_binding(binding: Obj, *, mutating: bool) -> ErrorList:
    errors: ErrorList = []
    spec = binding.get("spec") or {}
    policy = spec.get("policyName") or ""
    if not policy:
        errors.append(required("spec.policyName"))
    else:
        check.dns_subdomain(errors, policy, "spec.policyName")
    if spec.get("paramRef") is not None:
        _param_ref(errors, spec["paramRef"], "spec.paramRef")
    resources = spec.get("matchResources")
    if resources is not None:
        validate_match_resources(errors, resources, "spec.matchResources")
    if mutating:
        _only_mutating(errors, resources or {}, "spec.matchResources")
    else:
        _actions(errors, spec.get("validationActions") or [], "spec.validationActions")
    return errors


def _param_ref(errors: ErrorList, reference: Obj, path: str) -> None:
    name, selector = reference.get("name") or "", reference.get("selector")
    exclusive = "name and selector are mutually exclusive"
    if name:
        add_all(errors, f"{path}.name", name, names.is_path_segment_name(name))
        if selector is not None:
            errors.append(forbidden(f"{path}.name", exclusive))
    if selector is not None:
        check.label_selector(errors, selector, f"{path}.selector")
        if name:
            errors.append(forbidden(f"{path}.selector", exclusive))
    if not name and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    if not action:
        errors.append(required(f"{path}.parameterNotFoundAction"))
    elif action not in ("Deny", "Allow"):
        at = f"{path}.parameterNotFoundAction"
        errors.append(not_supported(at, action, ("Deny", "Allow")))


def _actions(errors: ErrorList, actions: list[str], path: str) -> None:
    seen: set[str] = set()
    for i, action in enumerate(actions):
        if action not in _ACTIONS:
            errors.append(not_supported(f"{path}[{i}]", action, _ACTIONS))
        if action in seen:
            errors.append(duplicate(f"{path}[{i}]", action))
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        message = (
            "must not contain both Deny and Warn (repeating the same validation failure "
            "information in the API response and headers serves no purpose)"
        )
        errors.append(invalid(path, actions, message))
    if not seen:
        errors.append(required(path))
