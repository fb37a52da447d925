"""The account, its token volume, its pull secrets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilothouse.apimachinery.errors import new_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.testing import Admission, pod

ACCOUNTS = GroupResource("", "serviceaccounts")


def account(name: str = "bot", **more: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


async def test_token_volume() -> None:
    obj = pod(initContainers=[{"name": "i"}])
    await Admission().run("CREATE", "pods", obj)
    (volume,) = obj["spec"]["volumes"]
    assert volume["name"].startswith("kube-api-access-") and len(volume["name"]) == 21
    assert volume["projected"] == {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {
                "downwardAPI": {
                    "items": [
                        {
                            "path": "namespace",
                            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                        }
                    ]
                }
            },
        ],
    }
    mount = {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    for field in ("containers", "initContainers"):
        assert obj["spec"][field][0]["volumeMounts"] == [mount]


@pytest.mark.parametrize(
    ("in_pod", "in_account", "mounted"),
    [(None, None, True), (False, True, False), (True, False, True), (None, False, False)],
)
async def test_automount(in_pod: bool | None, in_account: bool | None, mounted: bool) -> None:
    admission = Admission()
    wish = {} if in_account is None else {"automountServiceAccountToken": in_account}
    admission.put("serviceaccounts", account(**wish))
    obj = pod(serviceAccountName="bot")
    if in_pod is not None:
        obj["spec"]["automountServiceAccountToken"] = in_pod
    await admission.run("CREATE", "pods", obj)
    assert ("volumes" in obj["spec"]) is mounted


async def test_own_mount_wins() -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounts = [{"name": "mine", "mountPath": path}]
    obj = pod(containers=[{"name": "c", "volumeMounts": mounts}])
    await Admission().run("CREATE", "pods", obj)
    assert "volumes" not in obj["spec"]
    assert obj["spec"]["containers"][0]["volumeMounts"] == mounts


async def test_pull_secrets() -> None:
    admission = Admission()
    admission.put("serviceaccounts", account(imagePullSecrets=[{"name": "reg"}]))
    obj = pod(serviceAccountName="bot")
    await admission.run("CREATE", "pods", obj)
    assert obj["spec"]["imagePullSecrets"] == [{"name": "reg"}]
    obj = pod(serviceAccountName="bot", imagePullSecrets=[{"name": "own"}])
    await admission.run("CREATE", "pods", obj)
    assert obj["spec"]["imagePullSecrets"] == [{"name": "own"}]


async def test_missing_account() -> None:
    error = await Admission().refusal("CREATE", "pods", pod(serviceAccountName="none"))
    assert error.code == 403
    assert error.message == (
        'pods "p" is forbidden: error looking up service account ns/none: serviceaccount "none" '
        "not found"
    )


class EmptyClient:
    async def get(self, resource: object, name: str, namespace: str = "") -> Obj:
        raise new_not_found(ACCOUNTS, name)


async def test_waits_for_the_default_account() -> None:
    admission = Admission()
    admission.listers.remove(ACCOUNTS, "ns", "default")
    admission.chain.hooks.client = EmptyClient()  # type: ignore[assignment]
    obj = pod()
    running = asyncio.ensure_future(admission.run("CREATE", "pods", obj))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not running.done()
    admission.put("serviceaccounts", account("default"))
    await running
    assert obj["spec"]["serviceAccountName"] == "default"


async def test_does_not_wait_forever() -> None:
    admission = Admission()
    admission.listers.remove(ACCOUNTS, "ns", "default")
    admission.chain.hooks.client = EmptyClient()  # type: ignore[assignment]
    running = asyncio.ensure_future(admission.refusal("CREATE", "pods", pod()))
    for _ in range(3):
        await asyncio.sleep(0)
    admission.clock.advance(2)
    assert "error looking up service account ns/default" in (await running).message


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"serviceAccountName": "x"}, "a mirror pod may not reference service accounts"),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
            "a mirror pod may not reference secrets",
        ),
        (
            {
                "volumes": [
                    {
                        "name": "v",
                        "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]},
                    }
                ]
            },
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
async def test_mirror_pods(spec: Obj, text: str) -> None:
    obj = pod(**spec)
    obj["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert text in (await Admission().refusal("CREATE", "pods", obj)).message


async def test_enforced_mountable_secrets() -> None:
    admission = Admission()
    limited = account(secrets=[{"name": "ok"}])
    limited["metadata"]["annotations"] = {"kubernetes.io/enforce-mountable-secrets": "true"}
    admission.put("serviceaccounts", limited)
    volumes = [{"name": "v", "secret": {"secretName": "bad"}}]
    error = await admission.refusal(
        "CREATE", "pods", pod(serviceAccountName="bot", volumes=volumes)
    )
    assert (
        'volume with secret.secretName="bad" is not allowed because service account bot does not '
        "reference that secret"
    ) in error.message
    volumes[0]["secret"] = {"secretName": "ok"}
    await admission.run("CREATE", "pods", pod(serviceAccountName="bot", volumes=volumes))
