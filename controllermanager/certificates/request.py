"""What a CertificateSigningRequest asks for, and what the kubelet's signers accept; pure.

The rules of the kubernetes.io signers (pkg/apis/certificates/helpers): ``problem_of`` gives the
text that ends up in the condition Failed, ``is_kubelet_client`` decides automatic approval.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import get_nested

if TYPE_CHECKING:
    from cryptography import x509

    from pilothouse.apimachinery.object import Obj

KUBE_APISERVER_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBE_APISERVER_CLIENT_KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"

_BLOCK = re.compile(rb"-----BEGIN ([^-]+)-----\s*(.*?)-----END \1-----", re.S)
_NODE_USER = "system:node:"
_ENCIPHERMENT = "key encipherment"


class RequestError(Exception):
    """A request that can't be read."""


def parse_request(csr: Obj) -> x509.CertificateSigningRequest:
    """The PKCS#10 request in ``spec.request``. :raises RequestError: there is none."""
    from cryptography import x509

    try:
        block = _BLOCK.search(base64.b64decode(get_nested(csr, "spec", "request", default="")))
        if block is None or block[1] != b"CERTIFICATE REQUEST":
            raise RequestError("PEM block type must be CERTIFICATE REQUEST")
        return x509.load_der_x509_csr(base64.b64decode(b"".join(block[2].split())))
    except ValueError as error:
        raise RequestError(str(error)) from error


def conditions_of(csr: Obj) -> list[Obj]:
    return get_nested(csr, "status", "conditions") or []


def has_condition(csr: Obj, kind: str) -> bool:
    return any(condition.get("type") == kind for condition in conditions_of(csr))


def is_approved(csr: Obj) -> bool:
    return has_condition(csr, APPROVED) and not has_condition(csr, DENIED)


def has_failed(csr: Obj) -> bool:
    return any(
        condition.get("type") == FAILED and condition.get("status") in (None, "", "True")
        for condition in conditions_of(csr)
    )


def common_name(request: x509.CertificateSigningRequest) -> str:
    from cryptography.x509.oid import NameOID

    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def organizations(request: x509.CertificateSigningRequest) -> list[str]:
    from cryptography.x509.oid import NameOID

    found = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [str(attribute.value) for attribute in found]


def alternative_names(
    request: x509.CertificateSigningRequest,
) -> dict[str, list[x509.GeneralName]]:
    """By kind: ``DNS``, ``Email``, ``IP``, ``URI``; other kinds are left out, as signing does."""
    from cryptography import x509

    found: dict[str, list[x509.GeneralName]] = {"DNS": [], "Email": [], "IP": [], "URI": []}
    kinds: dict[Any, str] = {
        x509.DNSName: "DNS",
        x509.RFC822Name: "Email",
        x509.IPAddress: "IP",
        x509.UniformResourceIdentifier: "URI",
    }
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return found
    for name in extension.value:
        if kind := kinds.get(type(name)):
            found[kind].append(name)
    return found


def _usages_problem(usages: Collection[str], purpose: str) -> str:
    required = {"digital signature", _ENCIPHERMENT, purpose}
    if set(usages) in (required, required - {_ENCIPHERMENT}):
        return ""
    return f"usages did not match [{' '.join(sorted(required))}]"


def kubelet_client_problem(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    """Why this is no kubelet's client certificate; empty when it is one."""
    if organizations(request) != ["system:nodes"]:
        return "subject organization is not system:nodes"
    names = alternative_names(request)
    for kind in ("DNS", "Email", "IP", "URI"):
        if names[kind]:
            return f"{kind} subjectAltNames are not allowed"
    if not common_name(request).startswith(_NODE_USER):
        return "subject common name does not begin with system:node:"
    return _usages_problem(usages, "client auth")


def kubelet_serving_problem(
    request: x509.CertificateSigningRequest, usages: Collection[str]
) -> str:
    """Why this is no kubelet's serving certificate; empty when it is one."""
    if organizations(request) != ["system:nodes"]:
        return "subject organization is not system:nodes"
    names = alternative_names(request)
    if not names["DNS"] and not names["IP"]:
        return "DNS or IP subjectAltName is required"
    for kind in ("Email", "URI"):
        if names[kind]:
            return f"{kind} subjectAltNames are not allowed"
    if problem := _usages_problem(usages, "server auth"):
        return problem
    if not common_name(request).startswith(_NODE_USER):
        return "subject common name does not begin with system:node:"
    return ""


def _api_client_problem(usages: Collection[str]) -> str:
    for usage in usages:
        if usage not in ("digital signature", _ENCIPHERMENT, "client auth"):
            return f"invalid usage for client certificate: {usage}"
    if "client auth" not in usages:
        return "missing required usage for client certificate: client auth"
    return ""


def problem_of(
    signer: str, request: x509.CertificateSigningRequest, usages: Collection[str]
) -> str:
    """Why ``signer`` refuses to sign; empty when it does not."""
    if signer == KUBELET_SERVING:
        return kubelet_serving_problem(request, usages)
    if signer == KUBE_APISERVER_CLIENT_KUBELET:
        return kubelet_client_problem(request, usages)
    if signer == KUBE_APISERVER_CLIENT:
        return _api_client_problem(usages)
    return ""
