"""PodCertificateRequests: what may be asked, and answered once."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pilothouse.apis.certificates.validation_pod_request import (
    validate_pod_request,
    validate_pod_request_status_update,
    validate_pod_request_update,
)


def stub(bits: int = 0) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return base64.b64encode(der).decode()


def request(**spec: Any) -> dict[str, Any]:
    wanted = {
        "signerName": "example.com/s", "podName": "p", "podUID": "1", "serviceAccountName": "a",
        "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 86400,
        "stubPKCS10Request": stub(),
    }  # fmt: skip
    return {"metadata": {"name": "r"}, "spec": {**wanted, **spec}}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, ""),
        ({"podUID": ""}, "spec.podUID"),
        ({"maxExpirationSeconds": 3599}, "must be in the range [3600, 7862400]"),
        (
            {"signerName": "kubernetes.io/s", "maxExpirationSeconds": 86401},
            "must be in the range [3600, 86400]",
        ),
        ({"stubPKCS10Request": ""}, "exactly one of (stubPKCS10Request)"),
        ({"stubPKCS10Request": "AAAA"}, "must be a valid PKCS#10 CSR"),
        ({"stubPKCS10Request": stub(2048)}, "RSA keys must have modulus size 3072 or 4096"),
    ],
)
def test_create(spec: dict[str, Any], text: str) -> None:
    errors = [str(error) for error in validate_pod_request(request(**spec))]
    assert any(text in error for error in errors) if text else errors == []


def test_spec_stays() -> None:
    assert validate_pod_request_update(request(), request(podName="q"))


def test_answer_is_final() -> None:
    def answered(kind: str, **more: Any) -> dict[str, Any]:
        return {**new, "status": {"conditions": [{"type": kind, "status": "True"}], **more}}

    new = request()
    assert not validate_pod_request_status_update(answered("Denied"), new)
    assert validate_pod_request_status_update(answered("Denied", certificateChain="x"), new)
    assert validate_pod_request_status_update(answered("Issued"), answered("Denied"))
    assert validate_pod_request_status_update(answered("Odd"), new)
    (error,) = validate_pod_request_status_update(answered("Issued"), new)
    assert "must contain at least one certificate" in str(error)
