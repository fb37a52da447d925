"""What one ValidatingAdmissionPolicy says: messages, reasons, failures, budgets."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apiserver.admission.policy.evaluation import Inputs
from pilothouse.apiserver.admission.policy.validator import (
    Annotation,
    Decision,
    Result,
    Validator,
)

DEPLOYMENT = {"metadata": {"name": "d", "labels": {"a": "b"}}, "spec": {"replicas": 5}}


def spec(*validations: Obj | str, **more: Any) -> Obj:
    listed = [v if isinstance(v, dict) else {"expression": v} for v in validations]
    return {"validations": listed, **more}


def validate(policy: Obj, *, budget: int | None = None, **more: Any) -> Result:
    inputs = Inputs(
        **{
            "object": DEPLOYMENT,
            "old_object": None,
            "request": {"operation": "CREATE", "userInfo": {"username": "alice"}},
            "namespace": {"metadata": {"name": "ns", "labels": {"x": "y"}}},
            **more,
        }
    )
    matching = inputs.for_conditions(inputs.request)
    if budget is None:
        return Validator(policy).validate(inputs, matching)
    return Validator(policy).validate(inputs, matching, budget)


def only(policy: Obj, **more: Any) -> Decision:
    (decision,) = validate(policy, **more).decisions
    return decision._replace(seconds=0.0)


ADMIT = Decision(False)
FALSE = "object.spec.replicas < 3"


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ({"expression": "object.spec.replicas >= 3"}, ADMIT),
        ({"expression": FALSE}, Decision(True, f"failed expression: {FALSE}", "Invalid")),
        ({"expression": f"  {FALSE} "}, Decision(True, f"failed expression: {FALSE}", "Invalid")),
        ({"expression": FALSE, "message": " no "}, Decision(True, "no", "Invalid")),
        (
            {"expression": FALSE, "message": "no", "reason": "Forbidden"},
            Decision(True, "no", "Forbidden"),
        ),
        (
            {"expression": FALSE, "messageExpression": "'got ' + string(object.spec.replicas)"},
            Decision(True, "got 5", "Invalid"),
        ),
        (
            {"expression": FALSE, "message": "no", "messageExpression": "object.spec.gone"},
            Decision(True, "no", "Invalid"),
        ),
        (
            {"expression": FALSE, "message": "no", "messageExpression": "'two\\nlines'"},
            Decision(True, "no", "Invalid"),
        ),
        (
            {"expression": FALSE, "message": "no", "messageExpression": "'  '"},
            Decision(True, "no", "Invalid"),
        ),
        ({"expression": "namespaceObject.metadata.labels.x == 'y'"}, ADMIT),
        ({"expression": "request.userInfo.username == 'alice'"}, ADMIT),
        ({"expression": "oldObject == null"}, ADMIT),
    ],
)
def test_decisions(validation: Obj, expected: Decision) -> None:
    assert only(spec(validation)) == expected


def test_an_error_denies_unless_failures_are_ignored() -> None:
    text = "expression 'object.spec.gone == 1' resulted in error: no such key: gone"
    assert only(spec("object.spec.gone == 1")) == Decision(True, text)
    ignored = only(spec("object.spec.gone == 1", failurePolicy="Ignore"))
    assert ignored == Decision(False, text)


def test_an_expression_that_does_not_compile_fails_when_it_runs() -> None:
    decision = only(spec("object.spec.replicas +"))
    assert decision.denied
    assert decision.message.startswith("compilation error: compilation failed: ERROR: <input>:1:")


def test_each_validation_has_its_decision() -> None:
    decisions = validate(spec("true", FALSE, "object.x")).decisions
    assert [d.denied for d in decisions] == [False, True, True]


def test_match_conditions() -> None:
    def matched(*expressions: str, **more: Any) -> Result:
        conditions = [{"name": str(i), "expression": e} for i, e in enumerate(expressions)]
        return validate(spec(FALSE, matchConditions=conditions, **more))

    assert matched("true").decisions[0].denied
    assert matched("object.spec.replicas == 1") == Result()
    # One that is false outweighs errors.
    assert matched("object.x == 1", "false") == Result()
    failed = matched("object.x == 1", "true").decisions[0]
    assert failed.denied
    assert failed.message == "expression 'object.x == 1' resulted in error: no such key: x"
    both = matched("object.x == 1", "object.y == 1").decisions[0].message
    assert both.startswith("[expression 'object.x == 1'")
    assert both.endswith("no such key: y]")
    assert matched("object.x == 1", failurePolicy="Ignore") == Result()


def test_match_conditions_have_no_namespace() -> None:
    conditions = [{"name": "a", "expression": "namespaceObject == null"}]
    assert validate(spec(FALSE, matchConditions=conditions)).decisions


def test_params() -> None:
    policy = spec("object.spec.replicas <= params.max", paramKind={"apiVersion": "v1", "kind": "X"})
    assert only(policy, params={"max": 5}) == ADMIT
    assert only(policy, params={"max": 4}).denied
    assert only(policy, params=None).message.endswith("resulted in error: no such key: max")


def test_variables_compose() -> None:
    policy = spec(
        {
            "expression": "variables.double == 11",
            "messageExpression": "'it is ' + string(variables.double)",
        },
        variables=[
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "double", "expression": "variables.replicas * 2"},
        ],
    )
    assert only(policy) == Decision(True, "it is 10", "Invalid")


def test_variables_are_lazy() -> None:
    policy = spec("true || variables.bad", variables=[{"name": "bad", "expression": "object.x"}])
    assert only(policy) == ADMIT


def test_a_variable_that_fails_names_itself() -> None:
    policy = spec("variables.bad == 1", variables=[{"name": "bad", "expression": "object.x"}])
    assert only(policy).message == (
        "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to "
        "evaluate: no such key: x"
    )


def test_messages_do_not_reach_the_authorizer_by_variables() -> None:
    class Authorizer:
        def check(self, **_: Any) -> tuple[bool, str]:
            return False, ""

    allowed = "authorizer.group('').resource('pods').check('get').allowed()"
    policy = spec(
        {"expression": "variables.may", "messageExpression": "string(variables.may)"},
        variables=[{"name": "may", "expression": allowed}],
    )
    decision = only(policy, authorizer=Authorizer())
    assert decision == Decision(True, "failed expression: variables.may", "Invalid")


def test_audit_annotations() -> None:
    def annotations(value: str, **more: Any) -> tuple[Annotation, ...]:
        items = [{"key": "k", "valueExpression": value}]
        return validate(spec("true", auditAnnotations=items, **more)).annotations

    assert annotations("' v ' + object.metadata.name") == (Annotation("k", "publish", "v d"),)
    assert annotations("null") == (Annotation("k", "exclude"),)
    assert annotations("'  '") == (Annotation("k", "exclude"),)
    (failed,) = annotations("string(object.x)")
    assert failed.action == "error"
    assert failed.message.endswith("resulted in error: no such key: x")
    assert annotations("string(object.x)", failurePolicy="Ignore")[0].action == "exclude"


def test_the_budget_is_for_all_expressions_together() -> None:
    policy = spec("object.spec.replicas == 5", "object.spec.replicas > 4")
    assert validate(policy, budget=20).decisions == (ADMIT, ADMIT)
    (decision,) = validate(policy, budget=5).decisions
    assert decision.denied
    assert decision.message == (
        "validation failed due to running out of cost budget, no further validation rules will be "
        "run"
    )


def test_variables_cost_once() -> None:
    names = [{"name": "v", "expression": "[1,2,3].all(x, object.spec.replicas > x)"}]
    once = spec("variables.v", variables=names)
    twice = spec("variables.v", "variables.v", variables=names)

    def price(policy: Obj) -> int:
        return next(b for b in range(1, 500) if not validate(policy, budget=b).decisions[0].denied)

    assert price(twice) - price(once) < 5 < price(once)
