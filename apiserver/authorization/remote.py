"""Authorizers that are asked over the network, behind the synchronous interface.

Everything in this server that authorizes is synchronous code over caches. With a webhook among
the authorizers an answer may have to be fetched first. ``resolve(authorizer, function)`` calls
``function`` with a view of the authorizer; when that needs an answer that is not there, the
function is left by :class:`Undecided`, the answer is fetched, and the function is called anew.
So functions that ask must not change anything before they have asked all.

Without a webhook ``resolve`` calls the function once, and filters do not even come here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pilothouse.apiserver.authorization.build import ClusterAuthorizer
from pilothouse.apiserver.authorization.escalation import Escalation
from pilothouse.apiserver.authorization.interfaces import Decision
from pilothouse.apiserver.authorization.union import PRIVILEGED_GROUP

if TYPE_CHECKING:
    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
    from pilothouse.apiserver.authorization.rbac import RBACIndex
    from pilothouse.apiserver.authorization.rules import RuleReview
    from pilothouse.apiserver.request.context import UserInfo

T = TypeVar("T")
_MOST_QUESTIONS = 1000
_UNKNOWN = "an authorization webhook would have to be asked"


class Answer(NamedTuple):
    """What a remote authorizer said; ``error``: why it said nothing of its own."""

    decision: Decision
    reason: str = ""
    error: str = ""


class RemoteAuthorizer(Protocol):
    """One that may have to be asked over the network."""

    def known(self, attributes: AuthorizationAttributes) -> Answer | str:
        """The answer as far as it is known, else the key of the question."""
        ...

    async def ask(self, attributes: AuthorizationAttributes, key: str) -> Answer:
        """Asks. Never raises: failures are decided by the authorizer's own policy."""
        ...


class Undecided(Exception):
    """An answer has to be fetched."""

    def __init__(
        self, authorizer: RemoteAuthorizer, attributes: AuthorizationAttributes, key: str
    ) -> None:
        super().__init__(_UNKNOWN)
        self.authorizer, self.attributes, self.key = authorizer, attributes, key


class RemoteUnion(ClusterAuthorizer):
    """A union some of whose authorizers are remote."""

    remote = True

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        """For callers that can't wait: what is not known is not allowed."""
        try:
            answer = self.decide(attributes, {})
        except Undecided:
            return Decision.NO_OPINION, _UNKNOWN
        return answer.decision, answer.reason

    def decide(
        self, attributes: AuthorizationAttributes, answers: dict[tuple[int, str], Answer]
    ) -> Answer:
        """The union's answer, given what was fetched so far. :raises Undecided."""
        if PRIVILEGED_GROUP in attributes.user.groups:
            return Answer(Decision.ALLOW)
        reasons: list[str] = []
        errors: list[str] = []
        for authorizer in self.authorizers:
            answer = _ask_one(authorizer, attributes, answers)
            if answer.error:
                errors.append(answer.error)
            if answer.reason:
                reasons.append(answer.reason)
            if answer.decision is not Decision.NO_OPINION:
                self.count(authorizer, answer.decision)
                return Answer(answer.decision, answer.reason, answer.error)
        error = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]" if errors else ""
        return Answer(Decision.NO_OPINION, "\n".join(reasons), error)


def _ask_one(
    authorizer: Any,
    attributes: AuthorizationAttributes,
    answers: dict[tuple[int, str], Answer],
) -> Answer:
    if not hasattr(authorizer, "ask"):
        return Answer(*authorizer.authorize(attributes))
    known: Answer | str = authorizer.known(attributes)
    if isinstance(known, str):
        fetched = answers.get((id(authorizer), known))
        if fetched is None:
            raise Undecided(authorizer, attributes, known)
        return fetched
    return known


class View:
    """The authorizer as one call of ``resolve`` sees it."""

    remote = False

    def __init__(self, union: RemoteUnion) -> None:
        self._union = union
        self.answers: dict[tuple[int, str], Answer] = {}
        self.error = ""
        """Of the last question: why it was not decided."""
        self.rbac_index: RBACIndex | None = union.rbac_index

    @property
    def escalation(self) -> Escalation | None:
        return None if self.rbac_index is None else Escalation(self, self.rbac_index)

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        """:raises Undecided: for ``resolve``."""
        answer = self._union.decide(attributes, self.answers)
        self.error = answer.error
        return answer.decision, answer.reason

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        return self._union.rules_for(user, namespace)


async def resolve(authorizer: Any, function: Callable[[Any], T]) -> T:
    """``function(authorizer)``, with whatever must be fetched for it.

    :raises Exception: what the function raises.
    """
    if not getattr(authorizer, "remote", False):
        return function(authorizer)
    view = View(authorizer)
    for _ in range(_MOST_QUESTIONS):
        try:
            return function(view)
        except Undecided as question:
            key = (id(question.authorizer), question.key)
            view.answers[key] = await question.authorizer.ask(question.attributes, question.key)
    raise AssertionError("a function asks the authorizer without end")
