"""TTL annotation, ServiceCIDRs, token Secrets and their cleaner, node ranges, migrations."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.testing import make_node, make_object, make_pod
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.certificates.trust_bundle import (
    SIGNER,
    TrustBundlePublisher,
    bundle_name,
)
from pilothouse.controllermanager.legacy_token_cleaner import LegacyTokenCleaner
from pilothouse.controllermanager.node_ipam import NodeIpamController, Ranges, RangesFull
from pilothouse.controllermanager.pod_certificate_cleaner import PodCertificateCleaner
from pilothouse.controllermanager.service_cidr import ServiceCIDRController, can_go
from pilothouse.controllermanager.serviceaccount_tokens import ServiceAccountTokenController
from pilothouse.controllermanager.storage_version_migrator import running_message
from pilothouse.controllermanager.ttl import BOUNDARIES, TTLController, step_for
from pilothouse.kubeclient.resources import (
    CLUSTER_TRUST_BUNDLES,
    NODES,
    POD_CERTIFICATE_REQUESTS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICE_CIDRS,
)

DAY = 86400.0


# TTL.


@pytest.mark.parametrize(
    ("nodes", "step", "expected"),
    [(5, 0, 0), (100, 0, 0), (101, 0, 1), (95, 1, 1), (89, 1, 0), (5000, 0, 4), (0, 4, 0)],
)
def test_steps_overlap(nodes, step, expected):
    assert step_for(nodes, step) == expected


@given(st.integers(0, 10_000), st.integers(0, 4))
def test_any_step_is_right_for_its_nodes(nodes, start):
    least, most, _ = BOUNDARIES[step_for(nodes, start)]
    assert least <= nodes <= most


async def test_nodes_are_annotated(world):
    world.client.seed(make_node("n"))
    await world.run(TTLController(world.env))
    annotations = world.client.current(NODES, "n")["metadata"]["annotations"]
    assert annotations["node.alpha.kubernetes.io/ttl"] == "0"


# ServiceCIDRs.


def cidr(name, *ranges, **metadata):
    made = make_object("networking.k8s.io/v1", "ServiceCIDR", name, spec={"cidrs": list(ranges)})
    made["metadata"] |= metadata
    return made


def address(text):
    made = make_object("networking.k8s.io/v1", "IPAddress", text)
    made["metadata"]["labels"] = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    return made


@pytest.mark.parametrize(
    ("others", "addresses", "expected"),
    [
        ([], [], True),
        ([], ["10.0.0.7"], False),
        ([], ["10.1.0.7"], True),
        ([cidr("all", "10.0.0.0/8")], ["10.0.0.7"], True),
        ([cidr("half", "10.0.0.0/25")], ["10.0.0.7"], True),
        ([cidr("half", "10.0.0.0/25")], ["10.0.0.200"], False),
    ],
)
def test_ranges_with_orphans_stay(others, addresses, expected):
    mine = cidr("mine", "10.0.0.0/24")
    assert can_go(mine, [mine, *others], [address(a) for a in addresses]) is expected


async def test_service_cidr_is_ready_then_held_while_it_is_used(world):
    await world.client.create(SERVICE_CIDRS, cidr("a", "10.0.0.0/24"))
    await world.run(ServiceCIDRController(world.env))
    current = world.client.current(SERVICE_CIDRS, "a")
    assert current["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    assert condition_of(current, "Ready")["status"] == "True"
    world.client.seed(address("10.0.0.1"))
    current["metadata"]["deletionTimestamp"] = format_time(world.clock.now())
    world.client.seed(current)
    await world.settle()
    assert condition_of(world.client.current(SERVICE_CIDRS, "a"), "Ready")["reason"] == (
        "Terminating"
    )


# Tokens.


@pytest.fixture
def key_file(tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "sa.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def account(**fields):
    return make_object("v1", "ServiceAccount", "bot", "default", **fields)


def token_secret(name="t", **annotations):
    made = make_object("v1", "Secret", name, "default", type="kubernetes.io/service-account-token")
    made["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "bot", **annotations}
    return made


async def test_token_secret_is_filled_and_goes_with_its_account(world, key_file):
    made = await world.client.create(SERVICE_ACCOUNTS, account(), "default")
    await world.run(ServiceAccountTokenController(world.env, key_file=key_file, root_ca="PEM"))
    await world.client.create(SECRETS, token_secret(), "default")
    await world.settle()
    data = world.client.current(SECRETS, "t", "default")["data"]
    assert base64.b64decode(data["ca.crt"]) == b"PEM"
    token = base64.b64decode(data["token"]).decode()
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == "system:serviceaccount:default:bot"
    assert claims["kubernetes.io/serviceaccount/service-account.uid"] == made["metadata"]["uid"]
    await world.client.delete(SERVICE_ACCOUNTS, "bot", "default")
    await world.settle()
    assert world.client.objects(SECRETS) == []


async def test_unused_automatic_tokens_are_marked_then_deleted(world):
    world.client.seed(account(secrets=[{"name": "auto"}]))
    for name in ("auto", "manual", "mounted"):
        world.client.seed(token_secret(name))
    tracking = make_object(
        "v1", "ConfigMap", "kube-apiserver-legacy-service-account-token-tracking", "kube-system",
        data={"since": world.clock.now().strftime("%Y-%m-%d")},
    )  # fmt: skip
    world.client.seed(tracking)
    pod = make_pod("p")
    pod["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "mounted"}}]
    world.client.seed(pod)
    await world.run(LegacyTokenCleaner(world.env, unused_for=3 * DAY))
    label = "kubernetes.io/legacy-token-invalid-since"
    for _ in range(6):
        await world.advance(DAY)
    labels = world.client.current(SECRETS, "auto", "default")["metadata"].get("labels") or {}
    assert label in labels
    for _ in range(5):
        await world.advance(DAY)
    left = sorted(s["metadata"]["name"] for s in world.client.objects(SECRETS))
    assert left == ["manual", "mounted"]


# Node ranges.


@given(st.lists(st.sampled_from(["give", "take", "occupy"]), max_size=60))
def test_ranges_are_never_given_twice(steps):
    ranges, given_out = Ranges("10.0.0.0/27", 30), []
    for step in steps:
        if step == "take" and given_out:
            ranges.release(given_out.pop(0))
        elif step == "occupy" and "10.0.0.8/30" not in given_out:
            ranges.occupy("10.0.0.8/30")
            given_out.append("10.0.0.8/30")
        elif step == "give":
            try:
                made = ranges.allocate()
            except RangesFull:
                assert len(given_out) == 8
            else:
                assert made not in given_out
                given_out.append(made)


async def test_nodes_get_ranges(world):
    kept = make_node("kept")
    kept["spec"] = {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}
    for made in (kept, make_node("a"), make_node("b")):
        world.client.seed(made)
    await world.run(NodeIpamController(world.env, cluster_cidr="10.244.0.0/22", mask_size=24))
    cidrs = {n["metadata"]["name"]: n["spec"]["podCIDR"] for n in world.client.objects(NODES)}
    assert cidrs["kept"] == "10.244.0.0/24"
    assert len(set(cidrs.values())) == 3


# The rest.


async def test_new_ca_replaces_the_published_one(world):
    old = make_object("certificates.k8s.io/v1", "ClusterTrustBundle", "old")
    other = make_object("certificates.k8s.io/v1", "ClusterTrustBundle", "other")
    old["spec"] = {"signerName": SIGNER, "trustBundle": "OLD"}
    other["spec"] = {"signerName": "example.com/other", "trustBundle": "X"}
    world.client.seed(old)
    world.client.seed(other)
    await world.run(TrustBundlePublisher(world.env, "PEM"))
    left = {b["metadata"]["name"]: b["spec"] for b in world.client.objects(CLUSTER_TRUST_BUNDLES)}
    assert left == {
        "other": other["spec"],
        bundle_name(SIGNER, "PEM"): {"signerName": SIGNER, "trustBundle": "PEM"},
    }
    assert bundle_name(SIGNER, "PEM").startswith("kubernetes.io:kube-apiserver-serving:")


@pytest.mark.parametrize(
    ("left", "total", "message"),
    [
        (0, 0, "The migration is running"),
        (2, 5, "The migration is running, 2/5 objects not yet migrated"),
        (0, 5, "The migration is running, 5 objects verified migrated"),
    ],
)
def test_migration_messages(left, total, message):
    assert running_message(left, total) == message


async def test_old_certificate_requests_go(world):
    made = make_object("certificates.k8s.io/v1", "PodCertificateRequest", "r", "default")
    await world.client.create(POD_CERTIFICATE_REQUESTS, made, "default")
    await world.run(PodCertificateCleaner(world.env))
    await world.advance(14 * 60)
    assert world.client.objects(POD_CERTIFICATE_REQUESTS)
    await world.advance(2 * 60)
    assert not world.client.objects(POD_CERTIFICATE_REQUESTS)
