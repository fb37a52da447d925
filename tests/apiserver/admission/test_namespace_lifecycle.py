"""Nothing new in namespaces that are missing or terminating."""

from __future__ import annotations

import pytest

from pilothouse.apiserver.admission.testing import Admission

OBJ = {"metadata": {"name": "c"}}


async def test_missing_namespace() -> None:
    error = await Admission().refusal("CREATE", "configmaps", OBJ, namespace="x")
    assert (error.code, error.message) == (404, 'namespaces "x" not found')


async def test_terminating_namespace() -> None:
    admission = Admission()
    admission.put("namespaces", {"metadata": {"name": "x"}, "status": {"phase": "Terminating"}})
    error = await admission.refusal("CREATE", "configmaps", OBJ, namespace="x")
    assert error.code == 403
    assert error.message == (
        'configmaps "c" is forbidden: unable to create new content in namespace x because it is '
        "being terminated"
    )
    assert error.status["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": "namespace x is being terminated",
            "field": "metadata.namespace",
        }
    ]
    await admission.run("UPDATE", "configmaps", OBJ, OBJ, namespace="x")
    await admission.run("DELETE", "configmaps", None, OBJ, namespace="x", name="c")


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
async def test_immortal(name: str) -> None:
    error = await Admission().refusal("DELETE", "namespaces", None, namespace="", name=name)
    assert error.message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


async def test_other_namespaces_are_mortal() -> None:
    await Admission().run("DELETE", "namespaces", None, namespace="", name="kube-node-lease")


async def test_asks_the_store_when_the_cache_lags() -> None:
    class Client:
        async def get(self, resource: object, name: str, namespace: str = "") -> object:
            return {"metadata": {"name": name}, "status": {"phase": "Active"}}

    admission = Admission()
    admission.chain.hooks.client = Client()  # type: ignore[assignment]
    await admission.run("CREATE", "configmaps", OBJ, namespace="new")
