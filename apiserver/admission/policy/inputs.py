"""From a request that a policy matches to what the policy's expressions see."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pilothouse.apiserver.admission.policy.authorization import RequestAuthorizer
from pilothouse.apiserver.admission.policy.evaluation import Inputs
from pilothouse.apiserver.admission.policy.matching import Match, namespace_of
from pilothouse.apiserver.admission.policy.request import admission_request, namespace_object
from pilothouse.apiserver.authorization.remote import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.admission.policy.served import ServedView
    from pilothouse.apiserver.authorization.interfaces import Authorizer

T = TypeVar("T")


class RequestInputs:
    """Makes :class:`Inputs` for the policies that one request concerns; what they have in common
    is made once."""

    def __init__(
        self, attributes: Attributes, view: ServedView, authorizer: Authorizer | None
    ) -> None:
        self._attributes = attributes
        self._view = view
        self._asked = authorizer
        self._authorizer = RequestAuthorizer(authorizer, attributes.user)
        self._namespace: Obj | None = None
        self._namespace_known = False

    async def evaluate(self, function: Callable[[], T]) -> T:
        """``function()``, which runs expressions over our inputs. It is called again when what it
        asks the authorizer has to be fetched first."""

        def ask(view: Authorizer | None) -> T:
            self._authorizer.use(view)
            return function()

        return await resolve(self._asked, ask)

    async def namespace(self) -> Obj | None:
        """:raises StatusError: 404, the request's namespace does not exist."""
        if not self._namespace_known:
            found = await self._view.namespace_of(self._attributes)
            self._namespace, self._namespace_known = namespace_object(found), True
        return self._namespace

    async def make(self, match: Match, params: Obj | None) -> tuple[Inputs, Inputs]:
        """(for the policy, for its match conditions)."""
        attributes, view = self._attributes, self._view
        obj, old = attributes.obj, attributes.old_obj
        inputs = Inputs(
            object=None if obj is None else await view.convert(obj, match.kind),
            old_object=None if old is None else await view.convert(old, match.kind),
            request=admission_request(attributes, match),
            namespace=await self.namespace(),
            params=params,
            authorizer=self._authorizer,
            resource_check=self._resource_check(),
        )
        own = Match(attributes.resource, match.kind)
        request = inputs.request if own == match else admission_request(attributes, own)
        return inputs, inputs.for_conditions(request)

    def _resource_check(self) -> object:
        from pilothouse.cel.kubernetes import request_resource_check

        attributes = self._attributes
        return request_resource_check(
            self._authorizer,
            group=attributes.resource.group,
            resource=attributes.resource.resource,
            subresource=attributes.subresource,
            namespace=namespace_of(attributes),
            name=attributes.name,
        )
