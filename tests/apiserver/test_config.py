"""Flags ↔ ServerConfig."""

from __future__ import annotations

import argparse

import pytest

from pilothouse.apiserver.config import ServerConfig, add_flags, from_args, parse_duration


def parse(*arguments: str) -> ServerConfig:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return from_args(parser.parse_args(arguments))


def test_upstream_flags() -> None:
    config = parse(
        "--etcd-servers=http://a:2379,http://b:2379",
        "--secure-port=1234",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://one",
        "--service-account-issuer=https://two",
        "--service-account-key-file=a.pub",
        "--enable-admission-plugins=NodeRestriction,AlwaysPullImages",
        "--anonymous-auth=false",
        "--allow-privileged",
        "--event-ttl=1h30m",
        "--request-timeout=90s",
        "-v",
        "2",
    )
    assert config.storage == "etcd"
    assert config.etcd_servers == ("http://a:2379", "http://b:2379")
    assert config.secure_port == 1234
    assert config.authorization_mode == ("Node", "RBAC")
    assert config.service_account_issuer == ("https://one", "https://two")
    assert config.enable_admission_plugins == ("NodeRestriction", "AlwaysPullImages")
    assert (config.anonymous_auth, config.allow_privileged) == (False, True)
    assert (config.event_ttl, config.request_timeout, config.v) == (5400, 90, 2)


def test_the_embedded_store_is_the_default() -> None:
    config = parse("--data-dir=/tmp/x", "--durability=full")
    assert (config.storage, config.durability) == ("sqlite", "full")
    assert config.max_requests_inflight == 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--storage=etcd"], "--etcd-servers must be specified"),
        ([], "--storage=sqlite needs --data-dir"),
        (["--storage=memory", "--tls-cert-file=x"], "must be specified together"),
        (["--storage=memory", "--secure-port=99999"], "between 0 and 65535"),
    ],
)
def test_what_does_not_fit_together(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(*arguments)


def test_every_field_has_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    known = {action.dest for action in parser._actions}
    assert set(ServerConfig.__dataclass_fields__) <= known


@pytest.mark.parametrize(("text", "seconds"), [("5", 5), ("1h2m3s", 3723), ("250ms", 0.25)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1d", "1h x"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_duration(text)


def test_who_may_do_everything_is_never_a_stranger() -> None:
    stored = ("--storage=memory",)
    assert parse(*stored, "--authorization-mode=RBAC").anonymous_auth
    assert not parse(*stored, "--authorization-mode=RBAC,AlwaysAllow").anonymous_auth
