"""Flags of ``pilothouse dns``."""

from __future__ import annotations

import argparse

import pytest

from pilothouse.clusterdns.config import DNSConfig, add_flags, from_args


def parsed(*arguments: str) -> DNSConfig:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return from_args(parser.parse_args(arguments))


def test_flags() -> None:
    assert parsed() == DNSConfig()
    found = parsed("--listen", "[::1]:0", "--cluster-domain", "example.org.")
    assert (found.address, found.port, found.cluster_domain) == ("::1", 0, "example.org")
    assert parsed("--listen", "10.0.0.1:53", "--service-ip", "10.96.0.10").service_ip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "bogus"),
        ("--listen", "10.0.0.1:65536"),
        ("--listen", "10.0.0.1:x"),
        ("--service-ip", "10.96.0.10"),
        ("--service-ip", "10.96.0.10", "--listen", "0.0.0.0:53"),
    ],
)
def test_what_cannot_work(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=arguments[0]):
        parsed(*arguments)
