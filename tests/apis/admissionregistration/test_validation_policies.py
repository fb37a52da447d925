"""Validation of admission policies; paths and texts as kube-apiserver v1.37.2 gives them."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apis.admissionregistration.defaults import (
    set_binding_defaults,
    set_policy_defaults,
)
from pilothouse.apis.admissionregistration.validation_policies import (
    validate_binding,
    validate_mutating_policy,
    validate_validating_policy,
)
from pilothouse.apis.admissionregistration.validation_rules import (
    static_suffix_errors,
    static_suffix_warnings,
)
from pilothouse.apis.admissionregistration.validation_status import validate_policy_status

RULE: Obj = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}


def policy(*validations: Obj | str, **spec: Any) -> Obj:
    listed = [v if isinstance(v, dict) else {"expression": v} for v in validations]
    rules = {"resourceRules": [copy_object(RULE)]}
    obj = {
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": rules, "validations": listed, **spec},
    }
    set_policy_defaults(obj)
    return obj


def mutating(*mutations: Obj, **spec: Any) -> Obj:
    obj = policy(mutations=list(mutations), reinvocationPolicy="Never", **spec)
    del obj["spec"]["validations"]
    return obj


def applying(expression: str) -> Obj:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patching(expression: str) -> Obj:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def errors(obj: Obj, old: Obj | None = None) -> list[str]:
    mutates = "mutations" in obj["spec"]
    found = (validate_mutating_policy if mutates else validate_validating_policy)(obj, old)
    return [str(error) for error in found]


def test_a_good_policy() -> None:
    assert errors(policy("object.spec.replicas > 1")) == []
    removing = patching("[JSONPatch{op: 'remove', path: '/a'}]")
    assert errors(mutating(applying("Object{}"), removing)) == []


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            policy("1"),
            'spec.validations[0].expression: Invalid value: "1": must evaluate to bool but got int',
        ),
        (
            policy({"expression": "true", "messageExpression": "1"}),
            'spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string '
            "but got int",
        ),
        (
            policy("true", auditAnnotations=[{"key": "k", "valueExpression": "1"}]),
            'spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of '
            "[string null_type] but got int",
        ),
        (
            policy("true", matchConditions=[{"name": "a", "expression": "1"}]),
            'spec.matchConditions[0].expression: Invalid value: "1": must evaluate to bool but got '
            "int",
        ),
        (
            mutating(applying("1")),
            'spec.mutations[0].applyConfiguration.expression: Invalid value: "1": must evaluate '
            "to Object but got int",
        ),
        (
            mutating(patching("[1]")),
            'spec.mutations[0].jsonPatch.expression: Invalid value: "[1]": must evaluate to '
            "list(JSONPatch) but got list(int)",
        ),
        (
            mutating(applying(" ")),
            "spec.mutations[0].applyConfiguration.expression: Required value",
        ),
        (
            policy("true", variables=[{"name": "in", "expression": "1"}]),
            'spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier',
        ),
        (
            policy("true", variables=[{"name": "a", "expression": " "}]),
            "spec.variables[0].expression: Required value: expression is not specified",
        ),
    ],
)
def test_one_error(obj: Obj, expected: str) -> None:
    assert errors(obj) == [expected]


@pytest.mark.parametrize(
    ("obj", "path", "problem"),
    [
        (policy("foo"), "spec.validations[0].expression", "undeclared reference to 'foo'"),
        (policy("object.x +"), "spec.validations[0].expression", "Syntax error: mismatched input"),
        (policy("params.x"), "spec.validations[0].expression", "undeclared reference to 'params'"),
        (policy("variables.x"), "spec.validations[0].expression", "reference to 'variables'"),
        (policy("request.foo == 1"), "spec.validations[0].expression", "undefined field 'foo'"),
        (
            policy("variables.b", variables=[{"name": "a", "expression": "1"}]),
            "spec.validations[0].expression",
            "undefined field 'b'",
        ),
        (
            policy("variables.a == 'x'", variables=[{"name": "a", "expression": "1"}]),
            "spec.validations[0].expression",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            policy(
                "true",
                matchConditions=[{"name": "a", "expression": "variables.a"}],
                variables=[{"name": "a", "expression": "true"}],
            ),
            "spec.matchConditions[0].expression",
            "undeclared reference to 'variables'",
        ),
        (
            policy({"expression": "true", "messageExpression": "authorizer.path('/')"}),
            "spec.validations[0].messageExpression",
            "undeclared reference to 'authorizer'",
        ),
        (policy("Object{a: 1}"), "spec.validations[0].expression", "undeclared reference"),
    ],
)
def test_what_does_not_compile(obj: Obj, path: str, problem: str) -> None:
    found = errors(obj)[0]
    assert found.startswith(f"{path}: Invalid value: ")
    assert ": compilation failed: ERROR: <input>:1:" in found
    assert problem in found


def test_params_are_there_with_a_kind() -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    conditions = [{"name": "a", "expression": "params.x == 1"}]
    message = {"expression": "params.y == 1", "messageExpression": "string(params.z)"}
    assert errors(policy(message, paramKind=kind, matchConditions=conditions)) == []


def test_match_conditions_that_stay_are_not_looked_at_again() -> None:
    old = policy("true", matchConditions=[{"name": "a", "expression": "stored.long.ago"}])
    new = copy_object(old)
    new["spec"]["failurePolicy"] = "Ignore"
    assert errors(new, old) == []
    changed = policy("true", matchConditions=[{"name": "b", "expression": "stored.long.ago"}])
    assert errors(changed, old)


def test_static_names() -> None:
    text = (
        'names ending with ".static.k8s.io" are reserved for static manifest-based configurations '
        "and cannot be managed via the API"
    )
    obj = {"metadata": {"name": "x.static.k8s.io"}}
    (error,) = static_suffix_errors(obj)
    assert str(error) == f'metadata.name: Invalid value: "x.static.k8s.io": {text}'
    assert static_suffix_warnings(obj) == [f"metadata.name: {text}"]
    assert static_suffix_errors({"metadata": {"name": "static.k8s.io"}}) == []


def test_bindings() -> None:
    binding = {
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": [], "matchResources": {}},
    }
    set_binding_defaults(binding)
    found = [str(error) for error in validate_binding(binding, mutating=False)]
    assert found == ["spec.validationActions: Required value"]


def test_status() -> None:
    status = {
        "typeChecking": {"expressionWarnings": [{"fieldRef": " ", "warning": ""}]},
        "conditions": [{"type": "a", "status": "Perhaps", "reason": "9"}],
    }
    fields = [error.field for error in validate_policy_status({"status": status})]
    assert fields == [
        "status.typeChecking.expressionWarnings[0].warning",
        "status.typeChecking.expressionWarnings[0].fieldRef",
        "status.conditions[0].status",
        "status.conditions[0].lastTransitionTime",
        "status.conditions[0].reason",
    ]
