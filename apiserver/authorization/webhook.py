"""An authorizer that posts a SubjectAccessReview to a remote service (authorizer/webhook).

Its answers are kept for ``authorized_ttl`` or ``unauthorized_ttl`` seconds. Match conditions say
which requests it is asked about at all. When it can't be asked, the failure policy decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import orjson

from pilothouse.apiserver.authentication.review_client import ReviewFailed
from pilothouse.apiserver.authorization.interfaces import Decision
from pilothouse.apiserver.authorization.remote import Answer
from pilothouse.apiserver.authorization.rules import RuleReview
from pilothouse.apiserver.authorization.selectors import field_requirements, label_requirements

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authentication.webhook import Reviewer
    from pilothouse.apiserver.authorization.configuration import WebhookSettings
    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
    from pilothouse.apiserver.authorization.match_conditions import MatchConditions
    from pilothouse.apiserver.request.context import UserInfo

log = logging.getLogger(__name__)
_CACHE_SIZE = 8192
_LARGEST_CACHED = 10_000
"""Of what a client chooses: longer questions are not kept, so that it can't fill the cache."""


def review_spec(attributes: AuthorizationAttributes) -> Obj:
    """The question as authorization.k8s.io has it."""
    user = attributes.user
    spec: Obj = {}
    if not attributes.resource_request:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
    else:
        spec["resourceAttributes"] = _resource_attributes(attributes)
    if user.name:
        spec["user"] = user.name
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra}
    if user.uid:
        spec["uid"] = user.uid
    return spec


def _resource_attributes(attributes: AuthorizationAttributes) -> Obj:
    asked: Obj = {
        "namespace": attributes.namespace,
        "verb": attributes.verb,
        "group": attributes.group,
        "version": attributes.version,
        "resource": attributes.resource,
        "subresource": attributes.subresource,
        "name": attributes.name,
    }
    asked = {key: value for key, value in asked.items() if value}
    if requirements := field_requirements(attributes.field_selector):
        asked["fieldSelector"] = {"requirements": requirements}
    if requirements := label_requirements(attributes.label_selector):
        asked["labelSelector"] = {"requirements": requirements}
    return asked


class WebhookAuthorizer:
    """A ``remote.RemoteAuthorizer``."""

    def __init__(
        self,
        reviewer: Reviewer,
        settings: WebhookSettings,
        clock: Clock,
        conditions: MatchConditions | None = None,
    ) -> None:
        self._reviewer = reviewer
        self._settings = settings
        self._clock = clock
        self._conditions = conditions
        self._on_failure = Decision.DENY if settings.deny_on_failure else Decision.NO_OPINION
        self._cache: OrderedDict[str, tuple[float, Answer]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Answer]] = {}

    def known(self, attributes: AuthorizationAttributes) -> Answer | str:
        spec = review_spec(attributes)
        if self._conditions is not None:
            try:
                if not self._conditions.match(spec):
                    return Answer(Decision.NO_OPINION)
            except ValueError as error:
                return Answer(self._on_failure, "", str(error))
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS).decode()
        kept = self._cache.get(key)
        if kept is not None and kept[0] > self._clock.monotonic():
            return kept[1]
        return key

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        """Of what is known; used where nobody can wait."""
        answer = self.known(attributes)
        if isinstance(answer, str):
            return Decision.DENY, ""
        return answer.decision, answer.reason

    async def ask(self, attributes: AuthorizationAttributes, key: str) -> Answer:
        """Many requests with the same question wait for one answer."""
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(
                self._post(attributes, key), name="subject-access-review"
            )
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _post(self, attributes: AuthorizationAttributes, key: str) -> Answer:
        review = {
            "kind": "SubjectAccessReview",
            "apiVersion": f"authorization.k8s.io/{self._settings.version}",
            "metadata": {},
            "spec": _in_version(orjson.loads(key), self._settings.version),
            "status": {"allowed": False},
        }
        try:
            answer = await self._reviewer.post(review)
        except ReviewFailed as error:
            log.error("Failed to make webhook authorizer request: %s", error)
            return Answer(self._on_failure, "", str(error))
        status = answer.get("status") or {}
        allowed = bool(status.get("allowed"))
        verdict = _verdict(status, allowed)
        ttl = self._settings.authorized_ttl if allowed else self._settings.unauthorized_ttl
        if ttl > 0 and _size(attributes) < _LARGEST_CACHED:
            self._cache[key] = (self._clock.monotonic() + ttl, verdict)
            self._cache.move_to_end(key)
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return verdict

    async def close(self) -> None:
        await self._reviewer.close()

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        problem = "webhook authorizer does not support user rule resolution"
        return RuleReview([], [], True, problem)


def _in_version(spec: Obj, version: str) -> Obj:
    """v1beta1 says ``group`` where v1 says ``groups``."""
    if version == "v1beta1" and "groups" in spec:
        spec["group"] = spec.pop("groups")
    return spec


def _verdict(status: Obj, allowed: bool) -> Answer:
    denied, reason = bool(status.get("denied")), str(status.get("reason") or "")
    if denied and allowed:
        error = "webhook subject access review returned both allow and deny response"
        return Answer(Decision.DENY, reason, error)
    if denied:
        return Answer(Decision.DENY, reason)
    return Answer(Decision.ALLOW if allowed else Decision.NO_OPINION, reason)


def _size(attributes: AuthorizationAttributes) -> int:
    return sum(
        len(text)
        for text in (
            attributes.namespace,
            attributes.verb,
            attributes.group,
            attributes.version,
            attributes.resource,
            attributes.subresource,
            attributes.name,
            attributes.path,
            attributes.field_selector,
            attributes.label_selector,
        )
    )
