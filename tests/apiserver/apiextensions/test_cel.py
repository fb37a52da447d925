"""x-kubernetes-validations: of CRDs when they are written, of objects when they are validated."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.fieldpath import Path
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.apiextensions import cel
from pilothouse.apiserver.apiextensions.controller import CRDS
from pilothouse.apiserver.apiextensions.rule_compilation import syntax_error
from pilothouse.apiserver.apiextensions.rule_costs import exceeded
from pilothouse.apiserver.apiextensions.schema_validation import Options, schema_errors
from pilothouse.apiserver.local import LocalClient

S = dict[str, Any]
_INT, _TEXT = {"type": "integer"}, {"type": "string"}
_RULES = "x-kubernetes-validations"


def errors(schema: S, value: Any, old: Any = None) -> list[str]:
    node = cel.compile_rules(schema, root=False)
    assert node is not None
    return [str(error) for error in node.errors(value, old, lambda: schema)]


def refusals(schema: S) -> list[str]:
    found = schema_errors(schema, Path("s"), Options(), rules=True)
    return [str(error).removeprefix("s.properties[spec].") for error in found]


def rule(text: str, **more: Any) -> S:
    return {"rule": text, **more}


def ruled(*rules: S, **properties: Any) -> S:
    spec = {"type": "object", _RULES: list(rules), "properties": properties}
    return {"type": "object", "properties": {"spec": spec}}


class TestObjects:
    def test_messages(self) -> None:
        schema = ruled(
            rule("self.min <= self.max", message=" too small "),
            rule("self.max < 3", reason="FieldValueForbidden", fieldPath=".max"),
            rule("self.max < 3", messageExpression="'max is ' + string(self.max)"),
            rule("self.gone == 1"),
            rule("self.max < 3", reason="FieldValueDuplicate", fieldPath=".m['a b']"),
            rule("self.max < 3", messageExpression="self.t", message="default"),
            min=_INT,
            max=_INT,
            gone=_INT,
            t=_TEXT,
            m={"type": "object", "additionalProperties": _TEXT},
        )
        assert errors(schema, {"spec": {"min": 9, "max": 5, "t": " "}}) == [
            "spec: Invalid value: too small",
            "spec.max: Forbidden: failed rule: self.max < 3",
            "spec: Invalid value: max is 5",
            'spec: Invalid value: "object": no such key: gone evaluating rule: self.gone == 1',
            "spec.m[a b]: Duplicate value",
            "spec: Invalid value: default",
        ]

    def test_transitions(self) -> None:
        schema = ruled(
            rule("self.a == oldSelf.a", message="a is immutable"),
            rule(
                "!oldSelf.hasValue() || self.b >= oldSelf.value().b",
                optionalOldSelf=True,
                message="b may only grow",
            ),
            a=_INT,
            b=_INT,
        )
        assert errors(schema, {"spec": {"a": 1, "b": 1}}) == []
        assert errors(schema, {"spec": {"a": 2, "b": 0}}, {"spec": {"a": 1, "b": 1}}) == [
            "spec: Invalid value: a is immutable",
            "spec: Invalid value: b may only grow",
        ]

    def test_items_of_maps_are_found_by_key(self) -> None:
        item = {
            "type": "object",
            _RULES: [rule("self.v >= oldSelf.v", message="shrunk")],
            "properties": {"k": _TEXT, "v": _INT},
        }
        schema = ruled(
            l={
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": item,
            }
        )
        old = {"spec": {"l": [{"k": "a", "v": 2}, {"k": "b", "v": 2}]}}
        new = {"spec": {"l": [{"k": "b", "v": 1}, {"k": "c", "v": 0}, {"k": "a", "v": 3}]}}
        assert errors(schema, new, old) == ["spec.l[0]: Invalid value: shrunk"]

    def test_unchanged_parts_are_forgiven(self) -> None:
        schema = ruled(a={"type": "integer", _RULES: [rule("self > 5")]})
        assert errors(schema, {"spec": {"a": 1}}, {"spec": {"a": 1}}) == []
        assert errors(schema, {"spec": {"a": 2}}, {"spec": {"a": 1}}) == [
            "spec.a: Invalid value: 2: failed rule: self > 5"
        ]

    def test_names_and_formats(self) -> None:
        schema = ruled(
            rule("self.my__dash__name == 'x' && self.__namespace__ == 'y'", message="n"),
            rule("self.at > timestamp('2020-01-01T00:00:00Z')", message="t"),
            rule("quantity(self.q).isLessThan(quantity('1Gi'))", message="q"),
            rule("type(self.p) == int ? self.p > 9 : self.p == 'http'", message="p"),
            **{
                "my-name": _TEXT,
                "namespace": _TEXT,
                "at": {"type": "string", "format": "date-time"},
                "q": _TEXT,
                "p": {"x-kubernetes-int-or-string": True},
            },
        )
        good = {
            "my-name": "x",
            "namespace": "y",
            "at": "2021-01-01T00:00:00Z",
            "q": "1Mi",
            "p": 10,
        }
        assert errors(schema, {"spec": good}) == []
        assert errors(schema, {"spec": {**good, "p": "http"}}) == []
        bad = {
            "my-name": "x",
            "namespace": "z",
            "at": "2019-01-01T00:00:00Z",
            "q": "2Gi",
            "p": "ftp",
        }
        found = [text.rpartition(" ")[2] for text in errors(schema, {"spec": bad})]
        assert found == ["n", "t", "q", "p"]

    def test_wrong_types_at_run_time(self) -> None:
        schema = ruled(rule("self.p > 1"), p={"x-kubernetes-int-or-string": True})
        assert errors(schema, {"spec": {"p": "x"}}) == [
            "spec: Invalid value: \"object\": 'no such overload': call arguments did not match a "
            "supported operator, function or macro signature for rule: self.p > 1"
        ]

    def test_rules_that_do_not_compile_are_told(self) -> None:
        schema = ruled(rule("self.x == 1", message="m"), a=_INT)
        (found,) = errors(schema, {"spec": {"a": 1}})
        assert found.startswith(
            'spec: Invalid value: "object": rule compile error: compilation failed: '
            "ERROR: <input>:1:5: undefined field 'x'"
        )

    def test_one_rule_may_not_cost_too_much(self) -> None:
        text = "self.v.all(a, self.v.all(b, self.v.all(c, a + b + c >= 0)))"
        schema = ruled(rule(text), rule("false"), v={"type": "array", "items": _INT})
        assert errors(schema, {"spec": {"v": list(range(100))}}) == [
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': "
            f"no further validation rules will be run due to call cost exceeds limit for rule: "
            f"{text}"
        ]

    def test_all_rules_share_a_budget(self) -> None:
        text = "self.all(a, self.all(b, a + b >= 0))"
        item = {"type": "array", "items": _INT, _RULES: [rule(text)]}
        schema = {"type": "array", "items": item}
        found = errors(schema, [list(range(250))] * 40)
        assert found == [
            f'[{found[0][1:].partition("]")[0]}]: Invalid value: "array": validation failed due '
            "to running out of cost budget, no further validation rules will be run"
        ]


class TestDefinitions:
    def test_types_are_checked(self) -> None:
        schema = ruled(
            rule("self.x == 1"),
            rule("self.a + 'b' == ''"),
            rule("self.a"),
            rule("self.a == 1", messageExpression="self.a"),
            rule("self.a == 1", messageExpression="'x' +"),
            rule("self.b.matches('(')"),
            a=_INT,
            b=_TEXT,
        )
        found = [text.partition("\n")[0] for text in refusals(schema)]
        details = [text.rpartition("}: ")[2] or text for text in found]
        assert details == [
            "compilation failed: ERROR: <input>:1:5: undefined field 'x'",
            "compilation failed: ERROR: <input>:1:8: found no matching overload for '_+_' applied "
            "to '(int, string)'",
            "cel expression must evaluate to a bool",
            "messageExpression must evaluate to a string",
            "messageExpression compilation failed: ERROR: <input>:1:6: Syntax error: mismatched "
            "input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', "
            "NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
            "compilation failed: ERROR: <input>:1:16: invalid matches argument",
        ]
        assert found[0].startswith("x-kubernetes-validations[0].rule: Invalid value: ")
        assert found[3].startswith("x-kubernetes-validations[3].messageExpression: Invalid value")

    def test_costs_of_one_rule(self) -> None:
        text = "self.v.all(x, self.v.all(y, x == y))"
        schema = ruled(rule(text), v={"type": "array", "items": _TEXT})
        assert refusals(schema)[0] == (
            "x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by "
            "factor of more than 100x (try simplifying the rule, or adding maxItems, "
            "maxProperties, and maxLength where arrays, maps, and strings are declared)"
        )
        items = {"type": "string", "maxLength": 10}
        assert (
            refusals(ruled(rule(text), v={"type": "array", "maxItems": 50, "items": items})) == []
        )

    def test_costs_count_how_often_a_rule_runs(self) -> None:
        item = {"type": "object", "properties": {"t": _TEXT}, _RULES: [rule("self.t == 'x'")]}
        bounded = {"type": "array", "maxItems": 10, "items": item}
        assert refusals(ruled(v=bounded)) == []
        deep = {"type": "array", "items": {"type": "array", "maxItems": 9, "items": item}}
        item[_RULES] = [rule("self.t.contains(self.t.replace('a', 'b'))")]
        (first, *_) = refusals(ruled(v=deep))
        assert "estimated rule cost exceeds budget by factor of more than 100x" in first

    def test_costs_of_all_rules(self) -> None:
        text = "self.v.all(x, x.contains('abcdefghij'))"
        values = {"type": "array", "maxItems": 220, "items": {"type": "string", "maxLength": 1000}}
        rules = [rule(text) for _ in range(1200)]
        found = refusals(ruled(*rules, v=values))
        assert len(found) == 1
        assert found[0].startswith(
            "s: Forbidden: x-kubernetes-validations estimated rule cost total for entire "
            "OpenAPIv3 schema exceeds budget by factor of "
        )

    def test_expensive_rules_of_all_are_named(self) -> None:
        text = "self.v.all(x, self.v.all(y, x == y))"
        values = {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 10}}
        found = refusals(ruled(*[rule(text)] * 20, v=values))
        assert sum("contributed to estimated rule cost total" in text for text in found) == 4
        assert "estimated rule cost total for entire OpenAPIv3 schema" in found[-1]

    def test_factors(self) -> None:
        assert "by factor of 1.200000x (" in exceeded("x", 12, 10)
        assert "by factor of 2.5x (" in exceeded("x", 25, 10)
        assert "by factor of more than 100x (" in exceeded("x", 1001, 10)

    def test_old_values_must_be_known(self) -> None:
        item = {"type": "object", "properties": {"a": _INT}, _RULES: [rule("self == oldSelf")]}
        schema = ruled(v={"type": "array", "maxItems": 3, "items": item})
        (found,) = refusals(schema)
        assert found.endswith(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within "
            "s.properties[spec].properties[v]"
        )
        (found,) = refusals(ruled(rule("self.a == 1", optionalOldSelf=True), a=_INT))
        assert found.endswith("may not be set if oldSelf is not used in rule")
        assert refusals(ruled(rule("self.a != 'oldSelf'"), a=_TEXT)) == []


async def test_through_the_server(server: Any, client: LocalClient, make: Any) -> None:
    schema = make.spec(a=_INT, at={"type": "string", "format": "date-time"})
    schema["properties"]["spec"][_RULES] = [
        rule("self.a < 3"),
        rule("!has(self.at) || self.at.getFullYear() > 2000", message="too old"),
    ]
    await client.create(CRDS, make.crd(make.version(schema=schema)))
    await server.activity.settle()
    widgets = GroupVersionResource("example.com", "v1", "widgets")
    await client.create(widgets, make.widget(spec={"a": 1, "at": "2020-01-01T00:00:00Z"}))
    with pytest.raises(StatusError, match=r"failed rule: self\.a < 3"):
        await client.create(widgets, make.widget("b", spec={"a": 3}))
    with pytest.raises(StatusError, match="too old"):
        await client.create(widgets, make.widget("b", spec={"a": 1, "at": "1999-01-01T00:00:00Z"}))
    with pytest.raises(StatusError, match="some validation rules were not checked"):
        await client.create(widgets, make.widget("b", spec={"a": "x"}))


async def test_errors_are_found_early(client: LocalClient, make: Any) -> None:
    for text, message in (
        ("self +", "compilation failed: ERROR: <input>:1:7: Syntax error"),
        ("self.b == 1", "compilation failed: ERROR: <input>:1:5: undefined field 'b'"),
    ):
        with pytest.raises(StatusError, match=message):
            schema = ruled(rule(text), a=_INT)
            await client.create(CRDS, make.crd(make.version(schema=schema)))


def test_syntax_alone() -> None:
    assert syntax_error("nobody.knows(this)") is None
    found = syntax_error("1 +")
    assert found is not None and found.startswith("ERROR: <input>:1:4: Syntax error")
