"""The environments: which names they have, and what their values do."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.cel import kubernetes, types
from pilothouse.cel.environment import Environment
from pilothouse.cel.interfaces import CompileError
from pilothouse.cel.library.semvers import parse_semver
from pilothouse.cel.values import TypedObject


class Authorizer:
    """Allows ``get``; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def check(self, **what: Any) -> tuple[bool, str]:
        self.asked.append(what)
        return what["verb"] == "get", "because"


def refused(environment: Environment, text: str) -> str:
    with pytest.raises(CompileError) as caught:
        environment.compile(text)
    return str(caught.value).partition("\n")[0]


class TestAdmission:
    def test_match_conditions(self) -> None:
        program = kubernetes.match_conditions().compile(
            "request.operation == 'CREATE' && !('system:masters' in request.userInfo.groups) "
            "&& object.metadata.name.startsWith('a') && oldObject == null"
        )
        assert program.output_type == types.BOOL
        request = {"operation": "CREATE", "userInfo": {"groups": ["dev"]}}
        activation = {"request": request, "object": {"metadata": {"name": "ab"}}, "oldObject": None}
        assert program.evaluate(activation) is True

    def test_names_that_are_not_there(self) -> None:
        conditions = kubernetes.match_conditions()
        assert refused(conditions, "params.x == 1").endswith(
            "undeclared reference to 'params' (in container '')"
        )
        assert refused(conditions, "request.nope == 1").endswith("undefined field 'nope'")
        assert refused(conditions, "namespaceObject.metadata.uid == ''").endswith(
            "undefined field 'uid'"
        )
        assert "undeclared reference to 'Object'" in refused(conditions, "Object{} == 1")

    def test_variables_have_the_types_of_their_expressions(self) -> None:
        environment = kubernetes.admission_policy(
            has_params=True, variables={"n": types.INT, "all": types.list_of(types.STRING)}
        )
        text = "variables.n + 1 == params.max && variables.all.join() == 'ab'"
        activation = {"variables": {"n": 1, "all": ["a", "b"]}, "params": {"max": 2}}
        assert environment.compile(text).evaluate(activation) is True
        assert "applied to '(int, string)'" in refused(environment, "variables.n + 'a' == ''")
        assert refused(environment, "variables.z == 1").endswith("undefined field 'z'")

    def test_a_typed_object_is_checked(self) -> None:
        object_type = types.object_of("Pod", {"spec": types.Field("spec", types.DYN)})
        environment = kubernetes.admission_policy(object_type=object_type)
        environment.compile("object.spec.replicas > 1 && oldObject.spec == object.spec")
        assert refused(environment, "object.spek == 1").endswith("undefined field 'spek'")

    def test_authorizer(self) -> None:
        authorizer = Authorizer()
        activation = {
            "authorizer": authorizer,
            "authorizer.requestResource": kubernetes.request_resource_check(
                authorizer, group="apps", resource="deployments", namespace="ns", name="d"
            ),
        }
        environment = kubernetes.match_conditions()

        def value(text: str) -> Any:
            return environment.compile(text).evaluate(activation)

        text = "authorizer.group('').resource('pods').subresource('log').namespace('x').name('p')"
        assert value(f"{text}.check('get').allowed()") is True
        assert value("authorizer.path('/healthz').check('post').allowed()") is False
        assert value("authorizer.requestResource.check('list').reason()") == "because"
        account = "authorizer.serviceAccount('ns', 'bot').group('g').resource('r')"
        assert value(f"{account}.check('get').errored()") is False
        assert [asked["verb"] for asked in authorizer.asked] == ["get", "post", "list", "get"]
        assert authorizer.asked[0] == {
            "verb": "get",
            "service_account": None,
            "group": "",
            "resource": "pods",
            "subresource": "log",
            "namespace": "x",
            "name": "p",
        }
        assert authorizer.asked[1]["path"] == "/healthz"
        assert authorizer.asked[2]["resource"] == "deployments"
        assert authorizer.asked[3]["service_account"] == ("ns", "bot")
        assert environment.compile(f"{text}.check('get').allowed()").cost(activation) > 350_000

    def test_authorizer_refuses_empty_names(self) -> None:
        environment, activation = kubernetes.match_conditions(), {"authorizer": Authorizer()}
        for text, message in (
            ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
            ("authorizer.group('').resource('').check('get').allowed()", "resource must not be"),
            (
                "authorizer.serviceAccount('a', 'B').path('/').check('').allowed()",
                "Invalid service",
            ),
        ):
            with pytest.raises(Exception, match=message):
                environment.compile(text).evaluate(activation)


class TestMutation:
    def test_objects_are_typed_by_name(self) -> None:
        environment = kubernetes.mutating_policy()
        program = environment.compile(
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}, "
            "spec: Object.spec{?replicas: optional.of(3), ?paused: optional.none()}}"
        )
        assert program.output_type.name == "Object"
        value = program.evaluate({})
        assert value == {"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 3}}
        assert isinstance(value, TypedObject)
        assert (value.type_name, value["spec"].type_name) == ("Object", "Object.spec")

    def test_json_patches(self) -> None:
        environment = kubernetes.mutating_policy()
        program = environment.compile(
            "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('k8s.io/x~y'), value: 1}]"
        )
        assert program.output_type.text == "list(JSONPatch)"
        assert program.evaluate({}) == [{"op": "add", "path": "/a/k8s.io~1x~0y", "value": 1}]
        assert refused(environment, "JSONPatch{op: 1}").endswith(
            "expected type of field 'op' is 'string' but provided type is 'int'"
        )
        assert refused(environment, "JSONPatch{nope: 1}").endswith("undefined field 'nope'")


def test_device_selectors() -> None:
    program = kubernetes.device_selector().compile(
        "device.driver == 'gpu.example.com' "
        "&& device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('10Gi')) "
        "&& device.attributes['gpu.example.com'].version.isLessThan(semver('2.0.0')) "
        "&& device.attributes['gpu.example.com'].kind == 'a100'"
    )
    device = {
        "driver": "gpu.example.com",
        "capacity": {"gpu.example.com": {"memory": Quantity.parse("40Gi")}},
        "attributes": {"gpu.example.com": {"version": parse_semver("1.2.3"), "kind": "a100"}},
        "allowMultipleAllocations": False,
    }
    assert program.evaluate({"device": device}) is True


def test_authentication() -> None:
    claims = kubernetes.authentication_claims()
    program = claims.compile("claims.sub + ':' + claims.?group.orValue('none')")
    assert program.evaluate({"claims": {"sub": "me"}}) == "me:none"
    assert claims.compile("dyn(claims.groups).map(g, 'x:' + g)").output_type.text == "list(string)"
    user = kubernetes.authentication_user()
    assert user.compile("!user.username.startsWith('system:')").output_type == types.BOOL
    assert refused(user, "user.name == ''").endswith("undefined field 'name'")


def test_authorization_match_conditions() -> None:
    program = kubernetes.authorization_match_conditions().compile(
        "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'"
    )
    request = {"resourceAttributes": {"namespace": "kube-system"}}
    assert program.evaluate({"request": request}) is True
    assert program.evaluate({"request": {"nonResourceAttributes": {}}}) is False


def test_bind_is_no_part_of_kubernetes() -> None:
    assert "undeclared reference" in refused(Environment({}), "cel.bind(x, 1, x + x) == 2")
    bound = Environment({}, bindings=True).compile("cel.bind(x, [1, 2], x + x).size()")
    assert bound.evaluate({}) == 4
