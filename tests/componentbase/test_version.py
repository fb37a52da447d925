"""What a process says that it is."""

from __future__ import annotations

import pytest

from pilothouse.componentbase.version import GIT_VERSION, report_version, version_info


@pytest.fixture(autouse=True)
def unchanged():
    yield
    report_version(GIT_VERSION)


def test_a_suffix_may_be_added():
    report_version(f"{GIT_VERSION}-custom.1+build")
    assert version_info()["gitVersion"] == f"{GIT_VERSION}-custom.1+build"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v1.36.0-custom", "must match major/minor/patch of default version"),
        ("v1.37", 'could not parse "v1.37" as version'),
        ("v1.37.2-", "could not parse"),
    ],
)
def test_other_releases_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        report_version(text)
    assert version_info()["gitVersion"] == GIT_VERSION
