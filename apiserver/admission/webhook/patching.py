"""From a webhook's answer to the changed object of a request.

The patch is applied to the object in the version that the webhook was shown; the result is taken
in as a request body of that version would be, and converted back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError, new_internal_error
from pilothouse.apimachinery.patch import json_patch
from pilothouse.apimachinery.patch.errors import PatchError
from pilothouse.apimachinery.schema import gvk_of
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apiserver.admission.webhook.caller import CallFailed
from pilothouse.apiserver.admission.webhook.review import JSON_PATCH, patch_annotation
from pilothouse.apiserver.codec.decode import CoercionError, coerce
from pilothouse.apiserver.codec.defaulting import apply_defaults
from pilothouse.apiserver.codec.go_values import json_kind
from pilothouse.apiserver.webhook.reviews import parse_error

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.admission.policy.matching import Match
    from pilothouse.apiserver.admission.policy.served import ServedView
    from pilothouse.apiserver.admission.webhook.caller import Versions
    from pilothouse.apiserver.admission.webhook.hooks import Hook
    from pilothouse.apiserver.admission.webhook.review import Verdict


async def apply_verdict(
    hook: Hook, verdict: Verdict, attributes: Attributes, match: Match, versions: Versions
) -> tuple[str | None, bool]:
    """(the patch for the audit log, whether ``attributes.obj`` is another now).

    :raises CallFailed: the patch can't be read. :raises StatusError: 500, it doesn't apply.
    """
    if not verdict.patch:
        return None, False
    patch = _decode(hook, verdict)
    if not patch:
        return None, False
    if attributes.obj is None:
        raise new_internal_error(
            f'admission webhook "{hook.name}" attempted to modify the object, which is not '
            "supported for this operation"
        )
    if verdict.patch_type != JSON_PATCH:
        reason = f'unsupported patch type "{verdict.patch_type}"'
        raise CallFailed(hook.name, reason, 400)
    shown, _ = await versions.of(match.kind)
    try:
        # A copy of our own: what the patch leaves alone is defaulted in place.
        patched = json_patch.apply(orjson.loads(orjson.dumps(shown)), patch)
        taken = _taken_in(versions.view, attributes, match.kind, patched)
    except (PatchError, CoercionError) as error:
        raise new_internal_error(error.message) from error
    changed = not semantic_equal(shown, taken)
    if "status" not in attributes.obj and attributes.operation == "CREATE":
        taken.pop("status", None)  # which no create sets
    attributes.obj = await _stored(versions.view, attributes, taken)
    versions.forget()
    return patch_annotation(hook.configuration, hook.name, patch), changed


def _decode(hook: Hook, verdict: Verdict) -> Any:
    try:
        patch = orjson.loads(verdict.patch)
    except ValueError:
        problem = parse_error(verdict.patch)
    else:
        if patch is None or isinstance(patch, list):
            return patch
        problem = f"json: cannot unmarshal {json_kind(patch)} into Go value of type jsonpatch.Patch"
    reason = f"received undecodable patch in webhook response: {problem}"
    raise CallFailed(hook.name, reason, 503)


def _taken_in(
    view: ServedView, attributes: Attributes, kind: GroupVersionKind, patched: Any
) -> Obj:
    """:raises StatusError: it does not fit its type."""
    assert attributes.obj is not None
    if not isinstance(patched, dict):
        raise new_internal_error("the patched object is no JSON object")
    found = gvk_of(patched)
    if found != kind:
        raise _other_kind(found, kind)
    if attributes.redecode is not None and gvk_of(attributes.obj) == kind:
        return attributes.redecode(patched)
    schema = view.schema_of(kind)
    if schema is None:
        return patched
    obj = coerce(patched, schema)
    apply_defaults(obj, schema)
    return obj


def _other_kind(found: GroupVersionKind, kind: GroupVersionKind) -> StatusError:
    package = kind.group.partition(".")[0] or "core"
    text = f"converting ({found.version}.{found.kind}) to ({package}.{kind.kind}): "
    return StatusError(500, "", f"{text}unknown conversion")


async def _stored(view: ServedView, attributes: Attributes, obj: Obj) -> Obj:
    """``obj`` in the version that the request's object has inside."""
    assert attributes.obj is not None
    own = gvk_of(attributes.obj)
    if gvk_of(obj) == own:
        return obj
    try:
        stored = await view.convert(obj, own)
    except StatusError as error:
        raise new_internal_error(error.message) from error
    return stored if attributes.redecode is None else attributes.redecode(stored)
