"""Types of schemas: names, sizes, conversions, and equality of sets and maps."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.schemas import definition
from pilothouse.cel import schema_types
from pilothouse.cel.environment import Environment
from pilothouse.cel.estimates import estimate
from pilothouse.cel.interfaces import CompileError
from pilothouse.cel.kubernetes import admission_policy, custom_resource_rule
from pilothouse.cel.schema_types import Declared, built_in_type, declared, escape
from pilothouse.cel.values import Duration, Timestamp

S = dict[str, Any]
_TEXT = {"type": "string"}


def typed(schema: S, *, root: bool = False) -> Declared:
    found = declared(schema, root=root)
    assert found is not None
    return found


def obj(**properties: S) -> S:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("plain", "plain"),
        ("a-b.c/d", "a__dash__b__dot__c__slash__d"),
        ("a__b", "a__underscores__b"),
        ("namespace", "__namespace__"),
        ("if", "__if__"),
        ("self", "self"),
        ("1st", None),
        ("a b", None),
        ("é", None),
        ("", None),
    ],
)
def test_names_are_escaped(name: str, escaped: str | None) -> None:
    assert escape(name) == escaped


def test_what_has_no_type_is_left_out() -> None:
    schema = obj(a={"x-kubernetes-preserve-unknown-fields": True}, b=_TEXT)
    assert list(typed(schema).type.fields) == ["b"]
    assert declared({"type": "array"}) is None


def test_resources_have_names_and_nothing_else_of_metadata() -> None:
    schema = obj(metadata={"type": "object"}, spec=obj(x=_TEXT))
    environment = custom_resource_rule(typed(schema, root=True).type)
    environment.compile("self.metadata.name != self.kind + self.apiVersion + self.spec.x")
    with pytest.raises(CompileError, match="undefined field 'labels'"):
        environment.compile("self.metadata.labels.size() == 0")


def test_embedded_resources_are_resources() -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True}
    environment = custom_resource_rule(typed(obj(e=embedded)).type)
    environment.compile("self.e.metadata.generateName == ''")


class TestValues:
    def test_conversion(self) -> None:
        schema = obj(
            at={"type": "string", "format": "date-time"},
            waits={"type": "array", "items": {"type": "string", "format": "duration"}},
            ratio={"type": "number"},
            blobs={"type": "object", "additionalProperties": {"type": "string", "format": "byte"}},
            name=_TEXT,
        )
        convert = typed(schema).convert
        assert convert is not None
        given = {
            "at": "1970-01-01T00:00:01Z",
            "waits": ["1s", "2 days"],
            "ratio": 2,
            "blobs": {"k": "aGk="},
            "name": "n",
            "unknown": 1,
        }
        kept = dict(given)
        assert convert(given) == {
            "at": Timestamp(10**9),
            "waits": [Duration(10**9), Duration(2 * 86400 * 10**9)],
            "ratio": 2.0,
            "blobs": {"k": b"hi"},
            "name": "n",
            "unknown": 1,
        }
        assert given == kept

    def test_nothing_is_copied_without_need(self) -> None:
        assert typed(obj(a=_TEXT, b={"type": "integer"})).convert is None
        convert = typed(obj(a=obj(at={"type": "string", "format": "date"}), b=obj(c=_TEXT))).convert
        assert convert is not None
        given = {"b": {"c": "x"}}
        assert convert(given) is given
        assert convert({"a": {"at": "2020-01-01"}, **given})["b"] is given["b"]


class TestEquality:
    @staticmethod
    def holds(schema: S, text: str, a: Any, b: Any) -> bool:
        program = custom_resource_rule(typed(schema).type).compile(text)
        result = program.evaluate({"self": a, "oldSelf": b})
        assert isinstance(result, bool)
        return result

    def test_sets(self) -> None:
        schema = obj(v={"type": "array", "x-kubernetes-list-type": "set", "items": _TEXT})
        a, b = {"v": ["x", "y"]}, {"v": ["y", "x"]}
        assert self.holds(schema, "self.v == oldSelf.v", a, b)
        assert self.holds(schema, "self == oldSelf", a, b)
        assert not self.holds(schema, "self != oldSelf", a, b)
        assert self.holds(schema, "self.v + ['x', 'z'] == ['z', 'y', 'x']", a, b)
        assert self.holds(schema, "(self.v + oldSelf.v).size() == 2", a, b)

    def test_maps(self) -> None:
        item = obj(k=_TEXT, n={"type": "integer"})
        schema = obj(
            v={
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": item,
            }
        )
        a, b = {"k": "a", "n": 1}, {"k": "b", "n": 2}
        assert self.holds(schema, "self.v == oldSelf.v", {"v": [a, b]}, {"v": [b, a]})
        changed = {"v": [b, {"k": "a", "n": 9}]}
        assert not self.holds(schema, "self.v == oldSelf.v", {"v": [a, b]}, changed)
        text = "(self.v + oldSelf.v).exists_one(i, i.k == 'a' && i.n == 9)"
        assert self.holds(schema, text, {"v": [a, b]}, changed)

    def test_lists_have_an_order(self) -> None:
        schema = obj(v={"type": "array", "items": _TEXT})
        a, b = {"v": ["x", "y"]}, {"v": ["y", "x"]}
        assert not self.holds(schema, "self.v == oldSelf.v", a, b)


class TestEstimates:
    @staticmethod
    def cost(schema: S, text: str) -> int:
        found = typed(schema)
        tree = custom_resource_rule(found.type).compile(text).tree
        return estimate(tree, found).high

    def test_limits_bound_costs(self) -> None:
        text = "self.v.all(x, self.v.exists_one(y, x == y))"
        items = {"type": "string", "maxLength": 10}
        few = self.cost(obj(v={"type": "array", "maxItems": 10, "items": items}), text)
        many = self.cost(obj(v={"type": "array", "maxItems": 100, "items": items}), text)
        any_ = self.cost(obj(v={"type": "array", "items": _TEXT}), text)
        assert few < many < 10_000_000 < any_
        assert 50 < many / few < 150

    def test_costs_never_overflow(self) -> None:
        nested: S = _TEXT
        for _ in range(8):
            nested = {"type": "array", "items": nested}
        text = "self.v" + "".join(f".all(a{i}, a{i}" for i in range(8)) + " == a6[0]" + ")" * 8
        assert self.cost(obj(v=nested), text.replace(")", ")", 1)) == (1 << 64) - 1


class TestBuiltIn:
    def test_fields_of_a_kind(self) -> None:
        pod = built_in_type(definition("io.k8s.api.core.v1.Pod"))
        environment = admission_policy(object_type=pod)
        environment.compile(
            "object.spec.containers.all(c, c.image.startsWith('x') && "
            "c.resources.limits['cpu'] != '' && c.ports.all(p, p.containerPort > 1024)) && "
            "object.metadata.creationTimestamp < timestamp('2020-01-01T00:00:00Z') && "
            "object.metadata.labels['a'] == object.metadata.__namespace__"
        )
        for text, message in (
            ("object.spec.replicas == 1", "undefined field 'replicas'"),
            ("object.spec.hostNetwork == 'yes'", "no matching overload"),
        ):
            with pytest.raises(CompileError, match=message):
                environment.compile(text)

    def test_recursive_kinds_are_fine(self) -> None:
        name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
        environment = Environment({"s": built_in_type(definition(name))})
        environment.compile("s.properties['a'].properties['b'].type == 'string'")

    def test_times_may_stay_text(self) -> None:
        pod = built_in_type(definition("io.k8s.api.core.v1.Pod"), times=False)
        program = admission_policy(object_type=pod).compile(
            "object.metadata.creationTimestamp.startsWith('2020')"
        )
        activation = {"object": {"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}}}
        assert program.evaluate(activation) is True


def test_limits_are_upstreams() -> None:
    assert schema_types.MAX_REQUEST == 3 * 1024 * 1024
    assert typed(_TEXT).max_elements == 3 * 1024 * 1024 - 2
    assert typed({"type": "string", "maxLength": 5}).max_elements == 20
    assert typed({"type": "string", "enum": ["a", "abc"]}).max_elements == 3
    assert typed({"type": "array", "items": {"type": "integer"}}).max_elements == 1572863
