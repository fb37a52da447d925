"""A small kind for the patch and managedFields tests, with every sort of list and map."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.typeschema import TypeSchema

STRING = TypeSchema("string", go_type="string")
INTEGER = TypeSchema("integer", go_type="int32")


class GoFacts:
    """As the owner of built-in schemas describes a field."""

    def __init__(self, pointer: bool = False, omit_zero: bool = False) -> None:
        self.pointer = pointer
        self.omit_zero = omit_zero


def string(**facts: object) -> TypeSchema:
    return TypeSchema("string", go_type="string", omit_empty=True, **facts)  # type: ignore[arg-type]


def string_map(**facts: object) -> TypeSchema:
    return TypeSchema("map", element=STRING, omit_empty=True, **facts)  # type: ignore[arg-type]


def _container() -> TypeSchema:
    env = TypeSchema("object", go_type="v1.EnvVar", fields={"name": string(), "value": string()})
    port = TypeSchema(
        "object",
        go_type="v1.ContainerPort",
        fields={
            "containerPort": TypeSchema("integer", go_type="int32"),
            "protocol": string(default="TCP"),
            "name": string(),
        },
    )
    return TypeSchema(
        "object",
        name="io.k8s.api.core.v1.Container",
        go_type="v1.Container",
        fields={
            "name": STRING,
            "image": string(),
            "args": TypeSchema("list", element=STRING, omit_empty=True),
            "env": TypeSchema(
                "list",
                element=env,
                list_type="map",
                map_keys=("name",),
                patch_strategy=("merge",),
                patch_merge_key="name",
                omit_empty=True,
            ),
            "ports": TypeSchema(
                "list",
                element=port,
                list_type="map",
                map_keys=("containerPort", "protocol"),
                patch_strategy=("merge",),
                patch_merge_key="containerPort",
                omit_empty=True,
            ),
        },
    )


def _meta() -> TypeSchema:
    return TypeSchema(
        "object",
        name="io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        go_type="v1.ObjectMeta",
        omit_empty=True,
        fields={
            "name": string(),
            "namespace": string(),
            "uid": string(),
            "resourceVersion": string(),
            "labels": string_map(),
            "annotations": string_map(),
            "finalizers": TypeSchema(
                "list",
                element=STRING,
                list_type="set",
                patch_strategy=("merge",),
                omit_empty=True,
            ),
        },
    )


def make_schema() -> TypeSchema:
    strategy = TypeSchema(
        "object",
        go_type="v1.Strategy",
        omit_empty=True,
        patch_strategy=("retainKeys",),
        fields={"type": string(), "rollingUpdate": string_map()},
    )
    spec = TypeSchema(
        "object",
        name="io.k8s.api.test.v1.WidgetSpec",
        go_type="v1.WidgetSpec",
        omit_empty=True,
        fields={
            "replicas": TypeSchema("integer", go_type="int32", omit_empty=True),
            "selector": string_map(atomic=True),
            "strategy": strategy,
            "containers": TypeSchema(
                "list",
                element=_container(),
                list_type="map",
                map_keys=("name",),
                patch_strategy=("merge",),
                patch_merge_key="name",
            ),
            "tolerations": TypeSchema("list", element=string_map(), omit_empty=True),
            "anything": TypeSchema("any", omit_empty=True),
        },
    )
    status = TypeSchema(
        "object", go_type="v1.WidgetStatus", omit_empty=True, fields={"phase": string()}
    )
    return TypeSchema(
        "object",
        name="io.k8s.api.test.v1.Widget",
        go_type="v1.Widget",
        fields={
            "apiVersion": string(),
            "kind": string(),
            "metadata": _meta(),
            "spec": spec,
            "status": status,
        },
    )


SCHEMA = make_schema()


@pytest.fixture
def schema() -> TypeSchema:
    return SCHEMA
