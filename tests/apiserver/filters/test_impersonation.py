"""Who may act as whom: the constrained modes and the old one."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.filters.impersonation import Impersonation, wanted_user
from pilothouse.apiserver.request.context import UserInfo

NODE_EXTRA = (("authentication.kubernetes.io/node-name", ("n1",)),)
AGENT = UserInfo("system:serviceaccount:kube-system:agent", extra=NODE_EXTRA)


class Rights:
    """Allows what is listed: verb, resource, name (with sub-resource)."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[str] = []

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        resource = f"{attributes.resource}/{attributes.subresource}".rstrip("/")
        group = f"{attributes.group}/" if attributes.group else ""
        text = f"{attributes.verb} {group}{resource} {attributes.name}".strip()
        self.asked.append(text)
        return (Decision.ALLOW if text in self.allowed else Decision.NO_OPINION), ""


def act(rights: Rights, wanted: UserInfo, who: UserInfo = AGENT) -> UserInfo:
    attributes = AuthorizationAttributes(who, "list", resource="pods")
    return Impersonation().allowed_user(rights, wanted, attributes)[0]


A = "authentication.k8s.io"


@pytest.mark.parametrize(
    ("rights", "wanted", "groups"),
    [
        (
            [
                "impersonate-on:associated-node:list pods",
                f"impersonate:associated-node {A}/nodes *",
            ],
            "system:node:n1",
            ("system:nodes", "system:authenticated"),
        ),
        (
            [
                "impersonate-on:arbitrary-node:list pods",
                f"impersonate:arbitrary-node {A}/nodes n2",
            ],
            "system:node:n2",
            ("system:nodes", "system:authenticated"),
        ),
        (
            [
                "impersonate-on:serviceaccount:list pods",
                f"impersonate:serviceaccount {A}/serviceaccounts b",
            ],
            "system:serviceaccount:a:b",
            ("system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"),
        ),
        (
            ["impersonate-on:user-info:list pods", f"impersonate:user-info {A}/users ann"],
            "ann",
            ("system:authenticated",),
        ),
        (["impersonate users ann"], "ann", ("system:authenticated",)),
        (["impersonate users system:anonymous"], "system:anonymous", ("system:unauthenticated",)),
        (["impersonate users system:node:n2"], "system:node:n2", ("system:authenticated",)),
    ],
)
def test_modes(rights: list[str], wanted: str, groups: tuple[str, ...]) -> None:
    user = act(Rights(*rights), UserInfo(wanted))
    assert (user.name, user.groups) == (wanted, groups)
    for missing in rights:
        with pytest.raises(StatusError) as caught:
            act(Rights(*(right for right in rights if right != missing)), UserInfo(wanted))
        assert caught.value.code == 403


def test_another_node_is_not_the_own() -> None:
    rights = Rights(
        "impersonate-on:associated-node:list pods", f"impersonate:associated-node {A}/nodes *"
    )
    with pytest.raises(StatusError):
        act(rights, UserInfo("system:node:n2"))
    assert not any("associated" in question for question in rights.asked)


def test_everything_of_a_user() -> None:
    wanted = UserInfo("ann", ("g1", "g2"), "7", (("acme.com/team", ("a", "b")),))
    rights = Rights(
        "impersonate-on:user-info:list pods",
        f"impersonate:user-info {A}/users ann",
        f"impersonate:user-info {A}/uids 7",
        f"impersonate:user-info {A}/groups g1",
        f"impersonate:user-info {A}/groups g2",
        f"impersonate:user-info {A}/userextras/acme.com/team a",
        f"impersonate:user-info {A}/userextras/acme.com/team b",
    )
    user = act(rights, wanted)
    assert user == UserInfo(
        "ann", ("g1", "g2", "system:authenticated"), "7", (("acme.com/team", ("a", "b")),)
    )


def test_masters_only_the_old_way() -> None:
    wanted = UserInfo("ann", ("system:masters",))
    constrained = Rights(
        "impersonate-on:user-info:list pods",
        f"impersonate:user-info {A}/users ann",
        f"impersonate:user-info {A}/groups system:masters",
    )
    with pytest.raises(StatusError) as caught:
        act(constrained, wanted)
    assert "impersonating the system:masters group is not allowed" in caught.value.message
    assert act(Rights("impersonate users ann", "impersonate groups system:masters"), wanted)


def test_message_is_of_the_first_mode() -> None:
    with pytest.raises(StatusError) as caught:
        act(Rights(), UserInfo("ann"))
    assert caught.value.message == (
        'pods is forbidden: User "system:serviceaccount:kube-system:agent" cannot '
        'impersonate-on:user-info:list resource "pods" in API group "" at the cluster scope'
    )


def test_the_last_mode_is_tried_first() -> None:
    impersonation = Impersonation()
    impersonation._last[AGENT.name] = 4
    rights = Rights("impersonate users ann")
    attributes = AuthorizationAttributes(AGENT, "list", resource="pods")
    impersonation.allowed_user(rights, UserInfo("ann"), attributes)
    assert rights.asked == ["impersonate users ann"]


def test_headers() -> None:
    headers = {
        "impersonate-user": "ann",
        "impersonate-group": "a\nb",
        "impersonate-uid": "7",
        "impersonate-extra-acme.com%2fteam": "x\ny",
        "accept": "*/*",
    }
    assert wanted_user(headers) == UserInfo(
        "ann", ("a", "b"), "7", (("acme.com/team", ("x", "y")),)
    )
    assert wanted_user({"accept": "*/*"}) is None
    with pytest.raises(StatusError) as caught:
        wanted_user({"impersonate-group": "a"})
    assert caught.value.message == (
        'requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"a"}, '
        "Extra:map[string][]string(nil)} without impersonating a user name"
    )
