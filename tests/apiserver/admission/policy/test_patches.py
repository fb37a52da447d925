"""ApplyConfiguration and JSONPatch mutations (mutating/patch)."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apis.schemas import for_gvk
from pilothouse.apiserver.admission.policy.evaluation import Inputs
from pilothouse.apiserver.admission.policy.mutator import Mutator
from pilothouse.apiserver.admission.policy.patches import MutationError

KIND = GroupVersionKind("apps", "v1", "Deployment")
DEPLOYMENT: Obj = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "labels": {"a": "b"}},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": [
                    {"name": "a", "image": "1", "args": ["x"]},
                    {"name": "b", "image": "2"},
                ]
            }
        },
    },
}


def mutate(mutation: Obj, **more: Any) -> Obj:
    schema = for_gvk(KIND)
    assert schema is not None
    mutator = Mutator({"mutations": [mutation], **more})
    before = copy_object(DEPLOYMENT)
    inputs = Inputs(DEPLOYMENT, None, {"operation": "CREATE"})
    result = mutator.mutations[0].apply(inputs, mutator.variables, schema)
    assert before == DEPLOYMENT
    return result


def applied(expression: str, **more: Any) -> Obj:
    configuration = {"expression": expression}
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": configuration}
    return mutate(mutation, **more)


def patched(*operations: str, **more: Any) -> Obj:
    expression = f"[{', '.join(f'JSONPatch{{{each}}}' for each in operations)}]"
    return mutate({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}, **more)


CONTAINERS = "Object{spec: Object.spec{template: Object.spec.template{spec: %s}}}"
CONTAINER = "Object.spec.template.spec.containers"


def test_scalars_are_replaced_and_maps_merged() -> None:
    result = applied(
        "Object{metadata: Object.metadata{labels: {'c': 'd'}}, spec: Object.spec{replicas: 7}}"
    )
    assert result["spec"]["replicas"] == 7
    assert result["metadata"] == {"name": "d", "labels": {"a": "b", "c": "d"}}


def test_lists_with_keys_are_merged_by_them() -> None:
    pod = (
        f"Object.spec.template.spec{{containers: [{CONTAINER}{{name: 'b', image: '3'}}, "
        f"{CONTAINER}{{name: 'c', image: '4'}}]}}"
    )
    result = applied(CONTAINERS % pod)
    assert result["spec"]["template"]["spec"]["containers"] == [
        {"name": "a", "image": "1", "args": ["x"]},
        {"name": "b", "image": "3"},
        {"name": "c", "image": "4"},
    ]


def test_atomic_parts_must_not_be_replaced() -> None:
    pod = f"Object.spec.template.spec{{containers: [{CONTAINER}{{name: 'a', args: ['y']}}]}}"
    with pytest.raises(MutationError) as refused:
        applied(CONTAINERS % pod)
    assert str(refused.value) == (
        "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or "
        "structs: .spec.template.spec.containers[0].args"
    )


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(MutationError) as refused:
        applied("Object{spec: Object.spec{replica: 1}}")
    assert ".spec.replica: field not declared in schema" in str(refused.value)


def test_objects_must_be_named_by_their_place() -> None:
    with pytest.raises(MutationError) as refused:
        applied("Object{spec: Object.wrong{replicas: 1}}")
    assert str(refused.value) == (
        'type mismatch: unexpected type name "Object.wrong", expected "Object.spec", which '
        "matches field name path from root Object type"
    )


def test_null_is_no_value() -> None:
    with pytest.raises(MutationError) as refused:
        applied("Object{metadata: Object.metadata{labels: null}}")
    assert str(refused.value) == (
        "error applying patch: failed to convert patch object to typed object: .metadata.labels: "
        "expected map, got &{NULL_VALUE}"
    )


def test_items_without_their_key_are_for_validation_to_refuse() -> None:
    pod = f"Object.spec.template.spec{{containers: [{CONTAINER}{{image: '3'}}]}}"
    containers = applied(CONTAINERS % pod)["spec"]["template"]["spec"]["containers"]
    assert containers[2] == {"name": "", "image": "3"}


def test_expressions_see_the_object_and_variables() -> None:
    more = "Object{spec: Object.spec{replicas: variables.n + 1}}"
    variables = [{"name": "n", "expression": "object.spec.replicas"}]
    assert applied(more, variables=variables)["spec"]["replicas"] == 2


def test_json_patches() -> None:
    result = patched(
        "op: 'test', path: '/spec/replicas', value: 1",
        "op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 1",
        "op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('e/f'), value: 'g'",
        "op: 'remove', path: '/metadata/labels/a'",
        "op: 'copy', from: '/metadata/name', path: '/metadata/labels/n'",
    )
    assert result["spec"]["replicas"] == 2
    assert result["metadata"]["labels"] == {"e/f": "g", "n": "d"}


def test_a_json_patch_may_add_objects() -> None:
    result = patched(
        f"op: 'add', path: '/spec/template/spec/containers/-', value: {CONTAINER}"
        "{name: 'z', ports: [Object.spec.template.spec.containers.ports{containerPort: 80}]}"
    )
    assert result["spec"]["template"]["spec"]["containers"][2] == {
        "name": "z",
        "ports": [{"containerPort": 80}],
    }


def test_a_test_that_fails_leaves_all_as_it_is() -> None:
    result = patched(
        "op: 'replace', path: '/spec/replicas', value: 9",
        "op: 'test', path: '/metadata/name', value: 'other'",
    )
    assert result is DEPLOYMENT


def test_an_operation_that_does_not_apply_is_an_error() -> None:
    with pytest.raises(MutationError, match="JSON Patch: "):
        patched("op: 'remove', path: '/spec/gone'")


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        (
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}},
            "must evaluate to Object but got int",
        ),
        (
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}},
            "must evaluate to list(JSONPatch) but got list(int)",
        ),
    ],
)
def test_results_of_the_wrong_type(mutation: Obj, message: str) -> None:
    with pytest.raises(MutationError) as refused:
        mutate(mutation)
    assert str(refused.value) == message


def test_an_error_of_the_expression() -> None:
    with pytest.raises(MutationError, match="resulted in error: no such key: gone"):
        applied("Object{spec: Object.spec{replicas: object.gone}}")
