"""Whom a client configuration names."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pilothouse.apiserver.webhook.client_config import ConfigError, ServiceReference, target_of


def test_urls() -> None:
    target = target_of({"url": "https://hooks.example.com/a/b"})
    assert (target.host, target.port, target.path) == ("hooks.example.com", 443, "/a/b")
    assert target.server_name == "hooks.example.com" and target.service is None
    assert target.url(10) == "https://hooks.example.com/a/b?timeout=10s"
    assert target_of({"url": "https://[::1]:8443"}).port == 8443
    assert target_of({"url": "https://[::1]:8443"}).url() == "https://[::1]:8443/"


def test_paths_are_cleaned_as_go_joins_them() -> None:
    for written, called in (("//a", "/a"), ("/a//b/", "/a/b"), ("/a/./b/../c", "/a/c"), ("/", "/")):
        assert target_of({"url": f"https://h:1{written}"}).path == called
        assert target_of({"service": {"name": "s", "path": written}}).path == called


def test_services() -> None:
    bundle = base64.b64encode(b"PEM\n").decode()
    service = {"name": "s", "namespace": "n"}
    target = target_of({"service": service, "caBundle": bundle})
    assert target.service == ServiceReference("n", "s", 443)
    assert target.server_name == "s.n.svc" and target.ca_bundle == b"PEM"
    assert target.url(5) == "https://s.n.svc:443/?timeout=5s"
    other = target_of({"service": {**service, "port": 9443, "path": "/x"}})
    assert other.url() == "https://s.n.svc:9443/x"


def test_a_bundle_of_white_space_is_none() -> None:
    blank = base64.b64encode(b" \n").decode()
    assert target_of({"url": "https://a", "caBundle": blank}).ca_bundle == b""


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "webhook configuration must have either service or URL"),
        ({"url": "https://a:port"}, "Unparsable URL"),
        ({"url": "https://a", "caBundle": "!"}, "illegal base64 data"),
    ],
)
def test_nobody(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        target_of(config)
