"""Approving, signing and cleaning up CertificateSigningRequests."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilothouse.apimachinery.testing import make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.certs import make_ca
from pilothouse.controllermanager.certificates import authority
from pilothouse.controllermanager.certificates.approving import ApprovingController
from pilothouse.controllermanager.certificates.cleaner import CleanerController
from pilothouse.controllermanager.certificates.request import (
    KUBE_APISERVER_CLIENT,
    KUBE_APISERVER_CLIENT_KUBELET,
    KUBELET_SERVING,
    LEGACY_UNKNOWN,
)
from pilothouse.controllermanager.certificates.signing import SignerFiles, SigningController
from pilothouse.controllermanager.certificates.trust_bundle import (
    SIGNER,
    TrustBundlePublisher,
    bundle_name,
)
from pilothouse.kubeclient.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CLUSTER_TRUST_BUNDLES,
)

KUBELET_USAGES = ["digital signature", "client auth"]


def pem_request(common_name="jane", organizations=(), names=()):
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        alternatives = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def signing_request(
    name="csr", signer=KUBE_APISERVER_CLIENT, usages=("client auth",), user="jane", *, pem=None,
    conditions=(), **spec,
):  # fmt: skip
    request = base64.b64encode(pem or pem_request()).decode()
    csr = make_object("certificates.k8s.io/v1", "CertificateSigningRequest", name)
    csr["spec"] = {
        "request": request, "signerName": signer, "usages": list(usages), "username": user, **spec,
    }  # fmt: skip
    csr["status"] = {"conditions": [{"type": c, "status": "True"} for c in conditions]}
    return csr


@pytest.fixture
def files(tmp_path, world):
    pair = make_ca("kubernetes", now=world.clock.now())
    (tmp_path / "ca.crt").write_bytes(pair.cert)
    (tmp_path / "ca.key").write_bytes(pair.key)
    return SignerFiles(str(tmp_path / "ca.crt"), str(tmp_path / "ca.key"))


async def signed(world, files, csr, duration=365 * 86400):
    world.client.seed(csr)
    signers = dict.fromkeys(
        (KUBE_APISERVER_CLIENT, KUBE_APISERVER_CLIENT_KUBELET, KUBELET_SERVING, LEGACY_UNKNOWN),
        files,
    )
    await world.run(SigningController(world.env, signers, duration))
    return world.client.objects(CERTIFICATE_SIGNING_REQUESTS)[0]["status"]


async def test_an_approved_request_is_signed(world, files):
    csr = signing_request(
        usages=["digital signature", "key encipherment", "client auth"], conditions=["Approved"],
        pem=pem_request("jane", ["devs"]),
    )  # fmt: skip
    status = await signed(world, files, csr)
    certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    ca = x509.load_pem_x509_certificate(Path(files.cert_file).read_bytes())  # noqa: ASYNC240
    certificate.verify_directly_issued_by(ca)
    assert certificate.subject.rfc4514_string() == "CN=jane,O=devs"
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and usage.value.key_encipherment
    assert not usage.value.key_cert_sign
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = world.clock.now().replace(microsecond=0)
    assert certificate.not_valid_before_utc == now - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == now + timedelta(days=365) - timedelta(minutes=5)


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(3600, 60), (60, 10), (12 * 3600, 12 * 60 - 5), (None, 24 * 60 - 5)]
)
async def test_expiration_seconds(world, files, seconds, minutes):
    more = {} if seconds is None else {"expirationSeconds": seconds}
    csr = signing_request(conditions=["Approved"], **more)
    status = await signed(world, files, csr, duration=86400)
    certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    now = world.clock.now().replace(microsecond=0)
    assert certificate.not_valid_after_utc == now + timedelta(minutes=minutes)


@pytest.mark.parametrize("conditions", [[], ["Approved", "Denied"], ["Approved", "Failed"]])
async def test_what_is_not_approved_is_not_signed(world, files, conditions):
    status = await signed(world, files, signing_request(conditions=conditions))
    assert "certificate" not in status


async def test_signers_of_others_are_left_alone(world, files):
    csr = signing_request(signer="example.com/signer", conditions=["Approved"])
    assert "certificate" not in await signed(world, files, csr)


@pytest.mark.parametrize(
    ("signer", "usages", "pem", "message"),
    [
        (
            KUBE_APISERVER_CLIENT, ["server auth"], None,
            "invalid usage for client certificate: server auth",
        ),
        (
            KUBE_APISERVER_CLIENT, ["digital signature"], None,
            "missing required usage for client certificate: client auth",
        ),
        (
            KUBE_APISERVER_CLIENT_KUBELET, KUBELET_USAGES, pem_request("system:node:a"),
            "subject organization is not system:nodes",
        ),
        (
            KUBE_APISERVER_CLIENT_KUBELET, KUBELET_USAGES,
            pem_request("system:node:a", ["system:nodes"], ["a.example"]),
            "DNS subjectAltNames are not allowed",
        ),
        (
            KUBE_APISERVER_CLIENT_KUBELET, ["client auth"],
            pem_request("system:node:a", ["system:nodes"]),
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            KUBELET_SERVING, ["digital signature", "server auth"],
            pem_request("system:node:a", ["system:nodes"]),
            "DNS or IP subjectAltName is required",
        ),
        (
            KUBELET_SERVING, ["digital signature", "server auth"],
            pem_request("a", ["system:nodes"], ["a"]),
            "subject common name does not begin with system:node:",
        ),
    ],
)  # fmt: skip
async def test_requests_that_the_signer_refuses_fail(world, files, signer, usages, pem, message):
    csr = signing_request(signer=signer, usages=usages, pem=pem, conditions=["Approved"])
    status = await signed(world, files, csr)
    failed = status["conditions"][-1]
    assert (failed["type"], failed["reason"], failed["message"]) == (
        "Failed", "SignerValidationFailure", message,
    )  # fmt: skip
    assert "certificate" not in status


async def test_serving_certificates_have_the_names(world, files):
    pem = pem_request("system:node:a", ["system:nodes"], ["a.example"])
    csr = signing_request(
        signer=KUBELET_SERVING, usages=["digital signature", "server auth"], pem=pem,
        conditions=["Approved"],
    )  # fmt: skip
    status = await signed(world, files, csr)
    certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]


def test_unknown_usages(world, files):
    request = x509.load_pem_x509_csr(pem_request())
    ca = authority.Authority.load(files.cert_file, files.key_file)
    with pytest.raises(authority.SigningError, match=r'unrecognized usage values: \["x" "y"\]'):
        authority.sign(ca, request, ["x", "y"], timedelta(days=1), world.clock.now())


def test_expired_authority(world, files):
    request = x509.load_pem_x509_csr(pem_request())
    ca = authority.Authority.load(files.cert_file, files.key_file)
    later = world.clock.now() + timedelta(days=4000)
    with pytest.raises(authority.SigningError, match="refusing to sign"):
        authority.sign(ca, request, [], timedelta(days=1), later)


def reviewer(allowed):
    asked = []

    def answer(action):
        attributes = action.object["spec"]["resourceAttributes"]
        asked.append((action.object["spec"]["user"], attributes["subresource"]))
        return {**action.object, "status": {"allowed": attributes["subresource"] in allowed}}

    return asked, answer


NODE = pem_request("system:node:a", ["system:nodes"])


@pytest.mark.parametrize(
    ("user", "allowed", "asked", "message"),
    [
        (
            "system:node:a", ["selfnodeclient"], ["selfnodeclient"],
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ),
        (
            "system:node:a", ["nodeclient"], ["selfnodeclient", "nodeclient"],
            "Auto approving kubelet client certificate after SubjectAccessReview.",
        ),
        (
            "system:bootstrap:abcdef", ["nodeclient"], ["nodeclient"],
            "Auto approving kubelet client certificate after SubjectAccessReview.",
        ),
        ("system:bootstrap:abcdef", [], ["nodeclient"], None),
    ],
)  # fmt: skip
async def test_kubelet_clients_are_approved(world, user, allowed, asked, message):
    questions, answer = reviewer(allowed)
    world.client.react("create", "subjectaccessreviews", answer)
    csr = signing_request(
        signer=KUBE_APISERVER_CLIENT_KUBELET, usages=KUBELET_USAGES, user=user, pem=NODE
    )
    world.client.seed(csr)
    controller = ApprovingController(world.env)
    await world.run(controller)
    assert questions[: len(asked)] == [(user, permission) for permission in asked]
    conditions = world.client.objects(CERTIFICATE_SIGNING_REQUESTS)[0]["status"]["conditions"]
    assert [c["message"] for c in conditions] == ([message] if message else [])
    if message:
        assert conditions[0]["reason"] == "AutoApproved"


async def test_other_signers_are_not_approved(world):
    world.client.seed(signing_request(signer=KUBE_APISERVER_CLIENT, pem=NODE))
    await world.run(ApprovingController(world.env))
    assert not world.client.writes()


@pytest.mark.parametrize(
    ("condition", "certificate", "hours"),
    [
        (None, "", 24),
        ("Denied", "", 1),
        ("Failed", "", 1),
        ("Approved", "", 24),
        ("Approved", "eA==", 1),
    ],
)
async def test_old_requests_are_deleted(world, condition, certificate, hours):
    csr = signing_request()
    now = format_time(world.clock.now())
    csr["metadata"]["creationTimestamp"] = now
    if condition:
        csr["status"]["conditions"] = [{"type": condition, "status": "True", "lastUpdateTime": now}]
    if certificate:
        csr["status"]["certificate"] = certificate
    world.client.seed(csr)
    await world.run(CleanerController(world.env))
    await world.advance(hours * 3600 - 10)
    assert world.client.objects(CERTIFICATE_SIGNING_REQUESTS)
    await world.advance(20)
    assert not world.client.objects(CERTIFICATE_SIGNING_REQUESTS)


async def test_expired_certificates_are_deleted(world, files):
    csr = signing_request(conditions=["Approved"], expirationSeconds=600)
    status = await signed(world, files, csr)
    assert status["certificate"]
    await world.run(CleanerController(world.env))
    await world.advance(590)
    assert world.client.objects(CERTIFICATE_SIGNING_REQUESTS)
    await world.advance(20)
    assert not world.client.objects(CERTIFICATE_SIGNING_REQUESTS)


def bundle(name, signer=SIGNER, text="OLD"):
    made = make_object("certificates.k8s.io/v1", "ClusterTrustBundle", name)
    made["spec"] = {"signerName": signer, "trustBundle": text}
    return made


async def test_the_clusters_ca_is_published(world):
    world.client.seed(bundle("kubernetes.io:kube-apiserver-serving:old"))
    world.client.seed(bundle("others", "example.com/x"))
    name = bundle_name(SIGNER, "NEW")
    assert name.startswith("kubernetes.io:kube-apiserver-serving:")
    await world.run(TrustBundlePublisher(world.env, "NEW"))
    found = {
        b["metadata"]["name"]: b["spec"]["trustBundle"]
        for b in world.client.objects(CLUSTER_TRUST_BUNDLES)
    }
    assert found == {name: "NEW", "others": "OLD"}
    world.client.seed(bundle(name, text="CHANGED"))
    await world.settle()
    assert world.client.current(CLUSTER_TRUST_BUNDLES, name)["spec"]["trustBundle"] == "NEW"
    world.client.remove(CLUSTER_TRUST_BUNDLES, name)
    await world.settle()
    assert world.client.current(CLUSTER_TRUST_BUNDLES, name)
