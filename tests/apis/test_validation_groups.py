"""Good and bad objects of the groups beside core, apps and batch: field, reason, message."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.certificates.validation import (
    validate_signing_request_approval_update,
    validate_signing_request_status_update,
    validate_signing_request_update,
)
from pilothouse.apis.flowcontrol.mandatory import FLOW_SCHEMAS, PRIORITY_LEVELS
from pilothouse.apiserver.registry.builtin import BuiltInStrategy
from pilothouse.apiserver.registry.strategies import strategy_for

Obj = dict[str, Any]
POD_RULE = {
    "operations": ["CREATE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["pods"],
}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}


def strategy(resource: str) -> BuiltInStrategy:
    name, _, group = resource.partition(".")
    found = strategy_for(GroupResource(group, name))
    assert isinstance(found, BuiltInStrategy)
    return found


def defaulted(resource: str, obj: Obj) -> Obj:
    obj = copy.deepcopy(obj)
    obj.setdefault("metadata", {"name": "a", "namespace": "d"})
    strategy(resource).default(obj)
    return obj


def created(resource: str, obj: Obj) -> list[str]:
    return [str(e) for e in strategy(resource).check_create(defaulted(resource, obj))]


def updated(resource: str, new: Obj, old: Obj) -> list[str]:
    new, old = defaulted(resource, new), defaulted(resource, old)
    return [str(e) for e in strategy(resource).check_update(new, old)]


def rules(path: Obj) -> Obj:
    return {"spec": {"rules": [{"host": "a.b", "http": {"paths": [path]}}]}}


CREATED: list[tuple[str, Obj, list[str]]] = [
    (
        "horizontalpodautoscalers.autoscaling",
        {"spec": {"maxReplicas": 3, "scaleTargetRef": TARGET}},
        [],
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        {"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": TARGET}},
        ["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"],
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        {"spec": {"minReplicas": 0, "maxReplicas": 2, "scaleTargetRef": TARGET}},
        [
            "spec.metrics: Forbidden: must specify at least one Object or External metric to "
            "support scaling to zero replicas"
        ],
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        {
            "spec": {
                "maxReplicas": 2,
                "scaleTargetRef": TARGET,
                "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0}]}},
            }
        },
        [
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 0: must be greater "
            "than zero",
        ],
    ),
    (
        "ingresses.networking.k8s.io",
        rules({"path": "/", "pathType": "Prefix", "backend": BACKEND}),
        [],
    ),
    (
        "ingresses.networking.k8s.io",
        rules({"path": "a//b", "pathType": "Exact", "backend": {}}),
        [
            'spec.rules[0].http.paths[0].path: Invalid value: "a//b": must be an absolute path',
            "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
            'spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend '
            "is required",
        ],
    ),
    (
        "ingressclasses.networking.k8s.io",
        {
            "spec": {
                "controller": "a.b/c",
                "parameters": {"kind": "K", "name": "n", "scope": "Namespace"},
            }
        },
        [
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ],
    ),
    (
        "networkpolicies.networking.k8s.io",
        {"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 80, "endPort": 79}]}]}},
        [
            "spec.egress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to "
            "`port`"
        ],
    ),
    (
        "networkpolicies.networking.k8s.io",
        {
            "spec": {
                "podSelector": {},
                "ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}],
            }
        },
        ["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"],
    ),
    ("servicecidrs.networking.k8s.io", {"spec": {"cidrs": ["10.0.0.0/16"]}}, []),
    (
        "servicecidrs.networking.k8s.io",
        {"spec": {"cidrs": ["10.0.0.0/16", "10.1.0.0/16"]}},
        [
            'spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than '
            "one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        ],
    ),
    ("ipaddresses.networking.k8s.io", {"spec": {}}, ["spec.parentRef: Required value"]),
    ("storageclasses.storage.k8s.io", {"provisioner": "a.b/c"}, []),
    (
        "storageclasses.storage.k8s.io",
        {"provisioner": "a.b/c", "reclaimPolicy": "Recycle"},
        ['reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"'],
    ),
    ("csidrivers.storage.k8s.io", {}, []),
    (
        "csinodes.storage.k8s.io",
        {"spec": {"drivers": [{"name": "a", "nodeID": ""}]}},
        ["spec.drivers[0].nodeID: Required value"],
    ),
    (
        "volumeattachments.storage.k8s.io",
        {"spec": {"attacher": "a", "nodeName": "n", "source": {}}},
        [
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and "
            "persistentVolumeName"
        ],
    ),
    ("runtimeclasses.node.k8s.io", {}, ["handler: Required value"]),
    (
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        {
            "webhooks": [
                {
                    "name": "a.b.c",
                    "sideEffects": "Some",
                    "timeoutSeconds": 31,
                    "admissionReviewVersions": ["v2"],
                    "clientConfig": {"url": "https://host/x?y"},
                    "rules": [{**POD_RULE, "operations": ["*", "CREATE"]}],
                }
            ]
        },
        [
            'webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if \'*\' is present, '
            "must not specify other operations",
            'webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", '
            '"NoneOnDryRun"',
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 "
            "and 30 seconds",
            'webhooks[0].clientConfig.url: Invalid value: "y": query parameters are not permitted '
            "in the URL",
            'webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least '
            "one of v1, v1beta1",
        ],
    ),
    (
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        {"spec": {"matchConstraints": {"resourceRules": [POD_RULE]}}},
        [
            "spec.validations: Required value: validations or auditAnnotations must contain at "
            "least one item",
            "spec.auditAnnotations: Required value: validations or auditAnnotations must contain "
            "at least one item",
        ],
    ),
    (
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        {"spec": {"policyName": "a", "validationActions": ["Deny", "Deny"]}},
        ['spec.validationActions[1]: Duplicate value: "Deny"'],
    ),
    (
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        {"metadata": {"name": "x"}, "spec": {"type": "Exempt"}},
        [
            "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is "
            "'exempt'"
        ],
    ),
    (
        "flowschemas.flowcontrol.apiserver.k8s.io",
        {
            "metadata": {"name": "x"},
            "spec": {"priorityLevelConfiguration": {"name": "y"}, "matchingPrecedence": 1},
        },
        [
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have "
            "matchingPrecedence 1"
        ],
    ),
    (
        "apiservices.apiregistration.k8s.io",
        {
            "metadata": {"name": "x"},
            "spec": {
                "group": "a",
                "version": "v1",
                "groupPriorityMinimum": 1,
                "versionPriority": 1,
            },
        },
        ['metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.a"'],
    ),
    (
        "resourceclaims.resource.k8s.io",
        {"spec": {"devices": {"requests": [{"name": "a"}]}}},
        [
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or "
            "`firstAvailable` is required"
        ],
    ),
    (
        "priorityclasses.scheduling.k8s.io",
        {"metadata": {"name": "x"}, "value": 2_000_000_000},
        [
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ],
    ),
    (
        "poddisruptionbudgets.policy",
        {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
        [
            'spec: Invalid value: {"MinAvailable":1,"Selector":null,"MaxUnavailable":1,'
            '"UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set'
        ],
    ),
    (
        "roles.rbac.authorization.k8s.io",
        {"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]},
        ["rules[0].verbs: Required value"],
    ),
    (
        "rolebindings.rbac.authorization.k8s.io",
        {"roleRef": {"kind": "Thing", "name": "x"}},
        ['roleRef.kind: Unsupported value: "Thing": supported values: "Role", "ClusterRole"'],
    ),
    (
        "endpointslices.discovery.k8s.io",
        {"addressType": "IPv4", "endpoints": [{"addresses": []}]},
        ["endpoints[0].addresses: Required value"],
    ),
    (
        "leases.coordination.k8s.io",
        {"spec": {"leaseDurationSeconds": 0}},
        ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    ),
]


@pytest.mark.parametrize(("resource", "obj", "expected"), CREATED)
def test_create(resource: str, obj: Obj, expected: list[str]) -> None:
    assert created(resource, obj) == expected


IMMUTABLE = "field is immutable"
UPDATED: list[tuple[str, Obj, Obj, list[str]]] = [
    (
        "storageclasses.storage.k8s.io",
        {"provisioner": "a"},
        {"provisioner": "b"},
        [f'provisioner: Invalid value: "a": {IMMUTABLE}'],
    ),
    (
        "runtimeclasses.node.k8s.io",
        {"handler": "a"},
        {"handler": "b"},
        [f'handler: Invalid value: "a": {IMMUTABLE}'],
    ),
    (
        "servicecidrs.networking.k8s.io",
        {"spec": {"cidrs": ["10.0.0.0/16", "fd00::/64"]}},
        {"spec": {"cidrs": ["10.0.0.0/16"]}},
        [],
    ),
    (
        "servicecidrs.networking.k8s.io",
        {"spec": {"cidrs": ["10.0.0.0/16"]}},
        {"spec": {"cidrs": ["10.0.0.0/16", "fd00::/64"]}},
        [f'spec.cidrs: Invalid value: ["10.0.0.0/16"]: {IMMUTABLE}'],
    ),
    (
        "rolebindings.rbac.authorization.k8s.io",
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"}},
        {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "y"}},
        [
            'roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role",'
            '"Name":"x"}: field is immutable'
        ],
    ),
    (
        "volumeattributesclasses.storage.k8s.io",
        {"driverName": "a", "parameters": {"a": "b"}},
        {"driverName": "a", "parameters": {"a": "c"}},
        ["parameters: Forbidden: updates to parameters are forbidden."],
    ),
]


@pytest.mark.parametrize(("resource", "new", "old", "expected"), UPDATED)
def test_update(resource: str, new: Obj, old: Obj, expected: list[str]) -> None:
    assert updated(resource, new, old) == expected


def test_the_mandatory_flow_control_objects() -> None:
    for name, spec in FLOW_SCHEMAS.items():
        obj = {"metadata": {"name": name}, "spec": spec}
        assert created("flowschemas.flowcontrol.apiserver.k8s.io", obj) == []
        obj["spec"] = {**spec, "rules": []}
        assert created("flowschemas.flowcontrol.apiserver.k8s.io", obj)
    for name, spec in PRIORITY_LEVELS.items():
        obj = {"metadata": {"name": name}, "spec": spec}
        assert created("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", obj) == []


def test_autoscaler_defaults() -> None:
    spec = defaulted(
        "horizontalpodautoscalers.autoscaling",
        {"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}}}},
    )["spec"]
    assert spec["minReplicas"] == 1
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    assert spec["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 1,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    }


def test_network_policy_types() -> None:
    policy: Obj = {"spec": {"podSelector": {}, "egress": [{}]}}
    spec = defaulted("networkpolicies.networking.k8s.io", policy)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]


@pytest.fixture(scope="module")
def signing_request() -> Obj:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": "example.com/signer",
        "usages": ["client auth"],
    }
    return {"metadata": {"name": "a"}, "spec": spec, "status": {}}


def test_who_may_decide_about_a_signing_request(signing_request: Obj) -> None:
    resource = "certificatesigningrequests.certificates.k8s.io"
    assert created(resource, signing_request) == []
    approved = copy.deepcopy(signing_request)
    approved["status"]["conditions"] = [{"type": "Approved", "status": "True"}]
    message = 'status.conditions: Forbidden: updates may not add a condition of type "Approved"'
    for validate in (validate_signing_request_update, validate_signing_request_status_update):
        assert [str(e) for e in validate(approved, signing_request)] == [message]
    assert validate_signing_request_approval_update(approved, signing_request) == []
    assert [
        str(e) for e in validate_signing_request_approval_update(signing_request, approved)
    ] == ['status.conditions: Forbidden: updates may not remove a condition of type "Approved"']
    denied = copy.deepcopy(approved)
    denied["status"]["conditions"].append({"type": "Denied", "status": "True"})
    assert [str(e) for e in validate_signing_request_approval_update(denied, approved)] == [
        'status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually '
        "exclusive"
    ]


def test_a_signing_request_that_is_none(signing_request: Obj) -> None:
    resource = "certificatesigningrequests.certificates.k8s.io"
    spec = {**signing_request["spec"], "request": "eA==", "usages": []}
    assert created(resource, {**signing_request, "spec": spec}) == [
        'spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST',
        "spec.usages: Required value",
    ]
