from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.kubelet.images.reference import InvalidReference, is_image_id, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/x", "docker.io/library/x:latest"),
        ("registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10.2"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}"),
        ("a--b__c.d/e", "docker.io/a--b__c.d/e:latest"),
    ],
)
def test_names_are_completed(text: str, full: str) -> None:
    # a dot in the first part makes it a registry
    if text == "a--b__c.d/e":
        with pytest.raises(InvalidReference):
            parse(text)
        return
    assert str(parse(text)) == full
    assert str(parse(full)) == full


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a:", "a@", "UPPER", "a b", "a//b", "/a", "a/", "-a", "a:b:c", "a@sha256:12",
     f"a@{DIGEST[:-1]}g", "http://x/y", "a.b:99x/c", "../etc", "a\n"],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match="couldn't parse image name"):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_and_the_full_form_is_stable(text: str) -> None:
    try:
        ref = parse(text)
    except InvalidReference:
        return
    assert parse(str(ref)) == ref


def test_image_ids() -> None:
    assert is_image_id(DIGEST)
    assert is_image_id("a" * 64)
    assert not is_image_id("busybox")
