"""MutatingAdmissionWebhook: webhooks that change objects, one after the other.

What a webhook's patch makes of an object is taken in like a request body. When an object was
changed after a webhook with reinvocationPolicy IfNeeded had seen it, the chain runs once more.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.admission.plugin import MUTATING_WEBHOOKS, Plugin

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation
    from pilothouse.apiserver.admission.policy.matching import Match
    from pilothouse.apiserver.admission.webhook.caller import Caller, Versions
    from pilothouse.apiserver.admission.webhook.hooks import Hook
    from pilothouse.apiserver.admission.webhook.reinvoke import Reinvoke

_NAME = "MutatingAdmissionWebhook"
_SUFFIX = "mutation.webhook.admission.k8s.io/round_{}_index_{}"
_PATCH_KEY = "patch.webhook.admission.k8s.io/round_{}_index_{}"


class MutatingAdmissionWebhook(Plugin):
    _made: Caller | None = None

    @property
    def _caller(self) -> Caller:
        if self._made is None:
            from pilothouse.apiserver.admission.webhook.caller import Caller

            index = self.context.configuration[MUTATING_WEBHOOKS]
            self._made = Caller(self.context, index, "admit")
        return self._made

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        index = self.context.configuration.get(MUTATING_WEBHOOKS)
        if index is None or not index.in_namespace():
            return False
        return self._caller.concerns(operation, resource, subresource)

    async def admit(self, attributes: Attributes) -> None:
        from pilothouse.apiserver.admission.webhook.caller import Versions
        from pilothouse.apiserver.admission.webhook.reinvoke import Reinvoke

        caller = self._caller
        shared = attributes.reinvocable()
        state = shared.values.get(_NAME)
        if state is None:
            state = shared.values[_NAME] = Reinvoke()
        if shared.running and state.changed_since(attributes.obj):
            state.require()
        versions = Versions(caller.view, attributes)
        question = await caller.view.question(attributes)
        try:
            for position, hook in enumerate(caller.hooks.ordered()):
                match = await caller.match(hook, attributes, question, versions)
                if match is None or (shared.running and not state.wanted(hook.uid)):
                    continue
                if await self._call(hook, position, attributes, match, versions, state):
                    question = await caller.view.question(attributes)
        finally:
            state.remember(attributes.obj)

    async def _call(
        self,
        hook: Hook,
        position: int,
        attributes: Attributes,
        match: Match,
        versions: Versions,
        state: Reinvoke,
    ) -> bool:
        """Whether the object has changed. :raises StatusError: refused."""
        from pilothouse.apimachinery.errors import StatusError
        from pilothouse.apiserver.admission.webhook.caller import CallFailed
        from pilothouse.apiserver.admission.webhook.review import mutation_annotation

        caller, shared = self._caller, attributes.reinvocable()
        round_ = int(shared.running)
        failure: CallFailed | StatusError | None = None
        started, changed, patch = perf_counter(), False, None
        try:
            verdict = await caller.ask(hook, attributes, match, versions)
            from pilothouse.apiserver.admission.webhook.patching import apply_verdict

            patch, changed = await apply_verdict(hook, verdict, attributes, match, versions)
        except (CallFailed, StatusError) as error:
            failure = error
        annotations: dict[str, Any] = attributes.audit_annotations
        key = _SUFFIX.format(round_, position)
        value = mutation_annotation(hook.configuration, hook.name, mutated=changed)
        annotations.setdefault(key, value)
        if patch is not None:
            annotations.setdefault(_PATCH_KEY.format(round_, position), patch)
        caller.record(hook, attributes, perf_counter() - started, failure)
        if changed:
            state.require()
            shared.again = True
        if hook.reinvocable:
            state.invoked(hook.uid)
        if isinstance(failure, CallFailed):
            caller.failed(hook, attributes, failure, f"failed-open.{key}")
        elif failure is not None:
            raise failure
        return changed


PLUGINS = {_NAME: MutatingAdmissionWebhook}
