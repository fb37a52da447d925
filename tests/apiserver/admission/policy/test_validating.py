"""ValidatingAdmissionPolicies in a server: what clients see of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.request.context import UserInfo

NAMESPACES = GroupVersionResource("", "v1", "namespaces")
CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
POLICIES = GroupVersionResource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
BINDINGS = GroupVersionResource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings"
)
CRDS = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
CONFIG_MAP_PARAMS = {"apiVersion": "v1", "kind": "ConfigMap"}
BY_NAME = {"paramRef": {"name": "params", "parameterNotFoundAction": "Deny"}}


async def test_a_denial(policies: Any) -> None:
    await policies.validating("p", {"expression": "has(object.data)", "message": "say something"})
    message = "ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: say something"
    assert await policies.refused("a") == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'configmaps "a" is forbidden: {message}',
        "reason": "Invalid",
        "details": {"name": "a", "kind": "configmaps", "causes": [{"message": message}]},
        "code": 422,
    }
    await policies.config_map("a", {"x": "y"})


@pytest.mark.parametrize(
    ("reason", "code"), [("Forbidden", 403), ("Invalid", 422), ("RequestEntityTooLarge", 413)]
)
async def test_reasons_have_codes(policies: Any, reason: str, code: int) -> None:
    await policies.validating("p", {"expression": "false", "reason": reason})
    status = await policies.refused("a")
    assert (status["reason"], status["code"]) == (reason, code)


async def test_policies_come_and_go_with_the_write(policies: Any) -> None:
    await policies.config_map("before")
    await policies.validating("p", "false")
    await policies.refused("a")
    await policies.client.delete(BINDINGS, "p-b")
    await policies.config_map("a")
    binding = {"policyName": "p", "validationActions": ["Deny"]}
    await policies.client.create(BINDINGS, {"metadata": {"name": "new"}, "spec": binding})
    await policies.refused("b")
    policy = json.loads(json.dumps(await policies.client.get(POLICIES, "p")))
    policy["spec"]["validations"][0]["expression"] = "object.metadata.name == 'b'"
    await policies.client.update(POLICIES, policy)
    await policies.config_map("b")
    await policies.refused("c")
    await policies.client.delete(POLICIES, "p")
    await policies.config_map("c")


async def test_requests_that_no_policy_concerns_do_not_reach_the_plugin(policies: Any) -> None:
    chain = policies.server.admission
    await policies.config_map("a")
    key = ("CREATE", CONFIG_MAPS, "")

    def validators() -> list[str]:
        steps = chain._steps[key][1]
        return [getattr(step, "__wrapped__", step).__self__.name for step in steps]

    assert "ValidatingAdmissionPolicy" not in validators()
    await policies.validating("p", "true", constraints={"resourceRules": [_rule("secrets")]})
    await policies.config_map("b")
    assert "ValidatingAdmissionPolicy" not in validators()
    await policies.validating("q", "true")
    await policies.config_map("c")
    assert "ValidatingAdmissionPolicy" in validators()


def _rule(*resources: str, **more: Any) -> Obj:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["*"],
        "resources": list(resources),
        **more,
    }


async def test_warnings_and_audit_annotations(policies: Any) -> None:
    annotations = [{"key": "who", "valueExpression": "'by ' + request.userInfo.username"}]
    await policies.validating(
        "p",
        {"expression": "true"},
        {"expression": "false", "message": "<bad>"},
        actions=("Warn", "Audit"),
        auditAnnotations=annotations,
    )
    write = await policies.written("a", UserInfo("alice", ("system:masters",)))
    assert write.warnings == [
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': <bad>"
    ]
    assert write.audit_annotations == {
        "p/who": "by alice",
        "validation.policy.admission.k8s.io/validation_failure": (
            '[{"message":"\\u003cbad\\u003e","policy":"p","binding":"p-b","expressionIndex":1,'
            '"validationActions":["Warn","Audit"]}]'
        ),
    }


async def test_updates_and_deletes_see_the_old_object(policies: Any) -> None:
    constraints = {"resourceRules": [_rule("configmaps")]}
    await policies.validating(
        "p",
        {
            "expression": "request.operation != 'DELETE' || !('keep' in oldObject.metadata.labels)",
            "message": "kept",
        },
        {
            "expression": "request.operation != 'UPDATE' || object.data.n > oldObject.data.n",
            "message": "must grow",
        },
        constraints=constraints,
    )
    created = await policies.config_map("a", {"n": "1"}, labels={"keep": "yes"})
    smaller = json.loads(json.dumps(created)) | {"data": {"n": "0"}}
    with pytest.raises(StatusError, match="must grow"):
        await policies.client.update(CONFIG_MAPS, smaller)
    await policies.client.update(CONFIG_MAPS, smaller | {"data": {"n": "2"}})
    with pytest.raises(StatusError, match="kept"):
        await policies.client.delete(CONFIG_MAPS, "a", "default")
    assert (await policies.client.get(CONFIG_MAPS, "a", "default"))["data"] == {"n": "2"}


async def test_namespace_and_object_selectors(policies: Any) -> None:
    name = {"kubernetes.io/metadata.name": "other"}
    await policies.validating(
        "p",
        "false",
        constraints={
            "resourceRules": [_rule("configmaps")],
            "namespaceSelector": {"matchLabels": name},
        },
        binding={"matchResources": {"objectSelector": {"matchLabels": {"a": "b"}}}},
    )
    await policies.config_map("a", labels={"a": "b"})
    await policies.config_map("a", namespace="other")
    await policies.refused("b", namespace="other", labels={"a": "b"})


async def test_namespace_object(policies: Any) -> None:
    await policies.validating("p", "namespaceObject.metadata.name == 'other'")
    await policies.config_map("a", namespace="other")
    await policies.refused("a")
    policy_of_namespaces = {"resourceRules": [_rule("namespaces")]}
    await policies.validating(
        "n", "namespaceObject == null && request.name == 'new'", constraints=policy_of_namespaces
    )
    await policies.client.create(NAMESPACES, {"metadata": {"name": "new"}})


async def test_params_by_name_in_the_objects_namespace(policies: Any) -> None:
    await policies.config_map("params", {"max": "1"})
    await policies.validating(
        "p",
        "size(object.data) <= int(params.data.max)",
        paramKind=CONFIG_MAP_PARAMS,
        binding=BY_NAME,
        matchConditions=[{"name": "not-params", "expression": "object.metadata.name != 'params'"}],
    )
    await policies.config_map("a", {"x": "1"})
    await policies.refused("b", {"x": "1", "y": "2"})
    # A change of the param counts at once.
    params = json.loads(json.dumps(await policies.client.get(CONFIG_MAPS, "params", "default")))
    await policies.client.update(CONFIG_MAPS, params | {"data": {"max": "2"}})
    await policies.config_map("b", {"x": "1", "y": "2"})
    status = await policies.refused("a", namespace="other")
    assert status["details"]["causes"][0]["message"] == (
        "ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: failed to configure "
        "binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )


async def test_params_by_selector_are_all_asked(policies: Any) -> None:
    for name in ("a", "b"):
        await policies.config_map(name, {"forbidden": name}, labels={"params": "yes"})
    selected = {
        "selector": {"matchLabels": {"params": "yes"}},
        "namespace": "default",
        "parameterNotFoundAction": "Allow",
    }
    await policies.validating(
        "p",
        {
            "expression": "object.metadata.name != params.data.forbidden",
            "messageExpression": "'not ' + params.data.forbidden",
        },
        paramKind=CONFIG_MAP_PARAMS,
        binding={"paramRef": selected},
    )
    assert (await policies.refused("b", namespace="other"))["message"].endswith("not b")
    await policies.config_map("c", namespace="other")
    await policies.client.delete(CONFIG_MAPS, "b", "default")
    await policies.config_map("b", namespace="other")


CRD: Obj = {
    "metadata": {"name": "limits.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Cluster",
        "names": {
            "plural": "limits",
            "singular": "limit",
            "kind": "Limit",
            "listKind": "LimitList",
        },
        "versions": [
            {
                "name": name,
                "served": True,
                "storage": name == "v2",
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"max": {"type": "integer"}},
                    }
                },
            }
            for name in ("v1", "v2")
        ],
    },
}
LIMITS = GroupVersionResource("example.com", "v1", "limits")


async def test_custom_params_count_from_their_definition_on(policies: Any) -> None:
    kind = {"apiVersion": "example.com/v1", "kind": "Limit"}
    await policies.validating(
        "p", "size(object.data) <= params.max", paramKind=kind, binding=BY_NAME
    )
    message = (await policies.refused("a"))["message"]
    assert message == (
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to "
        "configure policy: failed to find resource referenced by paramKind: 'example.com/v1, "
        "Kind=Limit'"
    )
    await policies.client.create(CRDS, CRD)
    await _established(policies)
    limit = {"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "params"}}
    await policies.client.create(LIMITS, limit | {"max": 1})
    await policies.config_map("a", {"x": "1"})
    await policies.refused("b", {"x": "1", "y": "2"})


async def _established(policies: Any) -> None:
    """Until the custom kind is served; the registry tells."""
    import asyncio

    served = asyncio.Event()
    registry = policies.server.registry
    registry.on_change(served.set)
    while registry.lookup("example.com", "v1", "limits") is None:
        await asyncio.wait_for(served.wait(), 5)
        served.clear()


async def test_equivalent_versions_are_converted(policies: Any) -> None:
    await policies.client.create(CRDS, CRD)
    await _established(policies)
    rules = [_rule("limits", apiGroups=["example.com"], apiVersions=["v2"])]
    expression = (
        "object.apiVersion == 'example.com/v2' && request.kind.version == 'v2' && "
        "request.requestKind.version == 'v1' && object.max < 3"
    )
    await policies.validating("p", expression, constraints={"resourceRules": rules})
    limit = {"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "x"}}
    await policies.client.create(LIMITS, limit | {"max": 2})
    with pytest.raises(StatusError):
        await policies.client.create(LIMITS, limit | {"metadata": {"name": "y"}, "max": 3})
    exact = {"resourceRules": rules, "matchPolicy": "Exact"}
    await policies.client.delete(BINDINGS, "p-b")
    await policies.validating("q", "false", constraints=exact)
    await policies.client.create(LIMITS, limit | {"metadata": {"name": "y"}, "max": 3})


@pytest.mark.parametrize("failure_policy", ["Fail", "Ignore"])
async def test_failure_policy(policies: Any, failure_policy: str) -> None:
    kind = {"apiVersion": "example.com/v1", "kind": "Gone"}
    await policies.validating("p", "true", paramKind=kind, failurePolicy=failure_policy)
    await policies.validating("q", "object.gone == 1", failurePolicy=failure_policy)
    if failure_policy == "Ignore":
        await policies.config_map("a")
    else:
        assert "failed to configure policy" in (await policies.refused("a"))["message"]
        await policies.client.delete(POLICIES, "p")
        message = (await policies.refused("a"))["message"]
        assert "expression 'object.gone == 1' resulted in error: no such key: gone" in message


async def test_expressions_may_ask_the_authorizer(policies: Any) -> None:
    await policies.validating(
        "p",
        "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()",
        "authorizer.requestResource.check('create').allowed()",
        "!authorizer.serviceAccount('default', 'x').group('').resource('pods').check('get')"
        ".allowed()",
    )
    await policies.written("a")
    with pytest.raises(StatusError):
        await policies.written("b", UserInfo("nobody", ("system:authenticated",)))


async def test_policies_do_not_apply_to_policies_and_reviews(policies: Any) -> None:
    everything = {
        "apiGroups": ["*"],
        "apiVersions": ["*"],
        "operations": ["*"],
        "resources": ["*/*"],
    }
    await policies.validating("p", "false", constraints={"resourceRules": [everything]})
    await policies.refused("a")
    review = {
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
    }
    reviews = GroupVersionResource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
    await policies.client.create(reviews, review)
    await policies.client.delete(BINDINGS, "p-b")
    await policies.client.delete(POLICIES, "p")


async def test_the_first_denial_is_told(policies: Any) -> None:
    await policies.validating("b", {"expression": "false", "message": "second"})
    await policies.validating("a", {"expression": "false", "message": "first"})
    assert (await policies.refused("x"))["message"].endswith("first")


async def test_connections(policies: Any) -> None:
    """Sub-resources that are connected to: their options are the object."""
    from pilothouse.apimachinery.schema import GroupVersionKind
    from pilothouse.apiserver.admission.interfaces import Attributes

    rules = [_rule("pods/exec", operations=["CONNECT"])]
    await policies.validating(
        "p",
        {
            "expression": "!('sh' in object.command)",
            "messageExpression": "request.operation + ' ' + request.subResource + ' ' "
            "+ request.kind.kind",
        },
        constraints={"resourceRules": rules},
    )

    def connecting(command: str) -> Attributes:
        options = {"kind": "PodExecOptions", "apiVersion": "v1", "command": [command]}
        return Attributes(
            "CONNECT",
            GroupVersionKind("", "v1", "PodExecOptions"),
            GroupVersionResource("", "v1", "pods"),
            "exec",
            "default",
            "pod",
            options,
            None,
            UserInfo("alice"),
        )

    await policies.server.admission.validate(connecting("ls"))
    with pytest.raises(StatusError, match="CONNECT exec PodExecOptions"):
        await policies.server.admission.validate(connecting("sh"))


async def test_other_plugins_of_the_request_share_nothing(policies: Any) -> None:
    """Several policies, bindings and params: each gets its own say, in order."""
    for name in ("a", "b"):
        await policies.config_map(name, {"n": name}, labels={"p": "1"})
    reference = {
        "selector": {"matchLabels": {"p": "1"}},
        "namespace": "default",
        "parameterNotFoundAction": "Deny",
    }
    await policies.validating(
        "p",
        {"expression": "false", "messageExpression": "string(params.data.n)"},
        paramKind=CONFIG_MAP_PARAMS,
        actions=("Warn",),
        binding={"paramRef": reference},
    )
    second = {"policyName": "p", "validationActions": ["Warn"], "paramRef": reference}
    await policies.client.create(BINDINGS, {"metadata": {"name": "z"}, "spec": second})
    write = await policies.written("x")
    assert [w.rpartition("binding ")[2] for w in write.warnings] == [
        "'p-b': a",
        "'p-b': b",
        "'z': a",
        "'z': b",
    ]
