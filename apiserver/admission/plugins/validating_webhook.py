"""ValidatingAdmissionWebhook: webhooks that judge objects, all at the same time."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import VALIDATING_WEBHOOKS, Plugin

if TYPE_CHECKING:
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation
    from pilothouse.apiserver.admission.policy.matching import Match
    from pilothouse.apiserver.admission.webhook.caller import Caller, Versions
    from pilothouse.apiserver.admission.webhook.hooks import Hook

_FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io/round_0_index_{}"


class ValidatingAdmissionWebhook(Plugin):
    _made: Caller | None = None

    @property
    def _caller(self) -> Caller:
        if self._made is None:
            from pilothouse.apiserver.admission.webhook.caller import Caller

            index = self.context.configuration[VALIDATING_WEBHOOKS]
            self._made = Caller(self.context, index, "validating")
        return self._made

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        index = self.context.configuration.get(VALIDATING_WEBHOOKS)
        if index is None or not index.in_namespace():
            return False
        return self._caller.concerns(operation, resource, subresource)

    async def validate(self, attributes: Attributes) -> None:
        from pilothouse.apiserver.admission.webhook.caller import Versions

        caller = self._caller
        versions = Versions(caller.view, attributes)
        question = await caller.view.question(attributes)
        relevant: list[tuple[Hook, Match]] = []
        for hook in caller.hooks.ordered():
            match = await caller.match(hook, attributes, question, versions)
            if match is not None:
                await versions.of(match.kind)
                relevant.append((hook, match))
        if len(relevant) == 1:
            errors = [await self._call(*relevant[0], 0, attributes, versions)]
        else:
            errors = await self._all(relevant, attributes, versions)
        for error in errors:
            if error is not None:
                raise error

    async def _all(
        self, relevant: list[tuple[Hook, Match]], attributes: Attributes, versions: Versions
    ) -> list[StatusError | None]:
        import asyncio

        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(self._call(hook, match, position, attributes, versions))
                for position, (hook, match) in enumerate(relevant)
            ]
        return [call.result() for call in calls]

    async def _call(
        self, hook: Hook, match: Match, position: int, attributes: Attributes, versions: Versions
    ) -> StatusError | None:
        """Why the request is refused; None: not by this webhook."""
        from pilothouse.apimachinery.errors import StatusError
        from pilothouse.apiserver.admission.webhook.caller import CallFailed

        caller = self._caller
        failure: CallFailed | StatusError | None = None
        started = perf_counter()
        try:
            await caller.ask(hook, attributes, match, versions)
        except (CallFailed, StatusError) as error:
            failure = error
        caller.record(hook, attributes, perf_counter() - started, failure)
        if isinstance(failure, CallFailed):
            try:
                caller.failed(hook, attributes, failure, _FAILED_OPEN.format(position))
            except StatusError as error:
                return error
            return None
        return failure


PLUGINS = {"ValidatingAdmissionWebhook": ValidatingAdmissionWebhook}
