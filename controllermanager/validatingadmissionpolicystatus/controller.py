"""Writes what type checking finds to ``status.typeChecking`` of ValidatingAdmissionPolicies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, meta
from pilothouse.apimachinery.schema import GroupVersionKind, parse_api_version
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import VALIDATING_ADMISSION_POLICIES as POLICIES

if TYPE_CHECKING:
    from pilothouse.cel.types import Type
    from pilothouse.controllermanager.validatingadmissionpolicystatus.schemas import (
        SchemaResolver,
    )
    from pilothouse.kubeclient.interfaces import Environment

FIELD_MANAGER = "validatingadmissionpolicy-status"


class ValidatingAdmissionPolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._policies = self.watch(POLICIES, self.enqueue, lambda _, new: self.enqueue(new))

    async def sync(self, key: str) -> None:
        policy = self._policies.get(key)
        if policy is None:
            return
        generation = meta(policy).get("generation") or 0
        if generation <= ((policy.get("status") or {}).get("observedGeneration") or 0):
            return
        status = {
            "observedGeneration": generation,
            "typeChecking": await self._type_checking(policy.get("spec") or {}),
        }
        applied = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": meta(policy)["name"]},
            "status": status,
        }
        await self.client.patch(
            POLICIES,
            meta(policy)["name"],
            applied,
            "application/apply-patch+yaml",
            subresource="status",
            field_manager=FIELD_MANAGER,
            force=True,
        )

    async def _type_checking(self, spec: Obj) -> Obj:
        # Compilers and schemas are for clusters with policies only.
        from pilothouse.controllermanager.validatingadmissionpolicystatus import (
            schemas,
            typechecking,
        )

        resolver = schemas.SchemaResolver(self.client)
        kinds = await resolver.kinds(spec)
        params = await _params_type(spec, resolver)
        warnings = typechecking.check(spec, kinds, params)
        return {"expressionWarnings": warnings} if warnings else {}


async def _params_type(spec: Obj, resolver: SchemaResolver) -> Type | None:
    kind = spec.get("paramKind")
    if kind is None:
        return None
    try:
        group, version = parse_api_version(kind.get("apiVersion") or "")
    except ValueError:
        return None
    return await resolver.type_of(GroupVersionKind(group, version, kind.get("kind") or ""))
