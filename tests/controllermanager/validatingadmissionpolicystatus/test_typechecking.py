"""Warnings of type checking, as upstream's typechecking_test.go."""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionKind, GroupVersionResource
from pilothouse.apis.schemas import for_gvk
from pilothouse.cel.schema_types import built_in_type
from pilothouse.cel.types import Type
from pilothouse.controllermanager.validatingadmissionpolicystatus.typechecking import (
    Kind,
    Resources,
    check,
    named_resources,
)

DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def type_of(gvk: GroupVersionKind) -> Type:
    schema = for_gvk(gvk)
    assert schema is not None
    return built_in_type(schema)


def warnings(
    *validations: Obj, kinds: tuple[GroupVersionKind, ...] = (DEPLOYMENT,), **more: Any
) -> list[Obj]:
    params = CONFIG_MAP if "paramKind" in more else None
    return check(
        {"validations": list(validations), **more},
        [Kind(gvk, type_of(gvk)) for gvk in kinds],
        type_of(params) if params else None,
    )


def test_nothing_to_say() -> None:
    assert warnings({"expression": "object.spec.replicas > 1"}) == []


def test_expressions_and_message_expressions() -> None:
    found = warnings(
        {"expression": "object.spec.replicas > '1'", "messageExpression": "'a' + 1"},
        {"expression": "object.spec.foo"},
    )
    assert [w["fieldRef"] for w in found] == [
        "spec.validations[0].expression",
        "spec.validations[0].messageExpression",
        "spec.validations[1].expression",
    ]
    assert found[0]["warning"] == (
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' "
        "applied to '(int, string)'\n"
        " | object.spec.replicas > '1'\n"
        " | .....................^\n"
    )
    assert "found no matching overload for '_+_' applied to '(string, int)'" in found[1]["warning"]
    assert "undefined field 'foo'" in found[2]["warning"]


def test_each_kind_that_does_not_fit_is_named() -> None:
    (found,) = warnings({"expression": "object.spec.replicas > 1"}, kinds=(DEPLOYMENT, CONFIG_MAP))
    assert found["warning"].startswith("/v1, Kind=ConfigMap: ERROR: <input>:1:7: undefined field")


def test_params_and_variables_have_types() -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    variables = [{"name": "n", "expression": "object.spec.replicas"}]
    (found,) = warnings(
        {"expression": "variables.n > 1 && params.data.x == 'a'"},
        {"expression": "variables.n == params.data.x"},
        paramKind=kind,
        variables=variables,
    )
    assert "found no matching overload for '_==_' applied to '(int, string)'" in found["warning"]


def test_request_namespace_and_authorizer_are_known() -> None:
    assert (
        warnings(
            {
                "expression": "request.operation == 'CREATE' && namespaceObject.metadata.name "
                "== 'x' && authorizer.requestResource.check('get').allowed()"
            }
        )
        == []
    )


def test_rules_with_wildcards_say_nothing_of_types() -> None:
    def named(*rules: Obj) -> list[Resources]:
        return named_resources({"matchConstraints": {"resourceRules": list(rules)}})

    def rule(groups: list[str], versions: list[str], resources: list[str]) -> Obj:
        return {"apiGroups": groups, "apiVersions": versions, "resources": resources}

    assert named(rule(["*"], ["v1"], ["pods"]), rule([""], ["*"], ["pods"])) == []
    assert named(rule([""], ["v1"], ["pods/status", "pods", "*"])) == [
        Resources(0, GroupVersionResource("", "v1", "pods"))
    ]
