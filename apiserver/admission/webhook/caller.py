"""Asks one webhook about one request: matching, the call, and what a failure means.

The two plugins differ in the order in which they ask and in what they do with an answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import (
    StatusError,
    new_forbidden,
    new_internal_error,
)
from pilothouse.apimachinery.schema import gvk_of
from pilothouse.apiserver.admission.policy.authorization import RequestAuthorizer
from pilothouse.apiserver.admission.policy.request import admission_request
from pilothouse.apiserver.admission.policy.served import ServedView
from pilothouse.apiserver.admission.webhook.conditions import ConditionError
from pilothouse.apiserver.admission.webhook.hooks import Hooks
from pilothouse.apiserver.admission.webhook.metrics import (
    CALLING_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    metrics_of,
)
from pilothouse.apiserver.admission.webhook.review import (
    InvalidReview,
    Verdict,
    check_answer,
    denial,
    dry_run_unsupported,
    make_review,
    review_version,
    verdict_of,
)
from pilothouse.apiserver.authorization.remote import resolve
from pilothouse.apiserver.codec.zero_values import fill_status
from pilothouse.apiserver.registry.before import new_uid
from pilothouse.apiserver.webhook.client_config import ConfigError
from pilothouse.apiserver.webhook.errors import CallError

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource, GroupVersionKind
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation
    from pilothouse.apiserver.admission.plugin import AdmissionContext, ObjectIndex
    from pilothouse.apiserver.admission.policy.matching import Match, Question
    from pilothouse.apiserver.admission.webhook.hooks import Hook
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.webhook.client_config import Target

log = logging.getLogger(__name__)

_CONFIGURATION_GROUP = "admissionregistration.k8s.io"
_EXEMPT = frozenset(
    (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    )
)
_VIRTUAL = frozenset(
    (
        "selfsubjectreviews.authentication.k8s.io",
        "tokenreviews.authentication.k8s.io",
        "localsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
    )
)
"""Webhooks must not be able to lock a cluster out of its own authentication."""


class CallFailed(Exception):
    """The webhook gave no valid answer: its failure policy applies."""

    def __init__(self, name: str, reason: str, code: int) -> None:
        super().__init__(f'failed calling webhook "{name}": {reason}')
        self.code = code


class Denied(StatusError):
    """A webhook's refusal."""

    def __init__(self, name: str, result: Obj | None) -> None:
        error = denial(name, result)
        super().__init__(error.code, error.reason, error.message, error.details)


class Versions:
    """A request's objects in the kinds that webhooks ask for, each converted once."""

    def __init__(self, view: ServedView, attributes: Attributes) -> None:
        self.view = view
        self._attributes = attributes
        self._converted: dict[GroupVersionKind, tuple[Obj | None, Obj | None]] = {}

    def forget(self) -> None:
        """The object has changed."""
        self._converted.clear()

    async def of(self, kind: GroupVersionKind) -> tuple[Obj | None, Obj | None]:
        """(object, old object). :raises StatusError: 500, they can't be converted."""
        found = self._converted.get(kind)
        if found is None:
            attributes = self._attributes
            found = (
                self._with_status(await self._convert(attributes.obj, kind)),
                await self._convert(attributes.old_obj, kind),
            )
            self._converted[kind] = found
        return found

    def _with_status(self, obj: Obj | None) -> Obj | None:
        """A new object has an empty status in Go; ours gets it when it is written."""
        attributes = self._attributes
        if obj is None or "status" in obj or attributes.operation != "CREATE":
            return obj
        registry = self.view.registry
        served = None if registry is None else registry.by_kind(gvk_of(obj))
        if served is None or attributes.subresource or not served.strategy.has_status:
            return obj
        shown = dict(obj)
        fill_status(shown, served.schema)
        return shown

    async def _convert(self, obj: Obj | None, kind: GroupVersionKind) -> Obj | None:
        if obj is None:
            return None
        try:
            return await self.view.convert(obj, kind)
        except StatusError as error:
            raise new_internal_error(error.message) from error


class Caller:
    """What both plugins share. ``kind`` is ``admit`` or ``validating``, as metrics have it."""

    def __init__(self, context: AdmissionContext, index: ObjectIndex, kind: str) -> None:
        self._context = context
        self.kind = kind
        self.mutating = kind == "admit"
        self.view = ServedView(context)
        self.hooks = Hooks(index)
        self.metrics = metrics_of(context.hooks.metrics)

    def concerns(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        """Whether any rule could match: asked once per sort of request."""
        if resource.group == _CONFIGURATION_GROUP and resource.resource in _EXEMPT:
            return False
        if str(resource) in _VIRTUAL:
            return False
        registry = self.view.registry
        served = None if registry is None else registry.by_group_resource(resource)
        equivalents = () if served is None else self.view.equivalents(served.gvr, subresource)
        return any(
            hook.may_concern(operation, resource, subresource, equivalents)
            for hook in self.hooks.ordered()
        )

    async def match(
        self, hook: Hook, attributes: Attributes, question: Question, versions: Versions
    ) -> Match | None:
        """As what the webhook is to be asked; None: not at all. :raises StatusError: 403, 500."""
        match = hook.match(question)
        if match is None or hook.conditions is None:
            return match
        obj, old = await versions.of(match.kind)
        authorizer = RequestAuthorizer(None, attributes.user)
        activation = self._activation(attributes, match, obj, old, authorizer)
        conditions = hook.conditions

        def hold(view: Authorizer | None) -> bool:
            authorizer.use(view)
            return conditions.hold(activation)

        type_ = "admit" if self.mutating else "validate"
        labels = (hook.name, "webhook", type_, attributes.operation)
        try:
            if await resolve(self._context.hooks.authorizer, hold):
                return match
        except ConditionError as error:
            self.metrics.condition_errors.inc(*labels)
            if not hook.ignore_failures:
                log.warning(
                    "failed evaluating match conditions, failing closed %s: %s", hook.name, error
                )
                resource = attributes.resource.group_resource
                raise new_forbidden(resource, attributes.name, str(error)) from error
        self.metrics.condition_exclusions.inc(*labels)
        return None

    def _activation(
        self,
        attributes: Attributes,
        match: Match,
        obj: Obj | None,
        old: Obj | None,
        authorizer: RequestAuthorizer,
    ) -> dict[str, Any]:
        """The variables of match conditions."""
        from pilothouse.cel.kubernetes import request_resource_check

        request = admission_request(attributes, match)
        return {
            "object": obj,
            "oldObject": old,
            "namespaceObject": None,
            "request": request,
            "authorizer": authorizer,
            "authorizer.requestResource": request_resource_check(
                authorizer,
                group=match.resource.group,
                resource=match.resource.resource,
                subresource=attributes.subresource,
                namespace=request.get("namespace", ""),
                name=attributes.name,
            ),
        }

    async def ask(
        self, hook: Hook, attributes: Attributes, match: Match, versions: Versions
    ) -> Verdict:
        """An answer that allows. :raises CallFailed: there is none.
        :raises StatusError: the webhook refused, or it may not be asked."""
        if attributes.dry_run and not hook.supports_dry_run:
            raise dry_run_unsupported(hook.name)
        obj, old = await versions.of(match.kind)
        uid = new_uid(self._context.random)
        try:
            version = review_version(hook.spec.get("admissionReviewVersions") or ())
        except InvalidReview as error:
            reason = f"could not create admission objects: {error}"
            raise CallFailed(hook.name, reason, 400) from error
        review = make_review(version, uid, attributes, match, obj, old)
        answer = await self._post(hook, review, version)
        try:
            verdict = verdict_of(answer, version, uid, mutating=self.mutating)
        except InvalidReview as error:
            reason = f"received invalid webhook response: {error}"
            raise CallFailed(hook.name, reason, 503) from error
        for key, value in verdict.audit_annotations.items():
            attributes.audit_annotations.setdefault(f"{hook.name}/{key}", value)
        attributes.warnings += verdict.warnings
        if not verdict.allowed:
            raise Denied(hook.name, verdict.result)
        return verdict

    async def _post(self, hook: Hook, review: Obj, version: str) -> Obj:
        make_client = self._context.hooks.webhooks
        if make_client is None:
            raise CallFailed(hook.name, "could not get REST client: none", 500)
        try:
            answer = await make_client().post(self._target(hook), review, hook.timeout)
            check_answer(answer, version)
            return answer
        except CallError as error:
            reason = f"failed to call webhook: {error}"
            raise CallFailed(hook.name, reason, error.code) from error

    def _target(self, hook: Hook) -> Target:
        try:
            return hook.target
        except ConfigError as error:
            reason = f'could not get REST client: failed calling webhook "": {error}'
            raise CallFailed(hook.name, reason, 500) from error

    # what came of it

    def record(
        self,
        hook: Hook,
        attributes: Attributes,
        seconds: float,
        error: CallFailed | StatusError | None,
    ) -> None:
        """Counts one call; ``error`` is what ``ask`` raised."""
        code, why, rejected = 200, "", False
        if isinstance(error, CallFailed):
            code, why, rejected = error.code, CALLING_ERROR, not hook.ignore_failures
        elif isinstance(error, Denied):
            code, why, rejected = error.code, NO_ERROR, True
        elif error is not None:
            code, why, rejected = 0, INTERNAL_ERROR, True
        operation = attributes.operation
        if rejected:
            self.metrics.rejected(hook.name, self.kind, operation, why, code)
        self.metrics.called(hook.name, self.kind, operation, seconds, code, rejected=rejected)

    def failed(
        self, hook: Hook, attributes: Attributes, error: CallFailed, annotation: str
    ) -> None:
        """Goes on if the webhook may fail. :raises StatusError: 500, it may not."""
        if not hook.ignore_failures:
            log.warning("failed calling webhook, failing closed %s: %s", hook.name, error)
            raise new_internal_error(str(error)) from error
        log.warning("failed calling webhook, failing open %s: %s", hook.name, error)
        self.metrics.fail_open.inc(hook.name, self.kind)
        attributes.audit_annotations.setdefault(annotation, hook.name)
